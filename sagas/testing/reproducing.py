"""Plays one run again instead of drawing any, and draws the same ones again."""

from __future__ import annotations

import functools
import inspect
import os
import random
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from sagas.errors import RequestError
from sagas.testing.runs import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sagas.core.definitions import Saga
    from sagas.core.operations import SagaCall
    from sagas.testing.faults import Fault

__all__ = ["planned", "reproduce", "seed_of_session"]

P = ParamSpec("P")
R = TypeVar("R")

_SEED = "SAGAS_SEED"


@dataclass(slots=True)
class _Plan:
    """A run that is to be played.

    Attributes:
        scenario: The run.
        played: Whether it was.
    """

    scenario: Scenario
    played: bool = False


_planned: ContextVar[tuple[_Plan, ...]] = ContextVar("sagas_planned", default=())


def reproduce(
    call: SagaCall[Any], *faults: Fault, answers: tuple[int, ...] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Has ``check`` in a test play just this run of this saga: what a failure prints, pasted above the test.

    Args:
        call: The saga and its input.
        *faults: What goes wrong.
        answers: What the signals say; see ``play``.
    """
    scenario = Scenario(call, faults, answers)

    def decorate(test: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def play_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with _plan(scenario):
                    return await test(*args, **kwargs)

            return cast("Callable[P, R]", play_async)

        @functools.wraps(test)
        def play(*args: P.args, **kwargs: P.kwargs) -> R:
            with _plan(scenario):
                return test(*args, **kwargs)

        return play

    return decorate


@contextmanager
def _plan(scenario: Scenario) -> Generator[None]:
    """Has checks play a run.

    Raises:
        AssertionError: None did.
    """
    plan = _Plan(scenario)
    token = _planned.set((*_planned.get(), plan))
    try:
        yield
    finally:
        _planned.reset(token)
    if not plan.played:
        name = scenario.call.saga.name
        raise AssertionError(f"{scenario!r}: this test checks no saga {name}, so that run was not played")


def planned(saga: Saga[..., Any]) -> Scenario | None:
    """Gives the run of a saga that is to be played instead of any other."""
    found = next((x for x in _planned.get() if x.scenario.call.saga is saga), None)
    if found is None:
        return None
    found.played = True
    return found.scenario


def seed_of_session() -> int:
    """Gives the seed that the environment names (``SAGAS_SEED``, which ``pytest --sagas-seed`` sets), or a new one.

    Raises:
        RequestError: It is no number.
    """
    named = os.environ.get(_SEED)
    if not named:
        return random.SystemRandom().randrange(1 << 32)
    if not named.strip().isdecimal():
        raise RequestError(f"the environment variable {_SEED} has to be a whole number, and is {named!r}")
    return int(named)
