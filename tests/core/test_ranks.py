"""Ranks: higher priorities first, and none waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sagas.core.ranks import AGEING, HIGHEST, LOWEST, rank_of

_PRIORITIES = st.integers(LOWEST, HIGHEST)
_ARRIVALS = st.lists(st.tuples(st.floats(0, 20_000), _PRIORITIES), min_size=1, max_size=30)


def _served(arrivals: list[tuple[float, int]], seconds: float) -> list[tuple[float, int]]:
    """The order in which one clerk serves them, who takes so long for each, and always the smallest rank first."""
    coming, waiting, order, now = sorted(arrivals), list[tuple[float, int]](), list[tuple[float, int]](), 0.0
    while coming or waiting:
        now = max(now, coming[0][0]) if not waiting else now
        while coming and coming[0][0] <= now:
            waiting.append(coming.pop(0))
        first = min(waiting, key=lambda arrival: rank_of(*arrival))
        waiting.remove(first)
        order.append(first)
        now += seconds
    return order


@given(arrivals=_ARRIVALS, seconds=st.floats(0.1, 5_000))
def test_a_saga_is_overtaken_only_by_those_that_come_soon_enough_after_it(
    arrivals: list[tuple[float, int]], seconds: float
) -> None:
    """A minute for each step that their priority is higher; so the wait is bounded, whatever comes later."""
    order = _served(arrivals, seconds)
    for place, (came, priority) in enumerate(order):
        for other_came, other_priority in order[:place]:
            head_start = max(0, other_priority - priority) * AGEING
            assert other_came <= came + head_start
            assert other_came <= came + (HIGHEST - LOWEST) * AGEING


@given(came=st.floats(0, 1e10), low=_PRIORITIES, high=_PRIORITIES)
def test_of_those_that_come_together_the_higher_priority_is_first(came: float, low: int, high: int) -> None:
    if low < high:
        assert rank_of(came, high) < rank_of(came, low)


@given(first=st.floats(0, 1e10), second=st.floats(0, 1e10), priority=_PRIORITIES)
def test_of_the_same_priority_whoever_comes_first_is_first(first: float, second: float, priority: int) -> None:
    if first < second:
        assert rank_of(first, priority) <= rank_of(second, priority)
