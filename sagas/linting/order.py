"""Checks the order of steps: what cannot be undone comes last, and after a pivot nothing may fail."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from sagas.linting.effects import Effects
from sagas.linting.flow import Flow, State
from sagas.linting.rules import Severity
from sagas.linting.scopes import Assigned

if TYPE_CHECKING:
    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared
    from sagas.linting.scopes import Scope

__all__ = ["Order", "check_steps_of"]

_DEFAULT_ATTEMPTS = 3
_AGAIN = "Give it `retry=Retry(attempts=None)`, with pauses that you can live with, or do it before the pivot."
_CATCH = "Catch it around the call, where the saga can do without the step, or let it happen before the pivot."


def check_steps_of(saga: Declared, context: Context) -> None:
    """Checks the order of a saga's steps."""
    order = Order(saga, context)
    Flow(context, order).walk(saga.node, saga.inner, State())


class Order:
    """Is told of a saga's operations in their order, and says what is wrong with it."""

    def __init__(self, saga: Declared, context: Context) -> None:
        self._saga = saga
        self._context = context
        self._effects = Effects(context)

    def step(self, step: Declared, at: ast.expr, scope: Scope, state: State, *, handled: bool) -> State:
        """Takes the call of a step, and gives where the body stands after it."""
        self._context.visited.add(step.node)
        if state.pivot is not None:
            self._after_pivot(step, at, scope, state.pivot, handled=handled)
            return state
        pivot = step.is_set("pivot")
        if not handled and (pivot or self._effects.can_fail(step)):
            for exposed in state.exposed:
                self._exposed(exposed, f"{step.name} may fail after it")
        if pivot:
            return State(step)
        return state._replace(exposed=state.exposed | {step}) if self._stays(step) else state

    def may_raise(self, node: ast.AST, scope: Scope, state: State, what: str, *, handled: bool) -> None:
        """Takes something else that may fail."""
        if handled:
            return
        if state.pivot is not None:
            self._context.report(
                "fallible-after-pivot",
                scope,
                node,
                f"in saga {self._saga.name}, {what} after the pivot {state.pivot.name}: nothing is undone any more, "
                "and the saga is stuck until better code is deployed",
                remedy="Catch it, or do it before the pivot.",
            )
        for exposed in state.exposed:
            self._exposed(exposed, f"{what} after it, on line {getattr(node, 'lineno', 0)}")

    def _stays(self, step: Declared) -> bool:
        """Says whether what a step did would stay if the saga is undone."""
        return not self._effects.has_undo(step) and not self._effects.is_stub(step) and self._effects.may_act(step)

    def _exposed(self, step: Declared, what: str) -> None:
        """Tells that a rollback would leave something."""
        acts = self._effects.acts(step)
        self._context.report(
            "uncompensated-step",
            step.scope,
            step.node,
            f"{step.where} has no compensator: in saga {self._saga.name}, {what}, and then what {step.name} did is "
            "not undone",
            severity=Severity.ERROR if acts else Severity.WARNING,
        )

    def _after_pivot(self, step: Declared, at: ast.expr, scope: Scope, pivot: Declared, *, handled: bool) -> None:
        """Tells what of a step after a pivot may fail for good."""
        why = None if self._effects.is_stub(step) else self._gives_up(step)
        where = f"in saga {self._saga.name}, {step.where} runs after the pivot {pivot.name}"
        if why is not None:
            text, severity = why
            reason = f"{where} and {text}: then it is parked, and the saga stuck until an operator acts"
            self._context.report("fallible-after-pivot", scope, at, reason, remedy=_AGAIN, severity=severity)
        elif not handled and self._effects.can_reject(step):
            reason = (
                f"{where} and may reject: nobody catches that here, nothing is undone any more, and the saga is stuck "
                "until better code is deployed"
            )
            self._context.report("fallible-after-pivot", scope, at, reason, remedy=_CATCH)

    def _gives_up(self, step: Declared) -> tuple[str, Severity] | None:
        """Says when a step gives up, if it visibly does, and how bad that is."""
        attempts = self._attempts(step)
        if attempts == 1:
            return "gives up after its first failed attempt", Severity.ERROR
        if isinstance(attempts, int):
            return f"gives up after {attempts} failed attempts", Severity.WARNING
        if attempts is None and "total_timeout" in step.options:
            return "gives up after its total_timeout", Severity.WARNING
        return None

    def _attempts(self, step: Declared) -> int | str | None:
        """Gives how many attempts a step has; ``None`` for as many as it takes, a text if that cannot be told."""
        retry, scope = step.options.get("retry"), step.options_scope or step.scope
        if retry is None:
            return 1
        if isinstance(retry, ast.Name):
            found = scope.lookup(retry.id)
            retry = found[0].value if found is not None and isinstance(found[0], Assigned) else retry
        if not isinstance(retry, ast.Call) or self._context.dotted(retry.func, scope) != "sagas.Retry":
            return "unknown"
        given = {keyword.arg: keyword.value for keyword in retry.keywords}
        value = given.get("attempts", ast.Constant(_DEFAULT_ATTEMPTS))
        if not isinstance(value, ast.Constant) or None in given:
            return "unknown"
        return value.value if value.value is None or isinstance(value.value, int) else "unknown"
