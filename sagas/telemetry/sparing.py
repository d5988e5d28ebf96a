"""Keeps sagas from what goes wrong in whatever is set up to see them."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["spared", "tell_once"]

logger = logging.getLogger("sagas.telemetry")

_told: set[str] = set()


def tell_once(what: str) -> None:
    """Logs the exception at hand, if it is the first about this."""
    if what not in _told:
        _told.add(what)
        logger.error("%s; nothing more is said of this, and sagas go on", what, exc_info=True)  # noqa: LOG014 - it is called in one


@contextmanager
def spared(what: str) -> Generator[None]:
    """Goes on behind the block if it raises.

    Samplers, span processors and exporters are other people's code, and a trace is worth less than a saga.
    """
    try:
        yield
    except Exception:  # noqa: BLE001 - whatever it is
        tell_once(what)
