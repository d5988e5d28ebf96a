"""A counterexample is as small as it gets."""

from __future__ import annotations

from hypothesis import strategies as st

from sagas import saga, step
from sagas.testing import Fault, Scenario, Simulator
from sagas.testing.checking import Checker

stock = [10]


def open_shop() -> list[int]:
    stock[:] = [10]
    return stock


@step
async def reserve() -> None:
    stock[0] -= 1


@reserve.compensator
async def put_back(result: None) -> None:
    stock[0] += 1


@step
async def ship() -> None:
    """Leaves nothing."""


@ship.compensator
async def call_back() -> None:
    """Leaves nothing."""


@saga
async def order() -> None:
    await reserve()
    await ship()


def test_one_fault_takes_the_place_of_two_where_it_does_as_much() -> None:
    simulator = Simulator(order, world=open_shop, view=list)
    long = (Fault("error", "ship"), Fault("down", "undo of ship"), Fault("crash before", "commit", 15))
    run = simulator.run(Scenario(order(), long))
    assert run.broken, "it is undone twice"
    checker = Checker(simulator, st.just(order()), 100, 1)
    smallest = checker._smallest(run, run.broken[0].law)  # noqa: SLF001 - a run that is known to be too long
    assert len(smallest.scenario.faults) <= 2
    assert smallest.broken[0].law == run.broken[0].law
