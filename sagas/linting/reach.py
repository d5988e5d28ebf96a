"""Finds what runs when a body runs: the body, and the functions of the project that it calls."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from sagas.linting.scopes import own_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.context import Context
    from sagas.linting.declarations import Declared
    from sagas.linting.scopes import Function, Scope

__all__ = ["Reached", "reached"]


class Reached(NamedTuple):
    """A function that runs as a part of a body.

    Attributes:
        node: The function.
        scope: The names in it.
        saga: Whose body.
        nodes: What it does itself, but for what ``record`` calls outside of the body.
    """

    node: Function
    scope: Scope
    saga: Declared
    nodes: tuple[ast.AST, ...]

    @property
    def is_body(self) -> bool:
        """Whether it is the body itself, and no helper."""
        return self.node is self.saga.node

    @property
    def where(self) -> str:
        """What findings call it."""
        if self.is_body:
            return f"saga {self.saga.name}"
        return f"{self.node.name}, which is called by saga {self.saga.name},"


def reached(saga: Declared, context: Context) -> Iterator[Reached]:
    """Lists what runs when a body runs."""
    waiting: list[tuple[Function, Scope]] = [(saga.node, saga.inner)]
    seen: set[ast.AST] = {saga.node}
    while waiting:
        node, scope = waiting.pop(0)
        nodes = tuple(own_nodes(node, _recorded(node, scope, context)))
        yield Reached(node, scope, saga, nodes)
        for function in _called(nodes, scope, context):
            if function[0] not in seen:
                seen.add(function[0])
                waiting.append(function)


def _recorded(node: Function, scope: Scope, context: Context) -> set[ast.AST]:
    """Finds what is handed to ``record``, which calls it outside of the body, once."""
    return {
        argument
        for call in own_nodes(node)
        if isinstance(call, ast.Call) and context.dotted(call.func, scope) == "sagas.record"
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
    }


def _called(nodes: tuple[ast.AST, ...], scope: Scope, context: Context) -> Iterator[tuple[Function, Scope]]:
    """Lists the plain functions that are called here, or handed to who will call them."""
    for call in nodes:
        if isinstance(call, ast.Call) and context.dotted(call.func, scope) != "sagas.record":
            handed = (argument for argument in call.args if isinstance(argument, (ast.Name, ast.Attribute)))
            for expression in (call.func, *handed):
                function = context.plain(expression, scope)
                if function is not None:
                    yield function
