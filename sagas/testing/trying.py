"""Has hypothesis draw calls of steps, and tells the story of the smallest one with which a law does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, ResolutionFailed
from hypothesis.strategies import SearchStrategy

from sagas.core.operations import StepCall
from sagas.errors import RequestError
from sagas.testing.bench import Broken, story
from sagas.testing.reproducing import seed_of_session
from sagas.testing.scenarios import calls_of, values_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.core.definitions import Step

__all__ = ["pairs_of", "try_inputs"]

_ALL = cast("list[HealthCheck]", list(HealthCheck))  # pyright sees a metaclass


def try_inputs(
    what: str,
    where: str,
    inputs: SearchStrategy[Any],
    try_one: Callable[[Any], None],
    *,
    examples: int,
    seed: int | None,
) -> None:
    """Has hypothesis draw inputs, and tells the story of the smallest one with which a law does not hold."""
    __tracebackhide__ = True
    chosen = seed if seed is not None else seed_of_session()
    last: list[Broken] = []

    @hypothesis.seed(chosen)
    @settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=_ALL,
        phases=[Phase.generate, Phase.shrink], print_blob=False, report_multiple_bugs=False,
        verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    @given(inputs)
    def explore(drawn: Any) -> None:
        try:
            try_one(drawn)
        except Broken as broken:
            last[:] = [broken]
            raise

    try:
        explore()
    except (Broken, Flaky):
        if not last:
            raise
        raise AssertionError(_message(where, last[0], f"{what}, seed={chosen})")) from None
    except ResolutionFailed as error:
        raise RequestError(f"{where}: hypothesis cannot make up an input, so give inputs=: {error}") from error


def _message(where: str, broken: Broken, again: str) -> str:
    """Tells the story of an input with which a law does not hold."""
    lines = [f"{where}: {broken.law} — is broken", ""]
    lines += [f"  input: {call!r}" for call in broken.calls]
    lines += ["", *(f"  {line}" for line in story(broken.lines)), "", broken.remedy, ""]
    return "\n".join([*lines, f"To draw the same inputs again: {again}"])


def pairs_of(first: Step[..., Any], second: Step[..., Any], inputs: Any) -> SearchStrategy[Any]:
    """Makes a strategy of pairs of calls; see ``assert_commutes``."""
    if isinstance(inputs, SearchStrategy):
        return inputs.map(_as_pair)  # pyright: ignore[reportUnknownMemberType]  # anybody may give anything
    if first is second:
        return st.tuples(calls_of(first, inputs), calls_of(first, inputs))
    given = dict(inputs or {})
    names = {*first.parameters.names, *second.parameters.names}
    if unknown := set(given) - names:
        raise RequestError(f"neither {first.where} nor {second.where} has a parameter {', '.join(sorted(unknown))}")
    values: dict[str, SearchStrategy[Any]] = {}
    for step in (second, first):
        values |= values_of(step, {name: given[name] for name in step.parameters.names if name in given})

    def make(drawn: dict[str, Any]) -> tuple[StepCall[Any], StepCall[Any]]:
        one, two = ({name: drawn[name] for name in step.parameters.names} for step in (first, second))
        return first(**one), second(**two)

    return st.fixed_dictionaries(values).map(make)


def _as_pair(value: Any) -> Any:
    """Makes sure that a strategy gives what it should.

    Raises:
        RequestError: It gives something else.
    """
    pair = list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else []
    if [type(x) for x in pair] == [StepCall, StepCall]:
        return tuple(pair)
    raise RequestError(
        f"inputs= has to give pairs of calls, such as st.tuples(st.builds(…), st.builds(…)), not {value!r}"
    )
