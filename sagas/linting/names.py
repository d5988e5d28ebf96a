"""Finds out what an expression means: something that is defined in the project, or something else by its full name."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sagas.linting.scopes import Assigned, Binding, Defined, Function, Given, Imported, Scope

if TYPE_CHECKING:
    from sagas.linting.project import Project
    from sagas.linting.scopes import Module

__all__ = ["DECORATORS", "LIBRARY", "OPERATIONS", "Meaning", "Names", "Place"]

OPERATIONS = frozenset(
    {
        "emit", "gather", "lock", "map_each", "now", "race", "random", "receive", "record", "scope", "sleep",
        "sleep_until", "uuid4", "version",
    }
)  # fmt: skip
DECORATORS = frozenset({"saga", "step"})
LIBRARY = frozenset(
    {
        *OPERATIONS, *DECORATORS, "Client", "Coordinator", "Deadlock", "Event", "LockTimeout", "ReceiveTimeout",
        "Rejected", "Retry", "SagaError", "StepFailed", "StepInDoubt", "current_step",
    }
)  # fmt: skip
_BUILTINS = frozenset(dir(builtins))
_DEEPEST = 40


@dataclass(frozen=True, slots=True)
class Place:
    """A definition in the project.

    Attributes:
        node: The function or class.
        scope: Where it is defined.
        made_by: The call that makes it a step or saga without a decorator, as in ``step(retry=…)(function)``.
    """

    node: Function | ast.ClassDef
    scope: Scope
    made_by: ast.Call | None = None


# A text is the full name of what is not in the project; a call of it ends in ``()``.
Meaning: TypeAlias = Place | str | None


class Names:
    """Tells what names mean, across the files of a project."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def meaning(self, expression: ast.expr | None, scope: Scope, depth: int = 0) -> Meaning:
        """Says what an expression means, or gives ``None`` if that cannot be told."""
        if depth > _DEEPEST:
            return None
        match expression:
            case ast.Name():
                return self._name(expression.id, scope, depth)
            case ast.Attribute():
                base = self.meaning(expression.value, scope, depth + 1)
                return self.find(f"{base}.{expression.attr}", depth) if isinstance(base, str) else None
            case ast.Call():
                return self._call(expression, scope, depth)
            case ast.Await():
                return self.meaning(expression.value, scope, depth + 1)
            case ast.BinOp(op=ast.Div()):
                base = self.meaning(expression.left, scope, depth + 1)
                return base if isinstance(base, str) and base.startswith("pathlib.") else None
            case _:
                return None

    def dotted(self, expression: ast.expr | None, scope: Scope) -> str:
        """Gives the full name of what is not in the project, or ``""``."""
        found = self.meaning(expression, scope)
        return found if isinstance(found, str) else ""

    def _call(self, call: ast.Call, scope: Scope, depth: int) -> Meaning:
        """Says what a call gives: ``something()``, or the step that it makes of a function."""
        made = self.meaning(call.func, scope, depth + 1)
        if not isinstance(made, str):
            return None
        if call.args and made in ("sagas.step", "sagas.saga", "sagas.step()", "sagas.saga()"):
            place = self.meaning(call.args[0], scope, depth + 1)
            options = call.func if made.endswith("()") else call
            if isinstance(place, Place) and isinstance(options, ast.Call):
                return Place(place.node, place.scope, options)
        return f"{made}()"

    def _name(self, name: str, scope: Scope, depth: int) -> Meaning:
        """Says what a name means."""
        found = scope.lookup(name)
        if found is not None:
            return self._bound(*found, depth)
        for star in scope.of_module.scope.stars:
            meaning = self.find(f"{star}.{name}", depth)
            if isinstance(meaning, Place) or (isinstance(meaning, str) and _is_library(meaning)):
                return meaning
        known = name in _BUILTINS and not scope.of_module.scope.stars
        return f"builtins.{name}" if known else None

    def _bound(self, binding: Binding, scope: Scope, depth: int) -> Meaning:
        """Says what a bound name means."""
        match binding:
            case Imported():
                return self.find(binding.dotted, depth)
            case Defined():
                return Place(binding.node, scope)
            case Assigned():
                return self.meaning(binding.value, scope, depth + 1)
            case Given(parameter) if parameter.annotation is not None:
                kind = self.meaning(parameter.annotation, scope.parent or scope, depth + 1)
                return f"{kind}()" if isinstance(kind, str) else None
            case _:
                return None

    def find(self, dotted: str, depth: int = 0) -> Meaning:
        """Says what a full name means: it is followed into the project as far as that is possible."""
        if "()" in dotted or depth > _DEEPEST:
            return dotted
        if _is_library(dotted):
            return f"sagas.{dotted.rpartition('.')[2]}"
        parts = dotted.split(".")
        for number in range(len(parts) - 1, 0, -1):
            module = self._project.module(".".join(parts[:number]))
            if module is not None:
                return self._in_module(module, parts[number:], dotted, depth)
        return dotted

    def _in_module(self, module: Module, rest: list[str], dotted: str, depth: int) -> Meaning:
        """Finds a name in a module of the project."""
        if len(rest) != 1:
            return dotted
        binding = module.scope.bindings.get(rest[0])
        if binding is not None:
            return self._bound(binding, module.scope, depth + 1)
        for star in module.scope.stars:
            meaning = self.find(f"{star}.{rest[0]}", depth + 1)
            if isinstance(meaning, Place):
                return meaning
        return dotted


def _is_library(dotted: str) -> bool:
    """Recognizes what this library offers, also by the full names of its own modules."""
    module, _, name = dotted.rpartition(".")
    if name not in LIBRARY:
        return False
    return module in ("sagas", "sagas.entropy", "sagas.errors") or module.startswith(
        ("sagas.core", "sagas.coordinator")
    )
