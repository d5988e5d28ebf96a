"""Follows a body from step to step: what was done and cannot be undone, and whether a pivot has been passed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from sagas.linting.findings import Kind
from sagas.linting.scopes import Assigned, is_function

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared
    from sagas.linting.order import Order
    from sagas.linting.scopes import Function, Scope

__all__ = ["Flow", "State"]

_MOST_STATEMENTS = 20_000
_DEEPEST = 20


class State(NamedTuple):
    """Where a body stands.

    Attributes:
        pivot: The pivot that was passed, on some way that leads here.
        exposed: Steps that were done on some way that leads here, and have no compensator.
        live: Whether any way leads here.
    """

    pivot: Declared | None = None
    exposed: frozenset[Declared] = frozenset()
    live: bool = True

    def or_else(self, other: State) -> State:
        """Joins two ways that lead to one place."""
        if not (self.live and other.live):
            return self if self.live else other
        return State(self.pivot or other.pivot, self.exposed | other.exposed)


class Flow:
    """Walks a body, and the helpers and child sagas that it awaits, in the order in which they run.

    A loop is walked twice, since what stands before something in it also comes after it.

    Args:
        context: What names mean.
        order: Told of every operation, in order.
    """

    def __init__(self, context: Context, order: Order) -> None:
        self._context = context
        self._order = order
        self._left = _MOST_STATEMENTS
        self._handlers = 0
        self._failed = 0
        self._inside: list[ast.AST] = []

    def walk(self, node: Function, scope: Scope, state: State) -> State:
        """Walks a function from its beginning, and gives where it ends."""
        if node in self._inside or len(self._inside) > _DEEPEST:
            return state
        self._inside.append(node)
        end = self._block(node.body, scope, state)
        self._inside.pop()
        return end._replace(live=True)

    def _block(self, statements: Sequence[ast.stmt], scope: Scope, state: State) -> State:
        """Walks statements."""
        for statement in statements:
            self._left -= 1
            if not state.live or self._left < 0:
                break
            state = self._statement(statement, scope, state)
        return state

    def _statement(self, node: ast.stmt, scope: Scope, state: State) -> State:
        """Walks a statement."""
        match node:
            case ast.If():
                state = self._expression(node.test, scope, state)
                return self._block(node.body, scope, state).or_else(self._block(node.orelse, scope, state))
            case ast.For() | ast.AsyncFor() | ast.While():
                return self._loop(node, scope, state)
            case ast.Try() | ast.TryStar():
                return self._try(node, scope, state)
            case ast.With() | ast.AsyncWith():
                return self._with(node, scope, state)
            case ast.Match():
                state = self._expression(node.subject, scope, state)
                ends = [self._block(case.body, scope, state) for case in node.cases]
                return _joined([state, *ends])
            case ast.Return() | ast.Raise():
                return self._leave(node, scope, state)
            case _:
                inner = is_function(node) or isinstance(node, ast.ClassDef)
                return state if inner else self._expression(node, scope, state)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, scope: Scope, state: State) -> State:
        """Walks a loop as if it ran twice."""
        head = node.test if isinstance(node, ast.While) else node.iter
        state = self._expression(head, scope, state)
        for _ in range(2):
            state = state.or_else(self._block(node.body, scope, state))
        return self._block(node.orelse, scope, state)

    def _try(self, node: ast.Try | ast.TryStar, scope: Scope, state: State) -> State:
        """Walks a ``try``: in a handler, a pivot in its block may not have worked, but whatever acted has acted."""
        catches = any(not isinstance(handler.body[-1], ast.Raise) for handler in node.handlers)
        self._handlers += catches
        end = self._block(node.body, scope, state)
        self._handlers -= catches
        failed = State(state.pivot, state.exposed | end.exposed)
        self._failed += 1
        ends = [self._block(handler.body, scope, failed) for handler in node.handlers]
        self._failed -= 1
        joined = _joined([self._block(node.orelse, scope, end), *ends])
        last = self._block(node.finalbody, scope, joined._replace(live=True))
        return last._replace(live=last.live and joined.live)

    def _with(self, node: ast.With | ast.AsyncWith, scope: Scope, state: State) -> State:
        """Walks a block; ``lock`` is an operation that may fail."""
        for item in node.items:
            state = self._expression(item.context_expr, scope, state)
            call = item.context_expr
            if isinstance(call, ast.Call) and self._context.dotted(call.func, scope) == "sagas.lock":
                self._order.may_raise(call, scope, state, "waiting for a lock may fail", handled=self._handlers > 0)
        return self._block(node.body, scope, state)

    def _leave(self, node: ast.Return | ast.Raise, scope: Scope, state: State) -> State:
        """Walks what ends a function."""
        state = self._expression(node, scope, state)
        # In a handler, what failed has been told of already, and what is done there is meant to stay: a notice, say.
        if isinstance(node, ast.Raise) and not self._failed:
            self._order.may_raise(node, scope, state, "this `raise` fails", handled=self._handlers > 0)
        return state._replace(live=False)

    # --- operations ---------------------------------------------------------------------------------------------

    def _expression(self, node: ast.AST, scope: Scope, state: State) -> State:
        """Walks what an expression awaits, in the order in which it does."""
        for awaited, repeated in _awaits(node):
            state = self._awaited(awaited.value, scope, state, repeated=repeated)
        return state

    def _awaited(self, value: ast.expr, scope: Scope, state: State, *, repeated: bool = False) -> State:
        """Walks what is awaited."""
        call = _call_of(value, scope)
        if call is None:
            return state
        name = self._context.dotted(call.func, scope)
        if name in ("sagas.gather", "sagas.race"):
            return self._side_by_side(call, scope, state)
        if name == "sagas.map_each":
            return self._each(call, scope, state)
        if name == "sagas.receive" and _has_timeout(call):
            self._order.may_raise(call, scope, state, "a `receive` with a timeout may fail", handled=self._handlers > 0)
            return state
        for _ in range(1 + repeated):
            state = self._called(call.func, call, scope, state)
        return state

    def _called(self, function: ast.expr, at: ast.expr, scope: Scope, state: State) -> State:
        """Walks the call of a step, child saga or helper."""
        declared = self._context.declared(function, scope)
        if declared is None:
            plain = self._context.plain(function, scope)
            return state if plain is None else self.walk(*plain, state)
        if declared.kind is Kind.STEP:
            return self._order.step(declared, at, scope, state, handled=self._handlers > 0)
        return self.walk(declared.node, declared.inner, state) if declared.kind is Kind.SAGA else state

    def _each(self, call: ast.Call, scope: Scope, state: State) -> State:
        """Walks ``map_each``: its step runs more than once."""
        if not call.args:
            return state
        function = call.args[0]
        for _ in range(2):
            if isinstance(function, ast.Lambda):
                state = self._awaited(function.body, scope, state)
            else:
                state = self._called(function, function, scope, state)
        return state

    def _side_by_side(self, call: ast.Call, scope: Scope, state: State) -> State:
        """Walks branches in both orders, since any may fail when another one has acted; no pivot precedes another."""
        branches = [(branch, repeated) for each in call.args for branch, repeated in _branch(each)]
        ends: list[State] = []
        for order in (branches, branches[::-1]):
            now = state
            for branch, repeated in order:
                end = self._awaited(branch, scope, now._replace(pivot=state.pivot), repeated=repeated)
                now = State(now.pivot or end.pivot, end.exposed if end.pivot is None else now.exposed)
            ends.append(now)
        joined = _joined(ends)
        return joined if joined.pivot is None else State(joined.pivot)


def _joined(states: Sequence[State]) -> State:
    """Joins all ways that lead to one place."""
    joined = states[0]
    for state in states[1:]:
        joined = joined.or_else(state)
    return joined


def _awaits(node: ast.AST, *, repeated: bool = False) -> Iterator[tuple[ast.Await, bool]]:
    """Lists what is awaited, innermost first, and whether it may be more than once."""
    repeated = repeated or isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from _awaits(child, repeated=repeated)
    if isinstance(node, ast.Await):
        yield node, repeated


def _branch(argument: ast.expr) -> Iterator[tuple[ast.expr, bool]]:
    """Gives a branch, and whether there may be several of it."""
    if not isinstance(argument, ast.Starred):
        yield argument, False
    elif isinstance(argument.value, (ast.GeneratorExp, ast.ListComp)):
        yield argument.value.elt, True
    elif isinstance(argument.value, (ast.Tuple, ast.List)):
        yield from ((item, False) for item in argument.value.elts)


def _call_of(value: ast.expr, scope: Scope) -> ast.Call | None:
    """Gives the call that is awaited, also by way of a variable."""
    if isinstance(value, ast.Name):
        found = scope.lookup(value.id)
        value = found[0].value if found is not None and isinstance(found[0], Assigned) else value
    return value if isinstance(value, ast.Call) else None


def _has_timeout(call: ast.Call) -> bool:
    """Says whether an operation is given a timeout that is one."""
    return any(
        keyword.arg == "timeout" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None)
        for keyword in call.keywords
    )
