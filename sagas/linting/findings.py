"""What is found: where, by which rule, why it is wrong and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from sagas.linting.rules import RULES, Severity

if TYPE_CHECKING:
    import ast

    from sagas.linting.source import Source

__all__ = ["Finding", "Findings", "Kind"]


class Kind(Enum):
    """How a call is meant, for the texts of findings."""

    STEP = "step"
    SAGA = "saga"
    COMPENSATOR = "compensator"
    PROBE = "probe"


class Finding(NamedTuple):
    """One thing that is wrong. Lines and columns count from 1, columns in characters; the end is exclusive."""

    path: str
    line: int
    column: int
    end_line: int
    end_column: int
    rule: str
    severity: Severity
    reason: str
    remedy: str


@dataclass(slots=True)
class Findings:
    """Collects findings: one for each rule and place, however many ways lead there."""

    _found: dict[tuple[str, str, int, int], Finding] = field(default_factory=dict[tuple[str, str, int, int], Finding])

    def add(
        self,
        rule: str,
        source: Source,
        node: ast.AST,
        reason: str,
        *,
        remedy: str | None = None,
        severity: Severity | None = None,
    ) -> None:
        """Notes that something is wrong.

        Args:
            rule: Its id.
            source: The file.
            node: What is wrong there.
            reason: Why, of this very place.
            remedy: What to do, where the rule's own advice does not fit.
            severity: Where it is not the rule's own.
        """
        line, column, end_line, end_column = source.span(node)
        law = RULES[rule]
        self._found.setdefault(
            (rule, source.shown, line, column),
            Finding(
                source.shown, line, column, end_line, end_column, rule, severity or law.severity, reason,
                remedy or law.remedy,
            ),
        )  # fmt: skip

    def all(self) -> list[Finding]:
        """Gives all findings by file, line and column."""
        return sorted(self._found.values())
