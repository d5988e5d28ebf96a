"""A saga goes from one process to the next, whatever happens to them."""

from __future__ import annotations

from sagas import saga, sleep, step
from sagas.testing import Fault, Scenario, Simulator


@step
async def ship(sku: str) -> str:
    return sku


@saga
async def order(sku: str) -> str:
    return await ship(sku)


def test_a_process_that_was_fenced_goes_on_when_its_successor_dies() -> None:
    faults = (Fault("crash after", "commit"), Fault("pause before", "commit", 2), Fault("crash after", "commit", 3))
    run = Simulator(order).run(Scenario(order("lamp"), faults))
    assert (run.missed, run.broken, run.status) == ((), [], "completed")


@saga
async def order_ahead(sku: str) -> str:
    await sleep(365 * 86_400)
    return await ship(sku)


def test_a_saga_that_sleeps_for_a_year_in_another_process_is_waited_for() -> None:
    run = Simulator(order_ahead).run(Scenario(order_ahead("lamp"), (Fault("pause after", "commit"),)))
    assert (run.missed, run.broken, run.result) == ((), [], "lamp")
