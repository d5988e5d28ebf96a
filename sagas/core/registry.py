"""Finds the steps and child sagas that belong to some sagas."""

from __future__ import annotations

from types import CodeType
from typing import TYPE_CHECKING, Any, cast

from sagas.core.definitions import Saga, Step
from sagas.core.versions import newest
from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Registry", "codes", "mentioned", "mentioned_steps", "steps_around"]


class Registry:
    """The definitions that a process has.

    Steps are found in the modules and the enclosing functions of the given sagas, so that a rollback finds a
    compensator even when the body no longer calls its step.

    Args:
        sagas: To run.
        steps: To know in addition; they win over steps found under the same name.
        find_steps: Whether to look for steps, which who runs none can do without.

    Raises:
        DeclarationError: Two different sagas have the same name and version, or something is no saga or step.
    """

    def __init__(
        self, sagas: Iterable[Saga[..., Any]], steps: Iterable[Step[..., Any]] = (), *, find_steps: bool = True
    ) -> None:
        self._find_steps = find_steps
        self.steps: dict[str, Step[..., Any]] = {}
        self._sagas: dict[tuple[str, str], Saga[..., Any]] = {}
        self._heirs: dict[tuple[str, str], Saga[..., Any]] = {}
        for step in steps:
            if not isinstance(step, Step):
                raise DeclarationError(f"steps=[{step!r}]: that is no step; decorate it with @step")
            self.steps[step.name] = step
        self._given = frozenset(self.steps)
        for saga in sagas:
            self.add(saga)

    def add(self, saga: Saga[..., Any]) -> None:
        """Adds a saga and what belongs to it.

        Raises:
            DeclarationError: Another one has its name and version, or two of its steps have one name.
        """
        if not isinstance(saga, Saga):
            raise DeclarationError(f"sagas=[{saga!r}]: that is no saga; decorate it with @saga")
        saga.resolve()
        key = (saga.name, saga.version)
        if self._sagas.setdefault(key, saga) is not saga:
            raise DeclarationError(
                f"two sagas are named {saga.name!r} version {saga.version!r}; give one another name= or version="
            )
        for version in saga.continues:
            self._inherit(saga, version)
        for step in steps_around(saga) if self._find_steps else ():
            step.resolve()
            known = self.steps.setdefault(step.name, step)
            if known is not step and step.name not in self._given:
                raise DeclarationError(
                    f"two steps are named {step.name!r} ({_home(known)} and {_home(step)}). A rollback finds a step "
                    "by its name, so give one another with @step(name=…), or say which with Coordinator(…, steps=[…])"
                )

    def _inherit(self, saga: Saga[..., Any], version: str) -> None:
        """Notes that a body goes on with sagas of another version.

        Raises:
            DeclarationError: Another one does so too.
        """
        heir = self._heirs.setdefault((saga.name, version), saga)
        if heir is not saga:
            raise DeclarationError(
                f"saga {saga.name}: both version {heir.version!r} and version {saga.version!r} say that they continue "
                f"version {version!r}; leave it to one of them"
            )

    def find(self, name: str, version: str) -> Saga[..., Any] | None:
        """Gives the definition of a saga: of this very version, or one that continues it."""
        return self._sagas.get((name, version)) or self._heirs.get((name, version))

    def versions(self, name: str) -> tuple[str, ...]:
        """Lists the versions of a saga that have a definition of their own."""
        return tuple(version for known, version in self._sagas if known == name)

    def newest(self, name: str) -> Saga[..., Any] | None:
        """Gives the definition of a saga's greatest version, in their natural order."""
        versions = self.versions(name)
        return self._sagas[name, newest(versions)] if versions else None

    @property
    def code(self) -> tuple[str, ...]:
        """Lists the sagas that there is code for, each as ``name@version``."""
        return tuple(sorted({f"{name}@{version}" for name, version in (*self._sagas, *self._heirs)}))

    def mentioned(self) -> frozenset[str]:
        """Names the steps that bodies mention themselves; they may call others, through helpers."""
        return frozenset(name for saga in self._sagas.values() for name in mentioned_steps(saga))

    def __contains__(self, saga: Saga[..., Any]) -> bool:
        """Says whether this very saga was added."""
        return self._sagas.get((saga.name, saga.version)) is saga


def mentioned_steps(saga: Saga[..., Any]) -> set[str]:
    """Names the steps that a body mentions."""
    return {x.name for x in mentioned(saga.function) if isinstance(x, Step)}


def mentioned(function: Any) -> Iterator[object]:
    """Gives what a function, and those that it defines, mention by a name of its closure or its module."""
    visible = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if _filled(cell):
            visible[name] = cell.cell_contents
    for code in codes(function.__code__):
        for name in (*code.co_names, *code.co_freevars):
            if name in visible:
                yield visible[name]


def codes(code: CodeType) -> Iterator[CodeType]:
    """Walks a function's code, and that of those that it defines."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def steps_around(saga: Saga[..., Any], seen: set[int] | None = None) -> Iterator[Step[..., Any]]:
    """Walks the names that a body can see: its closure first, then its module."""
    seen = seen if seen is not None else set()
    if id(saga) in seen:
        return
    seen.add(id(saga))
    cells = [cell for cell in saga.function.__closure__ or () if _filled(cell)]
    visible = [cell.cell_contents for cell in cells] + list(saga.function.__globals__.values())
    for value in visible:
        if isinstance(value, Step):
            yield value
        elif isinstance(value, Saga):
            yield from steps_around(cast("Saga[..., Any]", value), seen)


def _home(step: Step[..., Any]) -> str:
    """Says where a step is defined."""
    return f"{step.function.__module__}.{step.function.__qualname__}"


def _filled(cell: Any) -> bool:
    """Says whether a closure's variable has a value yet."""
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
