"""Which lines of a saga body have run."""

from __future__ import annotations

import linecache
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

__all__ = ["Lines"]


class Lines:
    """Notes the lines of a function that run: ``with lines: …``, as often as wanted.

    Args:
        function: The function.

    Attributes:
        seen: Numbers of the lines that ran.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._codes = set(_codes(function.__code__))
        self._file = function.__code__.co_filename
        self._outer: Any = None
        self.seen: set[int] = set()

    @property
    def missed(self) -> list[str]:
        """Lists the lines that never ran, as ``FILE:LINE: text``."""
        lines = {line for code in self._codes for _, _, line in code.co_lines() if line is not None}
        lines -= {code.co_firstlineno for code in self._codes} | self.seen
        texts = {line: linecache.getline(self._file, line).strip() for line in sorted(lines)}
        return [f"{self._file}:{line}: {text}" for line, text in texts.items() if not _is_header(text)]

    def __enter__(self) -> None:
        self._outer = sys.gettrace()
        sys.settrace(self._trace)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.settrace(self._outer)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        """See ``sys.settrace``."""
        if frame.f_code not in self._codes:
            return None
        if event == "line":
            self.seen.add(frame.f_lineno)
        return self._trace


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Walks a function's code, and that of what is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_header(text: str) -> bool:
    """Says whether a line runs with the one before it, or says nothing."""
    return not text or text.startswith(("@", ")", "]", "}"))
