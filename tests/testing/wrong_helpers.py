"""Helpers that make bodies do something else the next time, in a module of their own."""

# ruff: noqa: DTZ011, ICN001 - they are wrong
from __future__ import annotations

import datetime
from datetime import date

__all__ = ["Calendar", "is_weekend", "season"]


def is_weekend() -> bool:
    return date.today().weekday() > 4  # here: is_weekend


def season() -> str:
    return "summer" if 3 < datetime.date.today().month < 10 else "winter"  # here: season


class Calendar:
    @property
    def is_odd(self) -> bool:
        return datetime.datetime.now(datetime.UTC).day % 2 == 1  # here: calendar
