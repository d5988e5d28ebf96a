"""Checks files, and gives what was found."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from sagas.linting.annotations import check_annotations, check_undo_result
from sagas.linting.bodies import check_awaits, check_purity, check_stops
from sagas.linting.context import Context
from sagas.linting.findings import Finding, Kind
from sagas.linting.order import check_steps_of
from sagas.linting.project import Project
from sagas.linting.reach import reached
from sagas.linting.rules import RULES, Severity
from sagas.linting.scopes import Assigned
from sagas.linting.signatures import check_declaration, check_defaults
from sagas.linting.source import Source, Unreadable
from sagas.linting.state import check_order, check_state
from sagas.linting.steps import check_function
from sagas.linting.suppressions import read_suppressions
from sagas.linting.targets import NoSuchTarget, Target, find_targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sagas.linting.declarations import Declared
    from sagas.linting.scopes import Module

__all__ = ["Checked", "check"]


class Checked(NamedTuple):
    """What came of a check.

    Attributes:
        files: How many files were checked.
        findings: What was found, by file, line and column.
    """

    files: int
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """Counts the findings that weigh so much."""
        return sum(finding.severity is severity for finding in self.findings)


def check(places: Iterable[str], *, roots: Sequence[Path] | None = None) -> Checked:
    """Checks sagas by their text alone: nothing of it is imported or run.

    Args:
        places: Each a file, a directory, or a module by its full name; a file or module with ``:NAME`` for one saga.
        roots: Where modules are looked for; the current directory and ``sys.path`` by default.

    Raises:
        NoSuchTarget: Something is not there, or cannot be read.
    """
    project = Project(roots)
    targets = find_targets(places, project)
    context = Context.of(project)
    broken: list[Finding] = []
    loaded: list[tuple[Module, str]] = []
    for target in targets:
        try:
            loaded.append((_load(target, project), target.name))
        except Unreadable as error:
            broken.append(_syntax_error(error))
    for module, name in loaded:
        _check_module(module, name, context)
    kept = _silenced(context, [module for module, name in loaded if not name])
    return Checked(len(targets), tuple(sorted([*broken, *kept])))


def _load(target: Target, project: Project) -> Module:
    """Reads a file.

    Raises:
        NoSuchTarget: It cannot be read, or has no such name.
        Unreadable: It is no Python.
    """
    try:
        module = project.load(target.path)
    except OSError as error:
        raise NoSuchTarget(f"{target.path} cannot be read: {error.strerror}") from error
    if target.name and target.name not in module.scope.bindings:
        raise NoSuchTarget(f"{target.name} does not exist in {module.source.shown}")
    return module


def _syntax_error(error: Unreadable) -> Finding:
    """Makes a finding of a file that is no Python."""
    rule = RULES["syntax-error"]
    line, column = max(error.line, 1), max(error.column, 1)
    reason = f"this is no Python, so nothing in the file was checked: {error.reason}"
    return Finding(
        error.source.shown, line, column, line, column + 1, rule.id, rule.severity, reason, rule.remedy
    )  # fmt: skip


def _check_module(module: Module, name: str, context: Context) -> None:
    """Checks a file, or one name in it."""
    try:
        for declared in _wanted(module, name, context):
            _check_declared(declared, context)
    except RecursionError:
        context.findings.add(
            "syntax-error", module.source, module.source.tree, "this is nested too deeply to be checked"
        )


def _wanted(module: Module, name: str, context: Context) -> list[Declared]:
    """Lists what is to be checked: what a name means, or everything."""
    if not name:
        return list(context.declarations.in_module(module))
    found = module.scope.bindings[name]
    expressions: list[ast.expr] = [ast.Name(name, ast.Load())]
    if isinstance(found, Assigned) and isinstance(found.value, (ast.List, ast.Tuple, ast.Set)):
        expressions = found.value.elts
    declared = (context.declared(expression, module.scope) for expression in expressions)
    return [one for one in declared if one is not None]


def _check_declared(declared: Declared, context: Context) -> None:
    """Checks a step, compensator, probe or saga."""
    context.visited.add(declared.node)
    check_declaration(declared, context)
    check_defaults(declared, context)
    check_annotations(declared, context)
    check_undo_result(declared, context)
    if declared.kind is Kind.SAGA:
        _check_saga(declared, context)
    else:
        check_function(declared, context)


def _check_saga(saga: Declared, context: Context) -> None:
    """Checks a body, with everything that it calls."""
    for one in reached(saga, context):
        context.visited.add(one.node)
        for check_one in (check_awaits, check_purity, check_stops, check_state, check_order):
            check_one(one, context)
    check_steps_of(saga, context)


def _silenced(context: Context, whole: Sequence[Module]) -> list[Finding]:
    """Leaves out what comments silence, and adds the comments of whole files that silence nothing."""
    modules = {module.source.shown: module.source for module in context.project.read}
    comments = {shown: read_suppressions(source) for shown, source in modules.items()}
    kept = [finding for finding in context.findings.all() if not comments[finding.path].silence(finding)]
    for module in whole:
        source = module.source
        for ignore, why in comments[source.shown].unused(context.visited):
            kept.append(_needless(source, ignore.line, ignore.column, ignore.end_column, why))
    return kept


def _needless(source: Source, line: int, column: int, end_column: int, why: str) -> Finding:
    """Makes a finding of a comment that silences nothing."""
    rule = RULES["unused-ignore"]
    reason = f"this comment silences nothing: {why}"
    return Finding(source.shown, line, column, line, end_column, rule.id, rule.severity, reason, rule.remedy)
