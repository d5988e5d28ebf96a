"""Checks code by reading it, and tells what was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from sagas.cli.problems import Problem, printable
from sagas.cli.rendering import print_json, show
from sagas.linting import RULES, Severity
from sagas.linting import check as check_files
from sagas.linting.reports import as_json, as_lines, as_sarif, rule_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sagas.linting.reports.text import Parts

__all__ = ["lint", "list_rules", "refuse_sarif"]


def lint(places: Sequence[str], codec: str | None, *, strict: bool, json: bool, sarif: bool) -> int:
    """Checks code by reading it.

    Args:
        places: Files, directories, modules, or ``MODULE:NAME``.
        codec: Of a journal, which makes no sense here.
        strict: Whether warnings count.
        json: Whether to write JSON.
        sarif: Whether to write SARIF.

    Returns:
        The exit code: 1 if something was found, else 0.

    Raises:
        Problem: The options contradict each other, or nothing is named.
        NoSuchTarget: Something is not there.
    """
    if codec is not None:
        raise Problem("--codec is for a journal; name that too, with --journal sqlite:///orders.db")
    if json and sarif:
        raise Problem("--json and --sarif are two formats; choose one")
    if not places:
        raise Problem("which code? Name modules, files or directories with sagas: sagas check shop.orders src/")
    checked = check_files(places)
    if json or sarif:
        print_json(as_json(checked) if json else as_sarif(checked))
    else:
        show(*_texts(as_lines(checked)))
    return 1 if checked.count(Severity.ERROR) or (strict and checked.findings) else 0


def list_rules(*, json: bool) -> int:
    """Lists all rules, and gives the exit code."""
    if json:
        print_json([{**rule._asdict(), "severity": rule.severity.value} for rule in RULES.values()])
    else:
        show(*_texts(rule_lines()))
    return 0


def refuse_sarif(*, sarif: bool) -> None:
    """Refuses SARIF for what has no place in a file.

    Raises:
        Problem: It was asked for.
    """
    if sarif:
        raise Problem("--sarif is for findings in files; what a journal says is written with --json")


def _texts(lines: Iterable[Parts]) -> Iterator[Text]:
    """Makes lines for the terminal, without what could steer it: they quote files."""
    for parts in lines:
        yield Text.assemble(*((_kept(content), style) for content, style in parts))


def _kept(content: str) -> str:
    """Makes a text printable, with the spaces around it."""
    inner = content.strip(" ")
    left = len(content) - len(content.lstrip(" "))
    return " " * left + printable(inner) + " " * (len(content) - left - len(inner))
