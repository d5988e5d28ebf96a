"""Keeps the event loop out of a saga body's reach while it runs.

A body is driven by hand, inside whatever task takes the event. Were it to find that task, a cancel scope or a
timeout that it opens (``anyio.fail_after``, ``asyncio.timeout``) would be left open there when the body waits, and
cancel work that is not its own. So for these moments there is no loop and no task to find, and whoever looks for
one is told what to use instead.
"""

from __future__ import annotations

import sys
from asyncio import events
from typing import TYPE_CHECKING, Any, NoReturn, cast

from sagas.errors import DeterminismError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Secluded"]


class _Nothing:
    """Stands where an event loop or its current task would be."""

    def __getattr__(self, name: str) -> NoReturn:
        raise DeterminismError(
            "the saga body used the event loop (a sleep, a timeout, a lock, I/O). A body is replayed after a crash, so "
            "it can only await steps, sagas and the operations of this library: pause with sagas.sleep, limit a step "
            "with @step(timeout=…), race it against sagas.sleep, and do I/O in a step"
        )


_NOTHING = cast("Any", _Nothing())
_MISSING = object()
_get_loop = events._get_running_loop  # noqa: SLF001 - documented for exactly this use
_set_loop = events._set_running_loop  # noqa: SLF001 - documented for exactly this use


class Secluded:
    """``with Secluded(): …``: no asyncio loop and no trio task can be found in this thread."""

    __slots__ = ("_loop", "_task", "_trio")

    def __enter__(self) -> None:
        self._loop = _get_loop()
        if self._loop is not None:
            _set_loop(_NOTHING)
            return
        trio = sys.modules.get("trio._core._run")
        self._trio = None if trio is None else trio.GLOBAL_RUN_CONTEXT
        if self._trio is not None:
            self._task = getattr(self._trio, "task", _MISSING)
            if self._task is not _MISSING:
                self._trio.task = _NOTHING

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            _set_loop(self._loop)
        elif self._trio is not None and self._task is not _MISSING:
            self._trio.task = self._task
