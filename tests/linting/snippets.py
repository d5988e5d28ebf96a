"""Snippets that say themselves what is wrong with them: a comment ``# wrong: RULE`` on the line of each finding."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from sagas.linting import Finding, check

__all__ = ["HEADER", "expected", "found_in", "lint", "places"]

# What most snippets share: a step that can be undone, one that cannot, and one that only reads.
HEADER = """
import sagas
from sagas import (
    Client, Coordinator, NotApplied, Rejected, Retry, current_step, gather, lock, map_each, now, race, random, receive,
    record, saga, scope, sleep, step, uuid4,
)
from elsewhere import bank

@step
async def charge(order: str) -> str:
    return await bank.charge(order)

@charge.compensator
async def refund(order: str, result: str | None) -> None:
    await bank.refund(order)

@step
async def check_stock(order: str) -> int:
    return await bank.stock(order)
"""
_MARK = re.compile(r"# wrong: ([\w-]+)")


def found_in(text: str, directory: Path, *, header: str = HEADER) -> tuple[str, tuple[Finding, ...]]:
    """Writes a snippet to a file and checks it; gives what is in the file, too."""
    whole = header + textwrap.dedent(text)
    path = directory / "shop.py"
    path.write_text(whole, encoding="utf-8")
    return whole, check([str(path)], roots=[directory]).findings


def places(findings: tuple[Finding, ...]) -> list[tuple[int, str]]:
    return [(finding.line, finding.rule) for finding in findings]


def expected(whole: str) -> list[tuple[int, str]]:
    return [(number, rule) for number, line in enumerate(whole.split("\n"), 1) for rule in _MARK.findall(line)]


def lint(text: str, directory: Path, *, header: str = HEADER) -> None:
    """Holds what is found against what the snippet says."""
    whole, findings = found_in(text, directory, header=header)
    assert sorted(places(findings)) == sorted(expected(whole)), "\n".join(map(str, findings))
