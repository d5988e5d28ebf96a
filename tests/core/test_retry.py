"""How long to wait before the next attempt."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import DeclarationError, Retry

_POLICIES = st.builds(
    Retry,
    attempts=st.none() | st.integers(1, 50),
    initial=st.floats(0, 100),
    factor=st.floats(1, 10),
    maximum=st.floats(0, 1e4),
    jitter=st.floats(0, 1),
)


@given(policy=_POLICIES, attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_pause_is_within_its_bounds(policy: Retry, attempt: int, chance: float) -> None:
    """Never negative, never longer than the maximum, and none when the budget is used up."""
    pause = policy.pause_after(attempt, chance)
    if policy.attempts is not None and attempt >= policy.attempts:
        assert pause is None
    else:
        assert pause is not None
        assert 0 <= pause <= policy.maximum


@given(policy=_POLICIES, attempt=st.integers(1, 5000))
def test_without_chance_each_pause_is_at_least_the_one_before(policy: Retry, attempt: int) -> None:
    """Also where the power no longer fits a float."""
    first, second = policy.pause_after(attempt, 0.0), policy.pause_after(attempt + 1, 0.0)
    assert first is None or second is None or first <= second


def test_no_first_pause_means_no_pause_at_all() -> None:
    """However often it is tried."""
    assert Retry(attempts=None, initial=0).pause_after(5000, 0.5) == 0


def test_pauses_double_up_to_the_maximum_and_chance_takes_off_up_to_half() -> None:
    """The documented arithmetic."""
    policy = Retry(attempts=6, initial=1, factor=2, maximum=5, jitter=0.5)
    assert [policy.pause_after(n, 0.0) for n in range(1, 7)] == [1, 2, 4, 5, 5, None]
    assert policy.pause_after(1, 0.5) == 0.75


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 0}, {"attempts": -1}, {"initial": -1}, {"maximum": -1}, {"factor": 0.5}, {"jitter": 1.5},
        {"jitter": -0.1}, {"initial": float("nan")}, {"maximum": float("nan")},
    ],
)  # fmt: skip
def test_numbers_that_make_no_policy_are_refused(fields: dict[str, Any]) -> None:
    """When it is declared."""
    with pytest.raises(DeclarationError):
        Retry(**fields)
