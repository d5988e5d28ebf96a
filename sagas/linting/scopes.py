"""What each name in a file is bound to: an import, a definition, a value, a parameter."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sagas.linting.source import Source

__all__ = [
    "Assigned",
    "Binding",
    "Defined",
    "Function",
    "Given",
    "Imported",
    "Module",
    "Scope",
    "Unknown",
    "is_function",
    "own_nodes",
]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class Imported:
    """A name that an import binds to something, by its full name; perhaps for type checkers only."""

    dotted: str
    typing_only: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Defined:
    """A name that ``def`` or ``class`` binds."""

    node: Function | ast.ClassDef


@dataclass(frozen=True, slots=True, eq=False)
class Assigned:
    """A name that is bound to the value of an expression, once."""

    value: ast.expr


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A parameter."""

    parameter: ast.arg


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that is bound to different things, or to what cannot be told."""


Binding: TypeAlias = Imported | Defined | Assigned | Given | Unknown
_UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """A file with its names.

    Attributes:
        source: The file.
        package: Full name of the package that it is in; what relative imports are relative to.
        scope: Its names.
        scopes: The scopes of its functions and classes, by their nodes.
        home: The scope in which each function and class is defined.
    """

    source: Source
    package: tuple[str, ...]
    scope: Scope
    scopes: dict[ast.AST, Scope]
    home: dict[ast.AST, Scope]


@dataclass(slots=True, eq=False)
class Scope:
    """The names of a module, function or class.

    Attributes:
        node: Whose they are.
        parent: The scope around it.
        bindings: What each name is.
        values: All values that a name is ever bound to.
        stars: Full names of the modules from which everything is imported.
        shared: Names that ``global`` declares.
    """

    node: ast.AST
    parent: Scope | None = None
    module: Module | None = None
    bindings: dict[str, Binding] = field(default_factory=dict[str, Binding])
    values: dict[str, list[ast.expr]] = field(default_factory=dict[str, list[ast.expr]])
    stars: list[str] = field(default_factory=list[str])
    shared: set[str] = field(default_factory=set[str])

    def bind(self, name: str, binding: Binding) -> None:
        """Binds a name. The last definition or import wins; any other second binding leaves it unknown."""
        before = self.bindings.get(name)
        if isinstance(binding, Assigned):
            self.values.setdefault(name, []).append(binding.value)
        if isinstance(before, Imported) and isinstance(binding, Imported) and binding.typing_only:
            return
        again = (Defined, Imported)
        if before is None or (isinstance(before, again) and isinstance(binding, again)):
            self.bindings[name] = binding
        else:
            self.bindings[name] = _UNKNOWN

    def lookup(self, name: str) -> tuple[Binding, Scope] | None:
        """Finds a name from here, as Python does: names of a class are seen only in the class itself."""
        scope: Scope | None = self
        while scope is not None:
            visible = scope is self or not isinstance(scope.node, ast.ClassDef)
            if visible and name in scope.bindings and name not in scope.shared:
                return scope.bindings[name], scope
            scope = scope.parent
        return None

    @property
    def of_module(self) -> Module:
        """The module in which it is."""
        scope: Scope = self
        while scope.parent is not None:
            scope = scope.parent
        assert scope.module is not None, "a root scope belongs to its module"
        return scope.module


def is_function(node: ast.AST | None) -> bool:
    """Says whether it is a ``def`` or an ``async def``."""
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def own_nodes(root: ast.AST, hidden: Container[ast.AST] = ()) -> Iterator[ast.AST]:
    """Goes through what a function or module itself does, in the order of the text.

    A definition inside is given, with its decorators and defaults, but not what is in it; a lambda is.

    Args:
        root: The function, class or module.
        hidden: What to leave out, with all that is in it.
    """
    waiting = list(_children(root))[::-1]
    while waiting:
        node = waiting.pop()
        if node in hidden:
            continue
        yield node
        inner = _outside(node) if isinstance(node, _DEFINITIONS) else _children(node)
        waiting.extend(list(inner)[::-1])


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Gives what is directly in a node; of a function only its body."""
    if isinstance(node, (*_DEFINITIONS, ast.Module)):
        yield from node.body
    else:
        yield from ast.iter_child_nodes(node)


def _outside(node: Function | ast.ClassDef) -> Iterator[ast.AST]:
    """Gives what of a definition is evaluated where it stands."""
    yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        yield from node.bases
    else:
        yield from node.args.defaults
        yield from (default for default in node.args.kw_defaults if default is not None)
