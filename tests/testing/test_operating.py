"""The simulated operator has one order carried out before giving the next."""

from __future__ import annotations

import pytest

from sagas import Retry, saga, step
from sagas.testing import Fault, Scenario, Simulator


@step
async def reserve(sku: str) -> str:
    return sku


@reserve.compensator
async def release(sku: str) -> None:
    """Leaves nothing, however often it runs."""


@saga
async def order(sku: str) -> str:
    return await reserve(sku)


# What makes the saga stuck, and then keeps the order to retry from being written at once.
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("pause before", "commit", 9), id="the order is for another process"),
        pytest.param(Fault("unavailable", "commit", 12), id="the database is away"),
        pytest.param(Fault("doubtful", "commit", 12), id="the database does not say whether it has it"),
    ],
)
def test_an_operator_waits_until_an_order_is_carried_out(fault: Fault) -> None:
    stuck = (Fault("error", "reserve"), Fault("down", "undo of reserve"))
    run = Simulator(order).run(Scenario(order("lamp"), (*stuck, fault)))
    assert (run.missed, run.broken, run.status) == ((), [], "compensated")


def test_an_operator_has_patience_while_things_go_on_breaking() -> None:
    down = [Fault("down", "undo of reserve", nth) for nth in (1, 11, 21)]
    faults = (Fault("error", "reserve"), *down, Fault("crash before", "commit", 32))
    run = Simulator(order).run(Scenario(order("lamp"), faults))
    assert (run.missed, run.broken, run.status) == ((), [], "compensated")


@step(retry=Retry(attempts=None))
async def ship(sku: str) -> str:
    return sku


@saga
async def order_surely(sku: str) -> str:
    return await ship(sku)


@pytest.mark.parametrize("kind", ["down", "mute"])
def test_somebody_repairs_what_is_tried_without_end(kind: str) -> None:
    run = Simulator(order_surely).run(Scenario(order_surely("lamp"), (Fault(kind, "ship"),)))
    assert (run.missed, run.broken, run.result) == ((), [], "lamp")
