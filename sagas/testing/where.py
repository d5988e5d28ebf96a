"""Names the line at which a saga body is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import sagas
from sagas.core.fibers import Group
from sagas.core.paths import is_within

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    from sagas.core.execution import Execution
    from sagas.core.fibers import Fiber

__all__ = ["LastLine", "where"]

_HOME = f"{Path(sagas.__file__).parent}{os.sep}"


def where(execution: Execution, path: str = "") -> str:
    """Names the line at which a body waits.

    Args:
        execution: Whose body.
        path: Of an operation: then it is the line of the branch, the child saga or the helper that asked for it.

    Returns:
        Such as ``, at shop.py:12 in place_order``; ``""`` if it does not wait.
    """
    found = ""
    for fiber in _fibers(execution.body, path):
        found = _line(fiber.routine) or found
    return found


def _fibers(fiber: Fiber | None, path: str) -> Iterator[Fiber]:
    """Walks the strands of a body, from the body itself to the one in which an operation is."""
    while fiber is not None:
        yield fiber
        group = fiber.waits_for
        below = list(group.fibers.values()) if isinstance(group, Group) else []
        fiber = next((x for x in below if path and is_within(path, x.place)), None)


def _line(routine: Any) -> str:
    """Names the line of its author's at which a coroutine waits."""
    found = ""
    while routine is not None:
        frame = getattr(routine, "cr_frame", None)
        if frame is None:
            break
        code = frame.f_code
        if not code.co_filename.startswith(_HOME):
            found = f", at {code.co_filename}:{frame.f_lineno} in {code.co_name}"
        routine = getattr(routine, "cr_await", None)
    return found


class LastLine:
    """Notes which line of some files ran last: ``with LastLine(files) as last: …; print(last)``.

    For a body that ends where it should not, and so waits at no line.

    Args:
        files: Their names.
    """

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self._outer: Any = None
        self._place = ""

    def __str__(self) -> str:
        return self._place

    def __enter__(self) -> Self:
        self._outer = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._outer)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        """See ``sys.settrace``."""
        code = frame.f_code
        if code.co_filename not in self._files:
            return None
        if event == "line":
            self._place = f", at {code.co_filename}:{frame.f_lineno} in {code.co_name}"
        return self._trace
