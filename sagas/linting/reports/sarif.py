"""Findings for code hosts, as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format")."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING
from urllib.parse import quote

from sagas.linting.rules import RULES

if TYPE_CHECKING:
    from sagas.linting.checking import Checked
    from sagas.linting.findings import Finding
    from sagas.linting.rules import Rule

__all__ = ["as_sarif"]

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_INDEX = {name: number for number, name in enumerate(RULES)}


def as_sarif(checked: Checked) -> dict[str, object]:
    """Gives a log with one run."""
    driver = {"name": "sagas check", "version": _version(), "rules": [_rule(rule) for rule in RULES.values()]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding) for finding in checked.findings],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _version() -> str:
    """Gives the version of this library."""
    try:
        return version("sagakit")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0"


def _rule(rule: Rule) -> dict[str, object]:
    """Describes a rule."""
    return {
        "id": rule.id,
        "name": "".join(word.capitalize() for word in rule.id.split("-")),
        "shortDescription": {"text": rule.reason},
        "fullDescription": {"text": f"{rule.reason} {rule.remedy}"},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": rule.severity.value},
    }


def _result(finding: Finding) -> dict[str, object]:
    """Describes a finding."""
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.end_line,
        "endColumn": finding.end_column,
    }
    place = {"artifactLocation": {"uri": _uri(finding.path)}, "region": region}
    return {
        "ruleId": finding.rule,
        "ruleIndex": _INDEX[finding.rule],
        "level": finding.severity.value,
        "message": {"text": f"{finding.reason}. {finding.remedy}"},
        "locations": [{"physicalLocation": place}],
    }


def _uri(path: str) -> str:
    """Writes a path as a URI: relative to the root of the repository, where the check is run."""
    absolute = path.startswith("/") or path[1:2] == ":"
    return ("file:///" if absolute else "") + quote(
        path.lstrip("/") if absolute else path, safe="/:" if absolute else "/"
    )
