"""A broken invariant says in its own words what does not hold."""

from __future__ import annotations

import pytest

from sagas import saga, step
from sagas.testing import CheckFailed, check


@step
async def ship() -> None:
    """Leaves nothing."""


@saga
async def order() -> None:
    await ship()


def never_true(world: object) -> bool:
    """Every parcel is paid."""
    return False


def never_met(world: object) -> None:
    """Every parcel is paid."""
    raise AssertionError


def never_said(world: object) -> None:
    raise AssertionError("3 parcels are not paid")


@pytest.mark.parametrize(
    ("invariant", "words"),
    [
        (never_true, "it does not hold that: Every parcel is paid."),
        (never_met, "it does not hold that: Every parcel is paid."),
        (never_said, "AssertionError: 3 parcels are not paid"),
    ],
)
def test_a_broken_invariant_says_what_does_not_hold(invariant: object, words: str) -> None:
    with pytest.raises(CheckFailed) as failure:
        check(order, invariants=[invariant])  # type: ignore[list-item]  # of three kinds
    assert words in str(failure.value)
