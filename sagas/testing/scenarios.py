"""Draws what runs are played from: inputs, and chains of faults of which each is known to happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from sagas.core.operations import SagaCall, StepCall
from sagas.errors import RequestError
from sagas.testing.faults import Fault
from sagas.testing.runs import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.core.definitions import Saga, Step
    from sagas.testing.runs import Run
    from sagas.testing.simulator import Simulator

__all__ = ["Inputs", "calls_of", "ending_of", "explore", "further", "values_of"]

Ex = TypeVar("Ex")
Inputs = SearchStrategy[Any] | Mapping[str, SearchStrategy[Any]] | None
_MOST_ANSWERS = 3
_MOST_VISITS, _MOST_COMMITS = 3, 8


class Draw(Protocol):
    """How hypothesis draws."""

    def __call__(self, strategy: SearchStrategy[Ex], /) -> Ex:
        """Draws a value."""
        ...


@overload
def calls_of(declared: Saga[..., Any], inputs: Inputs) -> SearchStrategy[SagaCall[Any]]: ...
@overload
def calls_of(declared: Step[..., Any], inputs: Inputs) -> SearchStrategy[StepCall[Any]]: ...
def calls_of(declared: Saga[..., Any] | Step[..., Any], inputs: Inputs) -> SearchStrategy[Any]:
    """Makes a strategy of calls of a saga, or of a step.

    Args:
        declared: The saga or step.
        inputs: A strategy of calls (``st.builds(place_order, …)``), or of values for its one parameter, or a mapping
            of strategies for its parameters by name; for others, and by default for all, what their types allow.

    Raises:
        RequestError: It has no parameter of a name that is in the mapping, or not exactly one for a strategy.
    """
    if isinstance(inputs, SearchStrategy):
        return inputs.map(lambda value: _as_call(declared, value))
    values = values_of(declared, inputs)
    return st.fixed_dictionaries(values).map(lambda arguments: declared(**arguments))


def values_of(
    declared: Saga[..., Any] | Step[..., Any], inputs: Mapping[str, SearchStrategy[Any]] | None
) -> dict[str, SearchStrategy[Any]]:
    """Gives a strategy for each parameter of a saga or step; see ``calls_of``.

    Raises:
        RequestError: It has no parameter of a name that is in the mapping, or one whose type nothing says.
    """
    names = declared.parameters.names
    given = dict(inputs or {})
    unknown = set(given) - set(names)
    if unknown:
        raise RequestError(
            f"{declared.where} has no parameter {', '.join(sorted(unknown))}; it has: {', '.join(names) or 'none'}"
        )
    hints = declared.parameters.hints()
    untyped = [name for name in names if name not in given and name not in hints]
    if untyped:
        raise RequestError(
            f"{declared.where} does not say of which type {', '.join(untyped)} is; annotate it, or give a strategy: "
            f"inputs={{{untyped[0]!r}: …}}"
        )
    return {name: given[name] if name in given else st.from_type(cast("Any", hints[name])) for name in names}


def _as_call(declared: Saga[..., Any] | Step[..., Any], value: Any) -> Any:
    """Makes a call of what a strategy gave."""
    if isinstance(value, (SagaCall, StepCall)):
        return cast("Any", value)
    if not declared.parameters.names:
        raise RequestError(f"{declared.where} has no parameters, and inputs= gave {value!r} for one; leave inputs= out")
    if len(declared.parameters.names) != 1:
        raise RequestError(
            f"{declared.where} has {len(declared.parameters.names)} parameters, so inputs= has to be a mapping of "
            f"strategies by name, or a strategy of calls: st.builds({declared.name}, …)"
        )
    return declared(value)


def further(run: Run) -> Iterator[tuple[int, Fault]]:
    """Lists what could go wrong in addition, after the last fault of a run; each with its position in the run.

    What is tried again and again comes by the same places each time. So after a fault only the first visits of each
    place count, and the last.
    """
    last = -1
    for position, place in enumerate(run.opportunities):
        if any((x.at, x.nth) == (place.at, place.nth) for x in run.fired):
            last = position
    after = run.opportunities[last + 1 :]
    final = {place.at: place.nth for place in after}
    first = {place.at: place.nth for place in reversed(after)}
    for position, place in enumerate(after, last + 1):
        most = _MOST_COMMITS if place.at == "commit" else _MOST_VISITS
        if not run.fired or place.nth < first[place.at] + most or place.nth == final[place.at]:
            for what in place.options:
                yield position, Fault(what, place.at, place.nth)


def ending_of(run: Run) -> Fault | None:
    """Gives what can go wrong late in a run, so that what was done before is undone; ``None`` if nothing can."""
    if run.status != "completed":
        return None
    later = [fault for _, fault in further(run)]
    refused = [x for x in later if x.what == "rejected"]
    cancelled = [x for x in later if x.what == "cancel" and x.at != "commit"]
    return next(iter([*refused[-1:], *cancelled[-1:]]), None)


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
