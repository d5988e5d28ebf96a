"""What one run deploys, the next run does not have."""

from __future__ import annotations

from sagas import saga, step
from sagas.testing import Fault, Scenario, Simulator


@step
async def ship(sku: str) -> str:
    return sku


@saga(name="order")
async def order_anew(sku: str) -> str:
    return f"new {await ship(sku)}"


@saga
async def order(sku: str) -> str:
    return await ship(sku)


def test_every_run_begins_with_the_code_that_is_tested() -> None:
    simulator = Simulator(order, deploys=[order_anew])
    deployed = simulator.run(Scenario(order("lamp"), (Fault("deploy", "commit"),)))
    assert (deployed.missed, deployed.status) == ((), "completed")
    assert simulator.run(Scenario(order("lamp"))).result == "lamp"
