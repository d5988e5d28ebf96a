"""Keeps the garbage collector to what runs leave behind."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["set_aside"]


@contextmanager
def set_aside() -> Generator[None]:
    """Has the garbage collector leave alone, for a while, what is there already.

    Runs leave much behind, and so it looks through everything again and again: the user's modules, hypothesis, the
    library itself. Where somebody has frozen objects already, as servers do before they fork, nothing is changed.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
