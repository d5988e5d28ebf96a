"""Checks what a body changes outside of itself, and the order in which it goes through sets."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from sagas.linting.scopes import Assigned, Given, Unknown, own_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.linting.context import Context
    from sagas.linting.reach import Reached
    from sagas.linting.scopes import Scope

__all__ = ["changed_globals", "check_order", "check_state", "is_mutable"]

_MUTATORS = frozenset(
    {
        "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
        "intersection_update", "pop", "popitem", "popleft", "remove", "reverse", "rotate", "setdefault", "sort",
        "subtract", "symmetric_difference_update", "update",
    }
)  # fmt: skip
_CONTAINERS = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": ("bytearray", "dict", "list", "set"),
        "collections": ("Counter", "OrderedDict", "defaultdict", "deque"),
    }.items()
    for name in names
)
_DISPLAYS = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
_SETS = ("builtins.set", "builtins.frozenset")
_SET_METHODS = frozenset({"difference", "intersection", "symmetric_difference", "union", "copy"})
# What these give does not depend on the order in which they are given things.
_FREE = frozenset(
    f"builtins.{name}" for name in ("all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum")
)
_ORDERED = frozenset({"builtins.enumerate", "builtins.iter", "builtins.list", "builtins.tuple", "sagas.map_each"})


def is_mutable(value: ast.expr, scope: Scope, context: Context) -> bool:
    """Says whether an expression makes a list, dict, set or the like."""
    if isinstance(value, ast.Call):
        return context.dotted(value.func, scope) in _CONTAINERS
    return isinstance(value, _DISPLAYS)


def check_state(one: Reached, context: Context) -> None:
    """Finds variables of the module that a body changes."""
    for node, name in changed_globals(one.nodes, one.scope, context):
        context.report(
            "global-state",
            one.scope,
            node,
            f"{one.where} changes {name}, a variable of the module: a replay changes it again, and other sagas see it",
        )


def changed_globals(nodes: tuple[ast.AST, ...], scope: Scope, context: Context) -> Iterator[tuple[ast.AST, str]]:
    """Lists the places where variables of the module are changed, and their names."""
    for node in nodes:
        name = _changes(node, scope)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
            name = _name_of_module(node.func.value, scope, context)
        if name:
            yield node, name


def _changes(node: ast.AST, scope: Scope) -> str:
    """Names the variable of the module that an assignment or ``del`` changes."""
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return node.id if node.id in scope.shared else ""
    if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
        return _name_of_module(node.value, scope, None)
    return ""


def _name_of_module(value: ast.expr, scope: Scope, context: Context | None) -> str:
    """Names the variable of the module that an expression is, if it is one; with a context, only if it can change."""
    if not isinstance(value, ast.Name):
        return ""
    found = scope.lookup(value.id)
    if found is None or found[1].parent is not None or not isinstance(found[0], (Assigned, Unknown)):
        return ""
    values = found[1].values.get(value.id, [])
    changeable = context is None or any(is_mutable(each, found[1], context) for each in values)
    return value.id if changeable else ""


def check_order(one: Reached, context: Context) -> None:
    """Finds sets that are gone through in the order of their hashes."""
    free: set[ast.AST] = set()
    for node in one.nodes:
        if isinstance(node, ast.Call) and context.dotted(node.func, one.scope) in _FREE:
            free.update(node.args)
        elif node not in free:
            for items in _ordered(node, one, context):
                if _is_set(items, one.scope, context):
                    context.report(
                        "unordered-iteration",
                        one.scope,
                        items,
                        f"{one.where} goes through a set in the order of its hashes, which is another one in every "
                        "process, so also when the body is replayed",
                    )


def _ordered(node: ast.AST, one: Reached, context: Context) -> Iterator[ast.expr]:
    """Lists what is gone through so that its order matters."""
    match node:
        case ast.For() | ast.AsyncFor() if _order_matters(node):
            yield node.iter
        case ast.ListComp():
            yield from (part.iter for part in node.generators)
        case ast.Starred(value=ast.expr() as value) if isinstance(node.ctx, ast.Load):
            inner = value.generators[0].iter if isinstance(value, ast.GeneratorExp) else value
            yield inner
        case ast.Call(func=ast.Attribute(attr="join"), args=[items]):
            yield items.generators[0].iter if isinstance(items, ast.GeneratorExp) else items
        case ast.Call(func=ast.Attribute(attr="pop", value=items), args=[]):
            yield items
        case ast.Call() if context.dotted(node.func, one.scope) in _ORDERED:
            for items in node.args:
                yield items.generators[0].iter if isinstance(items, ast.GeneratorExp) else items
        case _:
            pass


def _order_matters(loop: ast.For | ast.AsyncFor) -> bool:
    """Says whether a loop does something in order: awaits, collects, or stops before its end."""
    return any(
        isinstance(node, (ast.Await, ast.AsyncWith, ast.Return, ast.Break, ast.Yield))
        or (isinstance(node, ast.Attribute) and node.attr in ("append", "extend", "insert"))
        for node in own_nodes(ast.Module(loop.body, []))
    )


def _is_set(value: ast.expr, scope: Scope, context: Context, depth: int = 0) -> bool:
    """Says whether an expression is a set; one of numbers has the same order everywhere."""
    if depth > 10:  # noqa: PLR2004 - a chain of names that long is a circle
        return False
    match value:
        case ast.Set():
            return not all(isinstance(item, ast.Constant) and isinstance(item.value, int) for item in value.elts)
        case ast.SetComp():
            return True
        case ast.Call(func=ast.Attribute(attr=name, value=inner)) if name in _SET_METHODS:
            return _is_set(inner, scope, context, depth + 1)
        case ast.Call():
            return bool(value.args) and context.dotted(value.func, scope) in _SETS
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            return _is_set(value.left, scope, context, depth + 1) or _is_set(value.right, scope, context, depth + 1)
        case ast.Name():
            return _names_set(value.id, scope, context, depth)
        case _:
            return False


def _names_set(name: str, scope: Scope, context: Context, depth: int) -> bool:
    """Says whether a name is bound to a set, or a parameter that is annotated as one."""
    found = scope.lookup(name)
    if found is None:
        return False
    binding, where = found
    if isinstance(binding, Assigned):
        return _is_set(binding.value, where, context, depth + 1)
    kind = binding.parameter.annotation if isinstance(binding, Given) else None
    if not isinstance(kind, ast.Subscript) or (isinstance(kind.slice, ast.Name) and kind.slice.id == "int"):
        return False
    return context.dotted(kind.value, where) in _SETS
