"""Checks what steps, compensators and probes do."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from sagas.linting.findings import Kind
from sagas.linting.impure import blocks
from sagas.linting.names import OPERATIONS
from sagas.linting.scopes import own_nodes

if TYPE_CHECKING:
    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared

__all__ = ["check_function"]


def check_function(declared: Declared, context: Context) -> None:
    """Checks what a step, compensator or probe does itself."""
    for node in own_nodes(declared.node):
        if isinstance(node, ast.Await):
            _check_operation(node.value, declared, context)
        elif isinstance(node, ast.AsyncWith):
            for item in node.items:
                _check_operation(item.context_expr, declared, context)
        elif isinstance(node, ast.Call) and isinstance(declared.node, ast.AsyncFunctionDef):
            _check_blocking(node, declared, context)


def _check_operation(value: ast.expr, declared: Declared, context: Context) -> None:
    """Refuses what only a body can await."""
    if not isinstance(value, ast.Call):
        return
    inner = context.declared(value.func, declared.inner)
    name = context.dotted(value.func, declared.inner)
    if inner is not None and inner.kind is Kind.STEP:
        why = (
            f"runs {inner.where} as a plain function, under its own idempotency key; it is in no journal, never undone"
        )
    elif inner is not None and inner.kind is Kind.SAGA:
        why = f"awaits {inner.where}, which raises OutsideSaga"
    elif name.startswith("sagas.") and name.removeprefix("sagas.") in OPERATIONS:
        why = f"awaits {name}, which raises OutsideSaga"
    else:
        return
    context.report("operation-in-step", declared.scope, value, f"{declared.where} {why}")


def _check_blocking(call: ast.Call, declared: Declared, context: Context) -> None:
    """Refuses calls that halt the event loop."""
    name = context.dotted(call.func, declared.inner)
    if blocks(name):
        context.report(
            "blocking-call",
            declared.scope,
            call,
            f"{declared.where} is `async def` and calls {name.replace('()', '')}, which halts every saga of the "
            "process until it returns",
        )
