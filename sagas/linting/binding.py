"""Reads a file's names into scopes."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from sagas.linting.scopes import (
    Assigned,
    Binding,
    Defined,
    Function,
    Given,
    Imported,
    Module,
    Scope,
    Unknown,
    own_nodes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.source import Source

__all__ = ["parameters_of", "read_module"]

_UNKNOWN = Unknown()


def read_module(source: Source, package: tuple[str, ...]) -> Module:
    """Finds out what each name in a file is.

    Args:
        source: The file.
        package: Full name of the package that it is in.
    """
    root = Scope(source.tree)
    module = Module(source, package, root, {source.tree: root}, {})
    root.module = module
    waiting = [root]
    while waiting:
        scope = waiting.pop()
        nodes = tuple(own_nodes(scope.node))
        _fill(scope, nodes, package)
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = Scope(node, scope)
                module.scopes[node], module.home[node] = inner, scope
                waiting.append(inner)
    return module


def _fill(scope: Scope, nodes: tuple[ast.AST, ...], package: tuple[str, ...]) -> None:
    """Binds the names of one scope."""
    if isinstance(scope.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        for parameter in parameters_of(scope.node):
            scope.bind(parameter.arg, Given(parameter))
    hidden = _typing_only(nodes)
    for node in nodes:
        for name, binding in _bindings(node, package, typing_only=node in hidden):
            scope.bind(name, binding)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            scope.stars.append(_base(node, package))
        elif isinstance(node, ast.Global):
            scope.shared.update(node.names)


def parameters_of(node: Function) -> list[ast.arg]:
    """Lists all parameters of a function."""
    found = node.args
    stars = [star for star in (found.vararg, found.kwarg) if star is not None]
    return [*found.posonlyargs, *found.args, *found.kwonlyargs, *stars]


def _typing_only(nodes: tuple[ast.AST, ...]) -> set[ast.AST]:
    """Finds what is under ``if TYPE_CHECKING:``."""
    return {
        inner
        for node in nodes
        if isinstance(node, ast.If) and _is_type_checking(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }


def _is_type_checking(test: ast.expr) -> bool:
    """Recognizes ``TYPE_CHECKING`` and ``typing.TYPE_CHECKING``."""
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _base(node: ast.ImportFrom, package: tuple[str, ...]) -> str:
    """Gives the full name of the module from which is imported; it starts with ``?`` if there is none."""
    if not node.level:
        return node.module or ""
    around = package[: len(package) - node.level + 1] if node.level > 1 else package
    known = node.level - 1 <= len(package)
    return ".".join([*(around if known else ("?",)), *([node.module] if node.module else [])])


def _bindings(node: ast.AST, package: tuple[str, ...], *, typing_only: bool) -> Iterator[tuple[str, Binding]]:
    """Lists the names that one node binds."""
    match node:
        case ast.Import():
            for alias in node.names:
                dotted = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or dotted, Imported(dotted, typing_only)
        case ast.ImportFrom():
            base = _base(node, package)
            for alias in node.names:
                yield alias.asname or alias.name, Imported(f"{base}.{alias.name}".lstrip("."), typing_only)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name, Defined(node)
        case ast.Assign():
            for target in node.targets:
                yield from _targets(target, node.value)
        case ast.AnnAssign() | ast.NamedExpr():
            yield from _targets(node.target, node.value)
        case _:
            yield from _other_bindings(node)


def _other_bindings(node: ast.AST) -> Iterator[tuple[str, Binding]]:
    """Lists the names that loops, blocks and patterns bind."""
    match node:
        case ast.withitem(optional_vars=ast.expr() as target):
            yield from _targets(target, node.context_expr)
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            yield from _targets(node.target, None)
        case ast.AugAssign():
            yield from _targets(node.target, None)
        case ast.ExceptHandler(name=str() as name):
            yield name, _UNKNOWN
        case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
            yield name, _UNKNOWN
        case _ if type(node).__name__ == "TypeAlias":  # since Python 3.12
            alias: ast.expr = getattr(node, "value")  # noqa: B009 - Python 3.11 does not know it
            yield from _targets(getattr(node, "name"), alias)  # noqa: B009 - as above
        case _:
            pass


def _targets(target: ast.expr, value: ast.expr | None) -> Iterator[tuple[str, Binding]]:
    """Lists the names in what is assigned to; only a name that gets the whole value is bound to it."""
    if isinstance(target, ast.Name):
        yield target.id, _UNKNOWN if value is None else Assigned(value)
        return
    for node in ast.walk(target):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, _UNKNOWN
