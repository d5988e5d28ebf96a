"""Checks declarations for what the decorators refuse, and for defaults that can be changed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from sagas.linting.binding import parameters_of
from sagas.linting.findings import Kind
from sagas.linting.names import Place
from sagas.linting.rules import Severity
from sagas.linting.scopes import own_nodes
from sagas.linting.state import is_mutable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared

__all__ = ["check_declaration", "check_defaults"]


def check_defaults(declared: Declared, context: Context) -> None:
    """Finds defaults that all calls share and any can change."""
    arguments = declared.node.args
    who = "all calls" if declared.of is not None else "all calls whose arguments are not from the journal"
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None and is_mutable(default, declared.scope, context):
            context.report(
                "mutable-default",
                declared.scope,
                default,
                f"{declared.where} has the default {_short(default)}, one object for {who}: what one of them puts in "
                "it, another one sees",
                severity=Severity.WARNING if declared.of is None else Severity.ERROR,
            )


def _short(node: ast.expr) -> str:
    """Writes an expression for people."""
    text = ast.unparse(node)
    return text if len(text) <= 20 else f"{text[:19]}…"  # noqa: PLR2004 - so that it fits in its sentence


def check_declaration(declared: Declared, context: Context) -> None:
    """Finds what the decorator refuses when the module is imported."""
    for node, reason, remedy in _problems(declared, context):
        context.report("wrong-declaration", declared.scope, node, f"{declared.where}: {reason}", remedy=remedy)


def _problems(declared: Declared, context: Context) -> Iterator[tuple[ast.AST, str, str]]:
    """Lists what is wrong: where, why, and what to do."""
    yield from _unnamed(declared)
    if declared.kind is Kind.SAGA and not isinstance(declared.node, ast.AsyncFunctionDef):
        yield declared.node, "a body is `async def`, since it waits for its steps", "Write `async def`."
    if declared.kind is Kind.STEP:
        yield from _wrong_step(declared, context)
    if declared.of is not None:
        yield from _wrong_attachment(declared, declared.of, context)


def _unnamed(declared: Declared) -> Iterator[tuple[ast.AST, str, str]]:
    """Finds parameters that cannot be passed by name."""
    arguments = declared.node.args
    for parameter in (*arguments.posonlyargs, arguments.vararg, arguments.kwarg):
        if parameter is not None:
            yield (
                parameter,
                f"{parameter.arg} cannot be passed by name, and the journal keeps arguments by name",
                "Give each parameter a name of its own: no `*args`, `**kwargs` and positional-only ones.",
            )


def _wrong_step(step: Declared, context: Context) -> Iterator[tuple[ast.AST, str, str]]:
    """Finds what makes no sense for a step."""
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own_nodes(step.node)):
        yield step.node, "a step returns, and this one yields", "Return a list."
    rejects = step.options.get("rejects")
    if rejects is not None and _is_one_type(rejects, step, context):
        yield rejects, "rejects= takes a tuple of types, and this is one type", f"Write `({ast.unparse(rejects)},)`."
    if step.is_set("transactional"):
        yield from _wrong_transaction(step, "step", remote=step.is_set("remote"))


def _is_one_type(value: ast.expr, step: Declared, context: Context) -> bool:
    """Says whether an expression is plainly a class."""
    meaning = context.names.meaning(value, step.options_scope or step.scope)
    if isinstance(meaning, Place):
        return isinstance(meaning.node, ast.ClassDef)
    return meaning == "sagas.Rejected" or (
        isinstance(meaning, str) and meaning.startswith("builtins.") and meaning.endswith(("Error", "Exception"))
    )


def _wrong_transaction(declared: Declared, role: str, *, remote: bool) -> Iterator[tuple[ast.AST, str, str]]:
    """Finds what makes no sense for a transactional step or compensator."""
    if isinstance(declared.node, ast.AsyncFunctionDef):
        yield declared.node, f"a transactional {role} runs in a writer's thread, so it is `def`", "Write `def`."
    elif not parameters_of(declared.node):
        yield declared.node, f"the first parameter of a transactional {role} is the Session", "Add `session: Session`."
    for name in ("timeout", "heartbeat"):
        value = declared.options.get(name)
        if value is not None and not (isinstance(value, ast.Constant) and not value.value):
            yield value, f"a transactional {role} cannot be interrupted, so it takes no {name}=", f"Remove {name}=."
    if remote:
        reason = "a remote step is transactional where it is performed, not here"
        yield declared.options["transactional"], reason, "Remove transactional=."


def _wrong_attachment(own: Declared, step: Declared, context: Context) -> Iterator[tuple[ast.AST, str, str]]:
    """Finds what does not fit between a compensator or probe and its step."""
    if own.kind is Kind.PROBE and step.is_set("transactional"):
        yield own.node, f"{step.where} is transactional, so it is never in doubt", "Remove the probe."
    others = [one for one in context.declarations.attached(step, own.kind) if one is not own]
    first = others[0].node if others and not isinstance(others[0], ast.Call) else None
    if first is not None and own.scope is step.scope and first.lineno < own.node.lineno:
        yield own.node, f"{step.where} has a {own.kind.value} already: {first.name}", "Remove one of the two."
    if own.kind is Kind.COMPENSATOR and own.is_set("transactional"):
        yield from _wrong_transaction(own, "compensator", remote=step.is_set("remote"))
    yield from _unknown_parameters(own, step)


def _unknown_parameters(own: Declared, step: Declared) -> Iterator[tuple[ast.AST, str, str]]:
    """Finds parameters that the step does not have."""
    skipped = 1 if step.is_set("transactional") else 0
    known = [parameter.arg for parameter in parameters_of(step.node)][skipped:]
    extra = ["result"] if own.kind is Kind.COMPENSATOR else []
    session = parameters_of(own.node)[:1] if own.is_set("transactional") else []
    for parameter in _without_default(own):
        if parameter.arg not in known and parameter.arg not in extra and parameter not in session:
            yield (
                parameter,
                f"{step.where} has no parameter {parameter.arg}",
                f"Take by name any of: {', '.join([*known, *extra]) or 'nothing'}.",
            )


def _without_default(declared: Declared) -> list[ast.arg]:
    """Lists the parameters that have no default."""
    arguments = declared.node.args
    needed = len(arguments.args) - len(arguments.defaults)
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return [*arguments.args[: max(needed, 0)], *(parameter for parameter, default in pairs if default is None)]
