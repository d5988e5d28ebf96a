"""A run goes the same way whatever was played before it, or nobody could play it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sagas import gather, saga, scope, step
from sagas.testing import Fault, Scenario, Simulator

if TYPE_CHECKING:
    from sagas.testing import Run


@step
async def book(what: str) -> str:
    return what


@book.compensator
async def cancel(what: str) -> None:
    """Leaves nothing."""


@saga
async def stay(night: int) -> str:
    await book(f"note {night}")
    return await book(f"room {night}")


@saga
async def travel(nights: int) -> str:
    async with scope():
        await gather(*(stay(night) for night in range(nights)))
        await book("flight")
    return await book("insurance")


def traces(run: Run) -> object:
    return run.shape, run.opportunities, run.writers, [x.began for x in run.calls]


PLANS = [
    (),
    (Fault("rejected", "book", 5),),
    (Fault("mute", "book", 4), Fault("rejected", "book", 5)),
    (Fault("unavailable", "commit", 3), Fault("cancel", "commit", 4)),
    (Fault("slow", "book", 2), Fault("crash after", "book", 6)),
    (Fault("down", "undo of book", 2), Fault("error", "book", 3)),
    (Fault("pause after", "commit", 2), Fault("lost reply", "book", 9)),
]


@pytest.mark.parametrize("faults", PLANS, ids=lambda x: " ".join(f"{y.what} {y.at}" for y in x) or "none")
def test_a_run_goes_the_same_way_in_a_new_simulator_and_in_one_that_was_used(faults: tuple[Fault, ...]) -> None:
    scenario = Scenario(travel(4), faults)
    alone = traces(Simulator(travel).run(scenario))
    used = Simulator(travel)
    for before in PLANS:
        for nights in (4, 1):
            used.run(Scenario(travel(nights), before))
            assert traces(used.run(scenario)) == alone, f"after {nights} nights with {before}"
