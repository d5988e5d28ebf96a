"""Tells anyio which event loop it is on, where it would ask sniffio each time."""

from __future__ import annotations

import importlib
import threading
from typing import Any

__all__ = ["library_hint"]


def _find() -> Any:
    """Gives what sniffio looks at first; something that nobody looks at, where it is not installed."""
    try:
        return importlib.import_module("sniffio").thread_local
    except ModuleNotFoundError:
        hint = threading.local()
        hint.name = None
        return hint


library_hint: Any = _find()
