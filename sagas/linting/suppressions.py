"""Comments that silence findings: ``# sagas: ignore[rule]``."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sagas.linting.rules import RULES
from sagas.linting.scopes import is_function

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sagas.linting.findings import Finding
    from sagas.linting.source import Source

__all__ = ["Ignore", "Suppressions", "read_suppressions"]

_COMMENT = re.compile(r"#\s*sagas:\s*ignore(?:\[([^\]]*)\])?(?![\w\[])")
# Whether there is something to silence depends on other files that call this one.
_FROM_ELSEWHERE = "uncompensated-step"


@dataclass(slots=True, eq=False)
class Ignore:
    """A comment that silences findings.

    Attributes:
        line: Where it is, from 1.
        column: The same, from 1.
        end_column: Where it ends, exclusive.
        rules: What it silences; ``None`` for whatever there is.
        used: What it did silence.
    """

    line: int
    column: int
    end_column: int
    rules: tuple[str, ...] | None
    used: set[str] = field(default_factory=set[str])

    def silences(self, rule: str) -> bool:
        """Says whether it silences a rule, and notes that it did."""
        if self.rules is not None and rule not in self.rules:
            return False
        self.used.add(rule)
        return True


@dataclass(frozen=True, slots=True)
class Suppressions:
    """The comments of a file.

    Attributes:
        ignores: All of them.
        reach: For each comment, the first and the last line on which it holds.
        inside: For each comment, the function in which it is.
    """

    ignores: list[Ignore]
    reach: list[tuple[int, int]]
    inside: list[ast.AST | None]

    def silence(self, finding: Finding) -> bool:
        """Says whether some comment silences a finding; each that does counts as used."""
        fitting = [
            ignore
            for ignore, (first, last) in zip(self.ignores, self.reach, strict=True)
            if first <= finding.line <= last
        ]
        return sum(ignore.silences(finding.rule) for ignore in fitting) > 0

    def unused(self, visited: Collection[ast.AST]) -> Iterator[tuple[Ignore, str]]:
        """Lists what silences nothing, and why, where it can be told from the functions that were looked at."""
        for ignore, function in zip(self.ignores, self.inside, strict=True):
            unknown = [rule for rule in ignore.rules or () if rule not in RULES]
            if unknown:
                yield ignore, f"there is no rule {', '.join(unknown)}; `sagas check --rules` lists all"
            elif function is None or function in visited:
                yield from _useless(ignore)


def _useless(ignore: Ignore) -> Iterator[tuple[Ignore, str]]:
    """Tells what of a comment silences nothing."""
    if ignore.rules is None:
        if not ignore.used:
            yield ignore, "nothing is found here"
        return
    useless = [rule for rule in ignore.rules if rule not in ignore.used and rule != _FROM_ELSEWHERE]
    if useless or not ignore.rules:
        yield ignore, f"{', '.join(useless) or 'nothing'} is not found here"


def read_suppressions(source: Source) -> Suppressions:
    """Reads the comments of a file, and finds out where they hold.

    One on the first lines of a function, from its decorators to the colon, holds for all of it; any other for the
    statement that it stands in.
    """
    ignores = list(_ignores(source.text)) if "sagas:" in source.text else []
    places = [_place(ignore.line, source.tree) for ignore in ignores]
    return Suppressions(ignores, [reach for reach, _ in places], [inside for _, inside in places])


def _ignores(text: str) -> Iterator[Ignore]:
    """Finds the comments in a text."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            found = _COMMENT.match(token.string) if token.type == tokenize.COMMENT else None
            if found is not None:
                names = (
                    None if found[1] is None else tuple(filter(None, (name.strip() for name in found[1].split(","))))
                )
                line, column = token.start
                yield Ignore(line, column + 1, column + 1 + len(found[0]), names)
    except (tokenize.TokenError, SyntaxError):  # what ast has parsed, tokenize can read; but it is another parser
        return


def _place(line: int, tree: ast.Module) -> tuple[tuple[int, int], ast.AST | None]:
    """Finds out for which lines a comment holds, and in which function it is."""
    reach, inside = (line, line), None
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.end_lineno is not None:
            first = _first_line(node)
            if first <= line <= node.end_lineno:
                inside = node if is_function(node) else inside
                reach = _narrowed(node, line, reach)
    return reach, inside


def _narrowed(node: ast.stmt, line: int, reach: tuple[int, int]) -> tuple[int, int]:
    """Gives where a comment holds that is in a statement: all of it, if it is a simple one or on its first lines."""
    first, last = _first_line(node), node.end_lineno or node.lineno
    body: list[ast.stmt] | None = getattr(node, "body", None)
    if isinstance(node, ast.Match):
        return reach
    if not body:
        return first, last
    if line < body[0].lineno or (line == node.lineno and line == body[0].lineno):
        return (first, last) if is_function(node) else (first, max(first, body[0].lineno - 1, line))
    return reach


def _first_line(node: ast.stmt) -> int:
    """Gives the first line of a statement, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])
