"""Findings for people: lines of parts, each with the style in which a terminal shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from sagas.linting.rules import RULES, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.checking import Checked

__all__ = ["Parts", "as_lines", "rule_lines"]

Parts: TypeAlias = tuple[tuple[str, str], ...]
_STYLE = {Severity.ERROR: "bold red", Severity.WARNING: "yellow"}


def as_lines(checked: Checked) -> Iterator[Parts]:
    """Tells each finding, and how many there are."""
    for finding in checked.findings:
        place = f"{finding.path}:{finding.line}:{finding.column}"
        yield (
            (place, "bold"),
            ("  ", ""),
            (finding.severity.value, _STYLE[finding.severity]),
            ("  ", ""),
            (finding.rule, "cyan"),
        )
        yield ((f"  {finding.reason}.", ""),)
        yield ((f"  {finding.remedy}", "dim"),)
        yield ()
    yield _sum(checked)


def _sum(checked: Checked) -> Parts:
    """Counts what was found."""
    files = _many(checked.files, "file")
    if not checked.findings:
        return ((f"✓ {files}: nothing found", "green"),)
    errors, warnings = checked.count(Severity.ERROR), checked.count(Severity.WARNING)
    found = " and ".join(_many(count, what) for count, what in ((errors, "error"), (warnings, "warning")) if count)
    return ((f"{'✗' if errors else '!'} {files}: {found}", "bold red" if errors else "yellow"),)


def _many(count: int, what: str) -> str:
    """Writes a number of things."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def rule_lines() -> Iterator[Parts]:
    """Lists all rules."""
    for rule in RULES.values():
        yield (rule.id, "bold cyan"), ("  ", ""), (rule.severity.value, _STYLE[rule.severity])
        yield ((f"  {rule.reason}", ""),)
        yield ((f"  {rule.remedy}", "dim"),)
