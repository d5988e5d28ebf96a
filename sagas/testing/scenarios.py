"""Draws what runs are played from: inputs, and chains of faults of which each is known to happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sagas.core.operations import SagaCall
from sagas.errors import RequestError
from sagas.testing.faults import Fault
from sagas.testing.runs import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.core.definitions import Saga
    from sagas.testing.runs import Run
    from sagas.testing.simulator import Simulator

__all__ = ["Inputs", "calls_of", "explore", "further"]

Ex = TypeVar("Ex")
Inputs = SearchStrategy[Any] | Mapping[str, SearchStrategy[Any]] | None
_MOST_ANSWERS = 3


class Draw(Protocol):
    """How hypothesis draws."""

    def __call__(self, strategy: SearchStrategy[Ex], /) -> Ex:
        """Draws a value."""
        ...


def calls_of(saga: Saga[..., Any], inputs: Inputs) -> SearchStrategy[SagaCall[Any]]:
    """Makes a strategy of calls of a saga.

    Args:
        saga: The saga.
        inputs: A strategy of calls (``st.builds(place_order, …)``), or of values for its one parameter, or a mapping
            of strategies for its parameters by name; for others, and by default for all, what their types allow.

    Raises:
        RequestError: It has no parameter of a name that is in the mapping, or not exactly one for a strategy.
    """
    names = saga.parameters.names
    if isinstance(inputs, SearchStrategy):
        return inputs.map(lambda value: _as_call(saga, value))
    given = dict(inputs or {})
    unknown = set(given) - set(names)
    if unknown:
        raise RequestError(f"{saga.where} has no parameter {', '.join(sorted(unknown))}; it has: {', '.join(names)}")
    hints: Mapping[str, Any] = saga.parameters.hints()
    values = {name: given[name] if name in given else st.from_type(hints[name]) for name in names}
    return st.fixed_dictionaries(values).map(lambda arguments: saga(**arguments))


def _as_call(saga: Saga[..., Any], value: Any) -> SagaCall[Any]:
    """Makes a call of what a strategy gave."""
    if isinstance(value, SagaCall):
        return value  # pyright: ignore[reportUnknownVariableType]  # of whatever it returns
    if len(saga.parameters.names) != 1:
        raise RequestError(
            f"{saga.where} has {len(saga.parameters.names)} parameters, so inputs= has to be a mapping of strategies "
            f"by name, or a strategy of calls: st.builds({saga.name}, …)"
        )
    return saga(value)


def further(run: Run) -> Iterator[tuple[int, Fault]]:
    """Lists what could go wrong in addition, after the last fault of a run; each with its position in the run."""
    last = -1
    for position, place in enumerate(run.opportunities):
        if any((x.at, x.nth) == (place.at, place.nth) for x in run.fired):
            last = position
    for position, place in enumerate(run.opportunities):
        if position > last:
            for what in place.options:
                yield position, Fault(what, place.at, place.nth)


def explore(draw: Draw, simulator: Simulator, call: SagaCall[Any], most: int) -> Run:
    """Draws a run: one fault after the other, each from what the run before came by.

    Every run on the way is held against the laws too; the first that breaks one is given.

    Args:
        draw: Of hypothesis.
        simulator: Plays the runs.
        call: The saga.
        most: How many faults, at most.
    """
    count = draw(st.integers(0, most))
    run = simulator.run(Scenario(call))
    answers: tuple[int, ...] = ()
    if not run.broken and any(x.at.startswith("signal ") for x in run.opportunities):
        answers = tuple(draw(st.lists(st.integers(0, 9), max_size=_MOST_ANSWERS)))
        if answers:
            run = simulator.run(Scenario(call, answers=answers))
    for _ in range(count):
        options = [] if run.broken else [fault for _, fault in further(run)]
        if not options:
            break
        faults = (*run.scenario.faults, options[draw(st.integers(0, len(options) - 1))])
        run = simulator.run(Scenario(call, faults, answers))
    return run
