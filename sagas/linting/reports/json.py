"""Findings for scripts. What is in it stays in it: fields may be added, none is renamed or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.linting.rules import Severity

if TYPE_CHECKING:
    from sagas.linting.checking import Checked

__all__ = ["as_json"]


def as_json(checked: Checked) -> dict[str, object]:
    """Gives everything, by name."""
    return {
        "files": checked.files,
        "errors": checked.count(Severity.ERROR),
        "warnings": checked.count(Severity.WARNING),
        "findings": [
            {**finding._asdict(), "severity": finding.severity.value} for finding in checked.findings
        ],
    }  # fmt: skip
