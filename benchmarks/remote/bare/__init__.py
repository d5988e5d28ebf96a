"""Request and reply over each client library, as one would write them without this library."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from benchmarks.remote.bare.port import Bare

__all__ = ["bare"]


def bare(way: str) -> Bare:
    """Gives what asks and answers over ``http``, ``sql``, ``nats``, ….

    Raises:
        ImportError: Its client library is not installed.
    """
    return cast("Bare", import_module(f"benchmarks.remote.bare.{way}_echo"))
