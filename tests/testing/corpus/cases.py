"""What a module of the corpus says about its sagas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypothesis.strategies import SearchStrategy
    from sqlalchemy import Engine

    from sagas import Saga

__all__ = ["Found", "Options", "Read", "Right"]


class Options(TypedDict, total=False):
    """What ``sagas.testing.check`` is told beside the saga."""

    inputs: SearchStrategy[Any] | Mapping[str, SearchStrategy[Any]]
    world: Callable[[], Any]
    view: Callable[[Any], Any]
    invariants: Sequence[Callable[..., object]]
    always: Sequence[Callable[[Any], object]]
    signals: Mapping[str, SearchStrategy[Any]]
    deploys: Sequence[Saga[..., Any]]
    late: bool
    database: Callable[[Any], Engine]


@dataclass(frozen=True, slots=True)
class Found:
    """A wrong saga, which ``sagas.testing.check`` finds.

    Attributes:
        saga: The saga; its docstring says what is wrong and who reported it.
        law: What it breaks.
        faults: How many it takes, at most.
        options: Of the check.
    """

    saga: Saga[..., Any]
    law: str
    faults: int
    options: Options


@dataclass(frozen=True, slots=True)
class Read:
    """A wrong saga, which ``sagas check`` finds by its text.

    Attributes:
        saga: See ``Found``.
        rule: What is found.
        name: In what: the saga, or one of its steps.
    """

    saga: Saga[..., Any]
    rule: str
    name: str


@dataclass(frozen=True, slots=True)
class Right:
    """A right saga.

    Attributes:
        saga: The saga.
        options: Of the check.
        never_called: Steps that are rightly never called.
        never_undone: Steps that are rightly never undone.
    """

    saga: Saga[..., Any]
    options: Options
    never_called: tuple[str, ...] = ()
    never_undone: tuple[str, ...] = ()
