"""Plays one planned run, and makes sure that it went as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.testing.checking import CheckFailed, failure_of
from sagas.testing.runs import Scenario
from sagas.testing.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypothesis.strategies import SearchStrategy
    from sqlalchemy import Engine

    from sagas.core.definitions import Saga, Step
    from sagas.core.operations import SagaCall
    from sagas.testing.faults import Fault
    from sagas.testing.runs import Run

__all__ = ["play"]


def play(
    call: SagaCall[Any],
    *faults: Fault,
    answers: tuple[int, ...] = (),
    world: Callable[[], Any] | None = None,
    view: Callable[[Any], Any] | None = None,
    invariants: Sequence[Callable[..., object]] = (),
    always: Sequence[Callable[[Any], object]] = (),
    signals: Mapping[str, SearchStrategy[Any]] | None = None,
    steps: Sequence[Step[..., Any]] = (),
    deploys: Sequence[Saga[..., Any]] = (),
    late: bool = False,
    database: Callable[[Any], Engine] | None = None,
) -> Run:
    """Plays a simulated run with just these faults: ``play(place_order("lamp"), Fault("lost reply", at="charge"))``.

    Args:
        call: The saga and its input.
        *faults: What goes wrong.
        answers: Which of the possible payloads each signal has.
        world: See ``check``, as for all that follows.
        view: See there.
        invariants: See there.
        always: See there.
        signals: See there.
        steps: See there.
        deploys: See there.
        late: See there.
        database: See there.

    Raises:
        CheckFailed: A law does not hold, or a fault never happened.
        RequestError: Steps are transactional, and there is no database.
    """
    __tracebackhide__ = True
    simulator = Simulator(
        call.saga, world=world, view=view, invariants=invariants, always=always, signals=signals, steps=steps,
        deployed=deploys, late=late, database=database,
    )  # fmt: skip
    run = simulator.run(Scenario(call, faults, answers), watch=True)
    if run.broken:
        raise failure_of(simulator, run)
    if run.missed:
        raise CheckFailed(_missed(run), run, "a planned fault happens")
    return run


def _missed(run: Run) -> str:
    """Says which faults never happened, and where there could have been others."""
    places: dict[str, int] = {}
    for place in run.opportunities:
        places[place.at] = max(places.get(place.at, 0), place.nth)
    came_by = ", ".join(at if nth == 1 else f"{at} ({nth} times)" for at, nth in places.items())
    never = "\n".join(f"  {fault!r} never happened" for fault in run.missed)
    saga = run.scenario.call.saga.name
    return f"saga {saga}: a planned fault happens — is broken\n\n{never}\n\n  it came by: {came_by}"
