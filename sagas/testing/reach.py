"""Finds the code that a saga body runs by itself: helpers, methods and child sagas, but no steps."""

from __future__ import annotations

import random
import sys
import typing
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, cast

from sagas.core.definitions import Saga, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, MutableMapping

__all__ = ["Reach", "codes_in"]

_MOST = 1_000


class Reach:
    """See the module.

    Args:
        saga: The saga.

    Attributes:
        functions: What its body may call of its author's own.
        generators: Random number generators that it can see.
        sets: Where sets are that it can see, each with its name there, or as the cell that holds it.
    """

    def __init__(self, saga: Saga[..., Any]) -> None:
        self.functions: list[FunctionType] = []
        self.generators: list[random.Random] = []
        self.sets: list[tuple[MutableMapping[str, Any] | Any, str]] = []
        self._seen: set[int] = set()
        self._values: list[Any] = [saga]
        while self._values and len(self._seen) < _MOST:
            self._visit(self._values.pop())

    def _visit(self, value: Any) -> None:
        """Looks at something that the body can see."""
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Saga):
            self._values += [value.function, *_types_in(cast("Saga[..., Any]", value))]
        elif isinstance(value, Step):
            self._values += _types_in(cast("Step[..., Any]", value))
        elif isinstance(value, FunctionType):
            self._visit_function(value)
        elif isinstance(value, MethodType):
            self._values.append(value.__func__)
        elif isinstance(value, partial):
            self._values.append(value.func)
        elif isinstance(value, random.Random):
            self.generators.append(value)
        elif isinstance(value, type):
            self._visit_class(value)
        elif not isinstance(value, (ModuleType, CodeType)) and _is_own(type(value).__module__):
            self._values.append(type(value))

    def _visit_function(self, function: FunctionType) -> None:
        """Looks at a function, and at what it names."""
        space = function.__globals__
        if not _is_own(str(space.get("__name__", "")), function.__code__.co_filename):
            return
        self.functions.append(function)
        names = {name for code in codes_in(function.__code__) for name in code.co_names}
        for name in names & space.keys():
            self._note(space[name], space, name)
            if isinstance(space[name], ModuleType):
                self._visit_module(space[name], names)
        for cell in function.__closure__ or ():
            if _is_filled(cell):
                self._note(cell.cell_contents, cell, "")
        self._values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]

    def _note(self, value: Any, space: Any, name: str) -> None:
        """Has something looked at; a set is noted with its place."""
        if type(value) in (set, frozenset):
            self.sets.append((space, name))
        else:
            self._values.append(value)

    def _visit_module(self, module: ModuleType, names: Iterable[str]) -> None:
        """Looks at what a function may mean in a module."""
        if _is_own(module.__name__, getattr(module, "__file__", None) or ""):
            space = vars(module)
            for name in names:
                if name in space:
                    self._note(space[name], space, name)

    def _visit_class(self, kind: type) -> None:
        """Looks at the methods of a class."""
        for base in kind.__mro__:
            module = sys.modules.get(base.__module__)
            if _is_own(base.__module__, getattr(module, "__file__", None) or ""):
                for value in list(vars(base).values()):
                    self._values += [x for x in _methods(value) if isinstance(x, FunctionType)]


def codes_in(code: CodeType) -> Iterator[CodeType]:
    """Walks a function's code, and that of what is defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes_in(constant)


def _methods(value: object) -> Iterator[object]:
    """Lists the functions that are behind an attribute of a class."""
    if isinstance(value, (staticmethod, classmethod)):
        yield cast("staticmethod[..., Any]", value).__func__
    elif isinstance(value, property):
        yield from (value.fget, value.fset)
    else:
        yield getattr(value, "func", value)  # of a cached property


def _types_in(declared: Saga[..., Any] | Step[..., Any]) -> Iterator[type]:
    """Lists the classes of arguments and results, whose methods a body may call."""
    return (kind for hint in declared.parameters.hints().values() for kind in _classes(hint))


def _classes(hint: object) -> Iterator[type]:
    """Lists the classes that an annotation names."""
    if isinstance(hint, type):
        yield hint
    for argument in typing.get_args(hint):
        yield from _classes(argument)


def _is_own(module: str, file: str = "") -> bool:
    """Says whether code is the author's own, and no library's."""
    top = module.partition(".")[0]
    return top not in sys.stdlib_module_names and top != "sagas" and "-packages" not in file.rpartition(".")[0]


def _is_filled(cell: Any) -> bool:
    """Says whether a closure's variable has a value yet."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
