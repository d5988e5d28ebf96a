"""A saga goes from one process to the next, whatever happens to them."""

from __future__ import annotations

from sagas import SagaCompensated, gather, saga, sleep, step
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


@ship.compensator
async def call_back() -> None:
    """Leaves nothing."""


def test_a_process_that_was_thawed_waits_for_its_timers() -> None:
    faults = (
        Fault("pause after", "commit"), Fault("error", "ship"), Fault("down", "undo of ship"),
        Fault("pause before", "commit", 6),
    )  # fmt: skip
    run = Simulator(order).run(Scenario(order("lamp"), faults))
    assert (run.missed, run.broken, run.status) == ((), [], "compensated")


def test_a_run_has_the_result_though_a_process_tells_later_that_the_saga_was_stuck() -> None:
    faults = (Fault("error", "ship"), Fault("down", "undo of ship"), Fault("long pause", "commit", 11))
    run = Simulator(order).run(Scenario(order("lamp"), faults))
    assert [x.status for x in run.reports] == ["compensated", "stuck"]
    assert (run.missed, run.broken, run.status) == ((), [], "compensated")
    assert isinstance(run.error, SagaCompensated)


booked: set[str] = set()


@step
async def book(what: str) -> None:
    booked.add(what)


@book.compensator
async def unbook(what: str) -> None:
    booked.discard(what)


@saga
async def travel() -> None:
    await gather(book("hotel"), book("flight"))


def test_no_process_is_frozen_while_a_step_in_it_could_act_too_late_unless_that_is_asked_for() -> None:
    """Only the other side can fend off a step that acts when its saga was undone by another process."""
    options = {"world": booked.clear, "view": lambda _: frozenset(booked)}
    scenario = Scenario(travel(), (Fault("cancel", "book", 2), Fault("long pause", "commit", 3)))
    run = Simulator(travel, **options).run(scenario)  # type: ignore[arg-type]
    assert (run.missed, run.broken) == (scenario.faults[1:], [])
    late = Simulator(travel, **options, late=True).run(scenario)  # type: ignore[arg-type]
    assert late.missed == ()
    assert [x.law for x in late.broken] == ["undone is as if it had never been"]
