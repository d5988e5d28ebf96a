"""Checks what a body does: what it awaits, and what would differ when it is replayed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from sagas.linting.findings import Kind
from sagas.linting.impure import is_foreign, needs_loop, rule_for
from sagas.linting.names import OPERATIONS, Place
from sagas.linting.scopes import is_function, own_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.context import Context
    from sagas.linting.reach import Reached

__all__ = ["check_awaits", "check_purity", "check_stops"]

_INSTEAD = {
    "sleep": "Write `await sagas.sleep(…)`, which survives a restart.",
    "gather": "Write `await sagas.gather(…)`.",
    "wait_for": "Give the step `timeout=`, or `race` it against `sagas.sleep(…)`.",
    "timeout": "Give the step `timeout=`, or `race` it against `sagas.sleep(…)`.",
    "fail_after": "Give the step `timeout=`, or `race` it against `sagas.sleep(…)`.",
    "move_on_after": "Give the step `timeout=`, or `race` it against `sagas.sleep(…)`.",
    "create_task_group": "Write `await sagas.gather(…)`.",
    "TaskGroup": "Write `await sagas.gather(…)`.",
    "create_task": "Write `await sagas.gather(…)`.",
}
_SAYS = {
    "wall-clock": "tells another time when the body is replayed after a crash",
    "randomness": "gives another value when the body is replayed after a crash",
    "io-in-body": "reaches outside of the saga, again on every replay",
    "blocking-call": "halts every saga of the process until it returns",
}


def check_awaits(one: Reached, context: Context) -> None:
    """Finds what is awaited and cannot be, and what is not awaited and has to be."""
    for node in one.nodes:
        for awaited in _awaited(node):
            _check_awaited(awaited, one, context)
        if isinstance(node, ast.Expr):
            _check_forgotten(node.value, one, context, "is called and not awaited, so that nothing happens")
        elif isinstance(node, ast.Return) and one.is_body:
            _check_forgotten(node.value, one, context, "is returned and not awaited, so that nothing happens")
        elif isinstance(node, ast.Call) and needs_loop(context.dotted(node.func, one.scope)):
            _report_foreign(node, context.dotted(node.func, one.scope), one, context)
        elif is_function(node):
            _check_inner(node, one, context)


def _awaited(node: ast.AST) -> Iterator[ast.expr]:
    """Gives what a node awaits, in one way or another."""
    match node:
        case ast.Await():
            yield node.value
        case ast.AsyncFor():
            yield node.iter
        case ast.AsyncWith():
            yield from (item.context_expr for item in node.items)
        case ast.comprehension(is_async=1):
            yield node.iter
        case _:
            pass


def _check_awaited(awaited: ast.expr, one: Reached, context: Context) -> None:
    """Refuses what only an event loop can run; of branches side by side, each."""
    if isinstance(awaited, ast.Call):
        called = context.dotted(awaited.func, one.scope)
        if called in ("sagas.gather", "sagas.race", "sagas.map_each"):
            for branch in _branches(awaited):
                _check_awaited(branch, one, context)
            return
    meaning = context.dotted(awaited, one.scope)
    if is_foreign(meaning):
        _report_foreign(awaited, meaning, one, context)


def _branches(call: ast.Call) -> Iterator[ast.expr]:
    """Gives what runs side by side."""
    for argument in call.args:
        branch = argument.value if isinstance(argument, ast.Starred) else argument
        if isinstance(branch, (ast.GeneratorExp, ast.ListComp)):
            yield branch.elt
        elif isinstance(branch, ast.Lambda):
            yield branch.body
        else:
            yield branch


def _report_foreign(node: ast.expr, dotted: str, one: Reached, context: Context) -> None:
    """Tells that something needs an event loop."""
    name = dotted.removesuffix("()")
    context.report(
        "foreign-await",
        one.scope,
        node,
        f"{one.where} uses {name}, which is no step, saga or operation: no event loop can be found while a body runs, "
        "so this raises DeterminismError",
        remedy=_INSTEAD.get(name.rpartition(".")[2]) if needs_loop(dotted) or "TaskGroup" in name else None,
    )


def _check_forgotten(value: ast.expr | None, one: Reached, context: Context, what: str) -> None:
    """Finds a call that does nothing unless it is awaited."""
    if not isinstance(value, ast.Call):
        return
    declared = context.declared(value.func, one.scope)
    called = context.names.meaning(value.func, one.scope)
    if declared is not None and declared.kind in (Kind.STEP, Kind.SAGA):
        name = declared.where
    elif isinstance(called, str) and called.startswith("sagas.") and called[6:] in OPERATIONS:
        name = called
    elif declared is None and isinstance(called, Place) and _is_coroutine(called):
        name = called.node.name
    else:
        return
    context.report("forgotten-await", one.scope, value, f"in {one.where.rstrip(',')}, {name} {what}")


def _is_coroutine(place: Place) -> bool:
    """Says whether calling it gives a coroutine, and not a generator."""
    return isinstance(place.node, ast.AsyncFunctionDef) and not any(
        isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own_nodes(place.node)
    )


def _check_inner(node: ast.AST, one: Reached, context: Context) -> None:
    """Refuses declarations inside of a body."""
    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    declared = context.declarations.of_place(Place(node, one.scope))
    if declared is not None and declared.kind in (Kind.STEP, Kind.SAGA):
        context.report(
            "step-in-body",
            one.scope,
            node,
            f"{declared.where} is declared inside {one.where.rstrip(',')}: no rollback by the journal alone finds it, "
            "and what it takes from around it is in no journal",
        )


def check_purity(one: Reached, context: Context) -> None:
    """Finds what gives something else, or acts again, when the body is replayed."""
    awaited = {value for node in one.nodes for value in _awaited(node)}
    for node in one.nodes:
        if isinstance(node, ast.Call) and node not in awaited:
            name = context.dotted(node.func, one.scope)
            rule = rule_for(name, len(node.args) + len(node.keywords))
            if rule is not None:
                context.report(
                    rule, one.scope, node, f"{one.where} calls {name.replace('()', '')}, which {_SAYS[rule]}"
                )
        elif isinstance(node, ast.Subscript) and context.dotted(node.value, one.scope) == "os.environ":
            context.report("io-in-body", one.scope, node, f"{one.where} reads os.environ, which may differ on a replay")


def check_stops(one: Reached, context: Context) -> None:
    """Finds handlers that catch what ends a branch that was stopped."""
    for node in one.nodes:
        if isinstance(node, (ast.Try, ast.TryStar)) and _waits(node.body):
            for handler in node.handlers:
                if _catches_all(handler.type, one, context) and not _leaves(handler):
                    context.report(
                        "swallowed-stop",
                        one.scope,
                        handler,
                        f"{one.where} goes on after catching everything here, also GeneratorExit, which ends a branch "
                        "that lost a race or was cancelled: in a loop it would never end",
                    )


def _waits(statements: list[ast.stmt]) -> bool:
    """Says whether something is awaited here."""
    block = ast.Module(statements, [])
    return any(isinstance(node, (ast.Await, ast.AsyncWith, ast.AsyncFor)) for node in own_nodes(block))


def _catches_all(kind: ast.expr | None, one: Reached, context: Context) -> bool:
    """Says whether a handler catches more than ``Exception`` does."""
    if kind is None:
        return True
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(
        context.dotted(each, one.scope) in ("builtins.BaseException", "builtins.GeneratorExit") for each in kinds
    )


def _leaves(handler: ast.ExceptHandler) -> bool:
    """Says whether a handler raises, or ends the function."""
    raises = any(isinstance(node, ast.Raise) for node in own_nodes(ast.Module(handler.body, [])))
    return raises or isinstance(handler.body[-1], ast.Return)
