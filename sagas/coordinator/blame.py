"""Which step a saga's row blames, and for what: one line that people read, and that lists are filtered by."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sagas.core.failures import one_line

if TYPE_CHECKING:
    from sagas.core.events import ErrorInfo

__all__ = ["Blame", "blame", "blamed", "pattern_of"]

# No exception's text is taken for a step: that has its type, a colon and a space before it.
_HALTS = re.compile(r"(?P<step>(?:(?!: ).)+?) \((?P<path>\d[\d.:]*)\): (?P<text>.*)", re.DOTALL)
# As the release before wrote it.
_HALTS_UNNAMED = re.compile(r"(?P<path>\d[\d.:]*): (?P<text>.*)", re.DOTALL)
_FAILED = re.compile(
    r"(?:StepFailed|StepInDoubt): step (?P<step>.+?) \((?P<path>\d[\d.:]*)\) (?:failed|is in doubt): (?P<text>.*)",
    re.DOTALL,
)
# What differs between sagas that have the same trouble: ids, numbers, and what is quoted.
_PARTICULAR = re.compile(
    r"""
    [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12} | 0x[0-9a-f]+ |
    '[^']{0,200}' | "[^"]{0,200}" | \b(?=[0-9a-z_-]*\d)[0-9a-z_-]+\b
    """,
    re.VERBOSE | re.IGNORECASE,
)


class Blame(NamedTuple):
    """See the module.

    Attributes:
        step: Name of the step; ``None`` if it is none, or the row does not tell.
        path: Its place, or ``""``.
        text: What was raised there, on one line.
    """

    step: str | None
    path: str
    text: str

    @property
    def pattern(self) -> str:
        """Leaves out of the text what differs between sagas that have the same trouble."""
        return pattern_of(self.text)


def blame(step: str, path: str, error: ErrorInfo) -> str:
    """Writes that a step halts a saga."""
    return f"{step} ({path}): {one_line(error)}"


def blamed(error: str | None) -> Blame:
    """Reads which step a row blames."""
    text = error or ""
    for pattern in (_FAILED, _HALTS, _HALTS_UNNAMED):
        found = pattern.fullmatch(text)
        if found is not None:
            return Blame(found.groupdict().get("step"), found["path"], found["text"])
    return Blame(None, "", text)


def pattern_of(text: str) -> str:
    """Puts an ellipsis for each id, number and quotation."""
    return _PARTICULAR.sub("…", text)
