"""How findings are written: for people, for scripts, and for code hosts."""

from __future__ import annotations

from sagas.linting.reports.json import as_json
from sagas.linting.reports.sarif import as_sarif
from sagas.linting.reports.text import as_lines, rule_lines

__all__ = ["as_json", "as_lines", "as_sarif", "rule_lines"]
