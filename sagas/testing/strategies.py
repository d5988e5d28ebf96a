"""Finished simulated runs, as a hypothesis strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from hypothesis import strategies as st

from sagas.testing.checking import failure_of
from sagas.testing.scenarios import calls_of, explore
from sagas.testing.simulator import Simulator

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

    from sagas.core.definitions import Saga
    from sagas.testing.options import Options
    from sagas.testing.runs import Run
    from sagas.testing.scenarios import Inputs

__all__ = ["runs"]


def runs(
    saga: Saga[..., Any],
    *,
    inputs: Inputs = None,
    most: int = 4,
    **options: Unpack[Options],
) -> SearchStrategy[Run]:
    """Gives a strategy of finished runs: ``@given(runs(place_order, world=Shop))``.

    Each was held against the laws already.

    Args:
        saga: See ``check``.
        inputs: See ``check``.
        most: How many faults there may be in a run.
        **options: ``world``, ``view``, ``invariants``, ``always``, ``signals``, ``steps``, ``deploys``, ``late`` and
            ``database``, as for ``check``.

    Raises:
        CheckFailed: While drawing: a law does not hold.
    """
    simulator = Simulator(saga, **options)
    calls = calls_of(saga, inputs)

    @st.composite
    def draw_run(draw: DrawFn) -> Run:
        run = explore(draw, simulator, draw(calls), most)
        if run.broken:
            raise failure_of(simulator, run)
        return run

    return draw_run()
