"""Finds steps, compensators, probes and sagas, with their options."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sagas.linting.findings import Kind
from sagas.linting.names import Place
from sagas.linting.scopes import is_function

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sagas.linting.names import Names
    from sagas.linting.project import Project
    from sagas.linting.scopes import Function, Module, Scope

__all__ = ["Declarations", "Declared"]

_ATTACHED = {"compensator": Kind.COMPENSATOR, "probe": Kind.PROBE}
_OWN = {"sagas.step": Kind.STEP, "sagas.saga": Kind.SAGA}


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """A function that a decorator declares.

    Attributes:
        kind: As what.
        node: The function.
        scope: Where it is defined.
        options: Those of the decorator, by name.
        options_scope: Where they are written.
        of: Of a compensator or probe, its step.
    """

    kind: Kind
    node: Function
    scope: Scope
    options: Mapping[str, ast.expr] = field(default_factory=dict[str, ast.expr])
    options_scope: Scope | None = None
    of: Declared | None = None

    @property
    def name(self) -> str:
        """What findings call it."""
        return self.node.name

    @property
    def where(self) -> str:
        """What findings call it, with what it is."""
        return f"{self.kind.value} {self.name}"

    @property
    def inner(self) -> Scope:
        """The names in it."""
        return self.scope.of_module.scopes[self.node]

    def is_set(self, option: str) -> bool:
        """Says whether an option is plainly ``True``."""
        value = self.options.get(option)
        return isinstance(value, ast.Constant) and value.value is True


class Declarations:
    """All declarations of a project, found as they are asked for."""

    def __init__(self, project: Project, names: Names) -> None:
        self._project = project
        self._names = names
        self._known: dict[tuple[ast.AST, ast.AST | None], Declared | None] = {}
        self._attached: dict[ast.AST, list[Declared | ast.Call]] = {}
        self._scanned: set[Module] = set()

    def of_place(self, place: Place | None) -> Declared | None:
        """Says as what a function is declared, if it is."""
        if place is None or not isinstance(place.node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return None
        key = (place.node, place.made_by)
        if key not in self._known:
            self._known[key] = None  # a declaration that needs itself is none
            self._known[key] = self._made(place) if place.made_by is not None else self._decorated(place)
        return self._known[key]

    def of(self, expression: ast.expr | None, scope: Scope) -> Declared | None:
        """Says which declaration an expression means, if it does."""
        found = self._names.meaning(expression, scope)
        return self.of_place(found) if isinstance(found, Place) else None

    def _made(self, place: Place) -> Declared | None:
        """Reads ``step(function)`` and ``step(retry=…)(function)``."""
        call, node = place.made_by, place.node
        assert call is not None
        assert not isinstance(node, ast.ClassDef)
        kind = _OWN.get(self._names.dotted(call.func, place.scope))
        return None if kind is None else Declared(kind, node, place.scope, _options(call), place.scope)

    def _decorated(self, place: Place) -> Declared | None:
        """Reads the decorators of a function; the first that is known decides."""
        node, scope = place.node, place.scope
        assert not isinstance(node, ast.ClassDef)
        if isinstance(scope.node, ast.ClassDef):
            return None
        for decorator in node.decorator_list:
            options = _options(decorator) if isinstance(decorator, ast.Call) else {}
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            kind = _OWN.get(self._names.dotted(function, scope))
            if kind is not None:
                return Declared(kind, node, scope, options, scope)
            step = self._attached_to(function, scope)
            if step is not None:
                assert isinstance(function, ast.Attribute)
                return Declared(_ATTACHED[function.attr], node, scope, options, scope, step)
        return None

    def _attached_to(self, function: ast.expr, scope: Scope) -> Declared | None:
        """Gives the step to which ``step.compensator`` or ``step.probe`` attaches something."""
        if not (isinstance(function, ast.Attribute) and function.attr in _ATTACHED):
            return None
        step = self.of(function.value, scope)
        return step if step is not None and step.kind is Kind.STEP else None

    def in_module(self, module: Module) -> Iterator[Declared]:
        """Lists what is declared in a file, in the order of the text."""
        for node, scope in module.home.items():
            if is_function(node):
                assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                declared = self.of_place(Place(node, scope))
                if declared is not None:
                    yield declared

    def attached(self, step: Declared, kind: Kind) -> list[Declared | ast.Call]:
        """Lists the compensators or probes of a step, as far as the files that were read so far tell."""
        for module in list(self._project.read):
            self._scan(module)
        name = kind.value
        return [
            one
            for one in self._attached.get(step.node, [])
            if (one.kind is kind if isinstance(one, Declared) else _attribute(one) == name)
        ]

    def _scan(self, module: Module) -> None:
        """Notes what a file attaches to steps."""
        if module in self._scanned:
            return
        self._scanned.add(module)
        for declared in self.in_module(module):
            if declared.of is not None:
                self._attached.setdefault(declared.of.node, []).append(declared)
        for scope in module.scopes.values():
            self._scan_calls(scope)

    def _scan_calls(self, scope: Scope) -> None:
        """Notes ``step.compensator(function)`` and ``step.compensator(retry=…)(function)``."""
        for node in ast.iter_child_nodes(scope.node):
            for call in ast.walk(node) if not is_function(node) else ():
                if isinstance(call, ast.Call) and call.args:
                    function = call.func.func if isinstance(call.func, ast.Call) else call.func
                    step = self._attached_to(function, scope)
                    if step is not None:
                        self._attached.setdefault(step.node, []).append(call)


def _options(call: ast.Call) -> dict[str, ast.expr]:
    """Gives the options of a decorator."""
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}


def _attribute(call: ast.Call) -> str:
    """Gives what a call attaches."""
    function = call.func.func if isinstance(call.func, ast.Call) else call.func
    return function.attr if isinstance(function, ast.Attribute) else ""
