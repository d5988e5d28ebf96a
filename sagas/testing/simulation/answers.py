"""Makes up values of a type: what a signal says, and how a step refuses."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from sagas.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import SearchStrategy

__all__ = ["ALL_CHECKS", "draw_some", "example_of"]

# Drawing is not what is tested here, however long it takes.
ALL_CHECKS: list[HealthCheck] = [*HealthCheck]  # pyright: ignore[reportAssignmentType]  # iterating the enum's own metaclass


def draw_some(strategy: SearchStrategy[Any], count: int) -> list[Any]:
    """Draws some values, the same ones every time, the simplest first.

    In a thread of its own, since a test that is driven by hypothesis may be what asks for them.

    Raises:
        RequestError: The strategy gives none.
    """
    found: list[Any] = []
    failure: list[BaseException] = []

    def draw() -> None:
        @settings(
            max_examples=count, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
            suppress_health_check=ALL_CHECKS,
        )  # fmt: skip
        @given(strategy)
        def collect(value: object) -> None:
            found.append(value)

        try:
            collect()
        except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
            failure.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    if failure and isinstance(failure[0], RequestError):
        raise failure[0]
    if not found:
        raise RequestError(f"hypothesis draws nothing from {strategy!r}") from (failure[0] if failure else None)
    if failure:
        raise failure[0]
    return found


def example_of(annotation: Any, what: str) -> Sequence[Any]:
    """Gives some values of a type.

    Raises:
        RequestError: Hypothesis does not know how to make any.
    """
    if annotation is Any:
        return (None,)  # as what a signal carries if nobody says more
    found = _examples(annotation) if isinstance(annotation, Hashable) else _draw_examples(annotation)
    if isinstance(found, Exception):
        raise RequestError(f"no value of {annotation!r} can be made up for {what}; give a strategy for it") from found
    return found


def _draw_examples(annotation: Any) -> Sequence[Any] | Exception:
    """Draws values of a type; gives the error if there are none."""
    try:
        return draw_some(st.from_type(annotation), 10)
    except (HypothesisException, RequestError, TypeError) as error:
        return error


# Drawing anything takes hypothesis longer than a run takes, and runs ask again and again.
_examples = lru_cache(maxsize=256)(_draw_examples)
