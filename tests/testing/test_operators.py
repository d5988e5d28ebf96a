"""An operator's order reaches the process that drives the saga, whichever process was asked."""

from __future__ import annotations

from sagas import saga, step
from sagas.testing import Fault, Scenario, Simulator


@step(pivot=True)
async def ship() -> None: ...


@step
async def notify() -> None: ...


@saga
async def deliver() -> None:
    await ship()
    await notify()


def test_a_retry_that_one_process_is_asked_for_is_carried_out_by_the_one_that_drives_the_saga() -> None:
    faults = (Fault("down", at="notify"), Fault("pause before", at="commit", nth=3))
    run = Simulator(deliver).run(Scenario(deliver(), faults))
    assert run.missed == ()
    assert run.broken == []
    assert run.status == "completed"
