"""Finished simulated runs, as a hypothesis strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from sagas.testing.checking import failure_of
from sagas.testing.scenarios import calls_of, explore
from sagas.testing.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy
    from sqlalchemy import Engine

    from sagas.core.definitions import Saga, Step
    from sagas.testing.runs import Run
    from sagas.testing.scenarios import Inputs

__all__ = ["runs"]


def runs(
    saga: Saga[..., Any],
    *,
    inputs: Inputs = None,
    world: Callable[[], Any] | None = None,
    view: Callable[[Any], Any] | None = None,
    signals: Mapping[str, SearchStrategy[Any]] | None = None,
    steps: Sequence[Step[..., Any]] = (),
    deploys: Sequence[Saga[..., Any]] = (),
    late: bool = False,
    database: Callable[[Any], Engine] | None = None,
    most: int = 4,
) -> SearchStrategy[Run]:
    """Gives a strategy of finished runs: ``@given(runs(place_order, world=Shop))``.

    Each was held against the laws already.

    Args:
        saga: See ``check``.
        inputs: See ``check``.
        world: See ``check``.
        view: See ``check``.
        signals: See ``check``.
        steps: See ``check``.
        deploys: See ``check``.
        late: See ``check``.
        database: See ``check``.
        most: How many faults there may be in a run.

    Raises:
        CheckFailed: While drawing: a law does not hold.
    """
    simulator = Simulator(
        saga, world=world, view=view, signals=signals, steps=steps, deployed=deploys, late=late, database=database
    )  # fmt: skip
    calls = calls_of(saga, inputs)

    @st.composite
    def draw_run(draw: DrawFn) -> Run:
        run = explore(draw, simulator, draw(calls), most)
        if run.broken:
            raise failure_of(simulator, run)
        return run

    return draw_run()
