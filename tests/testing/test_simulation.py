"""What a simulated fleet does: its time, its processes, its faults, and that a run is the same every time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas import saga, sleep
from sagas.core import events as e
from sagas.core.definitions import Saga
from sagas.core.operations import SagaCall
from sagas.testing import Fault, Run, Scenario, Simulator
from sagas.testing.faults import KINDS
from sagas.testing.scenarios import explore, further
from sagas.testing.simulation.loop import Impossible, ProcessLoop, Time
from tests.testing.right_sagas import errand, patient, plain, reserve, talk, trip, view, world

# --- the loop -------------------------------------------------------------------------------------------------------


@pytest.fixture
def time() -> Time:
    return Time(1000.0)


@pytest.fixture
def loop(time: Time) -> ProcessLoop:
    return ProcessLoop(time)  # type: ignore[abstract]  # what it does not have, it refuses


def pass_time(loop: ProcessLoop, time: Time, until: float) -> None:
    time.now = until
    loop.fire_due()
    loop.drain(100)


def test_time_stands_still_until_it_is_told_to_pass(loop: ProcessLoop, time: Time) -> None:
    woken: list[float] = []

    async def nap(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append(loop.time())

    for seconds in (3.0, 1.0, 86_400.0):
        _ = loop.create_task(nap(seconds))
    loop.drain(100)
    assert (woken, loop.next_timer()) == ([], 1001.0)
    pass_time(loop, time, 1000.5)
    assert woken == []
    pass_time(loop, time, 1003.0)
    assert woken == [1003.0, 1003.0]
    pass_time(loop, time, 87_400.0)
    assert (woken[2:], loop.next_timer()) == ([87_400.0], None)


def test_timers_fire_in_the_order_in_which_they_are_due(loop: ProcessLoop, time: Time) -> None:
    order: list[str] = []
    loop.call_later(2.0, order.append, "second")
    loop.call_later(1.0, order.append, "first")
    loop.call_later(2.0, order.append, "third")
    pass_time(loop, time, 1010.0)
    assert order == ["first", "second", "third"]


def test_a_cancelled_timer_does_not_fire(loop: ProcessLoop, time: Time) -> None:
    fired: list[int] = []
    handle = loop.call_later(1.0, fired.append, 1)
    handle.cancel()
    assert loop.next_timer() is None
    pass_time(loop, time, 2000.0)
    assert fired == []


def test_a_cancelled_task_ends(loop: ProcessLoop) -> None:
    task = loop.create_task(asyncio.sleep(10.0))
    loop.drain(100)
    task.cancel()
    loop.drain(100)
    assert task.cancelled()


def test_a_loop_that_is_stopped_runs_nothing_more(loop: ProcessLoop) -> None:
    ran: list[str] = []

    def stop() -> None:
        ran.append("stop")
        loop.stopped = True

    loop.call_soon(ran.append, "before")
    loop.call_soon(stop)
    loop.call_soon(ran.append, "after")
    loop.drain(100)
    assert ran == ["before", "stop"]
    loop.stopped = False
    loop.drain(100)
    assert ran == ["before", "stop", "after"]


def test_what_is_buried_neither_runs_on_nor_complains(loop: ProcessLoop) -> None:
    ran: list[str] = []

    async def stubborn() -> None:
        try:
            await asyncio.sleep(1.0)
        finally:
            ran.append("finally")
            await asyncio.sleep(1.0)
            ran.append("never")

    _ = loop.create_task(stubborn())
    loop.drain(100)
    loop.stopped = True
    assert ran == []
    loop.bury()
    assert (ran, loop.ready, loop.next_timer()) == (["finally"], False, None)


def test_a_socket_is_refused_with_a_sentence_that_helps(loop: ProcessLoop) -> None:
    with pytest.raises(Impossible, match="the world that check"):
        loop.create_connection(asyncio.Protocol, "localhost", 80)  # type: ignore[unused-coroutine]


# --- runs -----------------------------------------------------------------------------------------------------------


def play(saga: Saga[..., Any], *faults: Fault, **options: Any) -> Run:
    simulator = Simulator(saga, world=world, view=view, **options)
    run = simulator.run(Scenario(saga(7), faults))
    assert run.missed == ()
    assert run.broken == []
    return run


@saga
async def decade(amount: int) -> int:
    await reserve("seat")
    for _ in range(10):
        await sleep(365 * 86_400.0)
    return amount


def test_ten_years_of_sleep_take_no_time() -> None:
    simulator = Simulator(decade, world=world, view=view)
    run = simulator.run(Scenario(decade(1)))
    assert run.status == "completed"
    assert run.records[-1].at - run.records[0].at == 10 * 365 * 86_400.0


def test_a_killed_process_writes_nothing_any_more() -> None:
    run = play(plain, Fault("crash after", "charge"))
    assert run.writers == [*"AA", *"B" * (len(run.writers) - 2)]
    assert isinstance(run.records[2].event, e.SagaTakenOver)


def test_a_frozen_process_is_fenced() -> None:
    run = play(plain, Fault("pause before", "commit", 3))
    assert run.writers == [*"AA", *"B" * (len(run.writers) - 2)]
    assert [x.process for x in run.calls if x.step == "charge"] == ["A", "B"]
    assert len({x.key for x in run.calls if x.step == "charge"}) == 1


# --- faults ---------------------------------------------------------------------------------------------------------


def calls_of(run: Run, at: str) -> list[Any]:
    role, _, name = at.rpartition(" of ")
    return [x for x in run.calls if (x.role, x.step) == (role or "step", name)]


def first(run: Run) -> Any:
    return calls_of(run, run.scenario.faults[0].at)[0]


def kinds(run: Run) -> list[str]:
    return [type(x.event).__name__ for x in run.records]


# What each kind of fault does to a run, beside what would have happened.
MEANINGS: dict[str, Callable[[Run], bool]] = {
    "rejected": lambda run: first(run).acted == 0 and "StepRejected" in kinds(run),
    "error": lambda run: first(run).acted == 0 and first(run).error is not None,
    "lost reply": lambda run: first(run).acted == 1 and first(run).error is not None,
    "down": lambda run: first(run).acted == 0 and run.status == "compensated",
    "mute": lambda run: all(x.error is not None for x in calls_of(run, "charge")) and first(run).acted == 1,
    "hangs": lambda run: first(run).acted == 0 and run.records[-1].at - run.records[0].at >= 5.0,
    "late reply": lambda run: first(run).acted == 1 and run.records[-1].at - run.records[0].at >= 5.0,
    "twice": lambda run: first(run).acted == 2 and len(calls_of(run, "charge")) == 1,
    "slow": lambda run: run.records[-1].at > run.records[0].at,
    "crash before": lambda run: first(run).acted == 0 and "SagaTakenOver" in kinds(run),
    "crash after": lambda run: first(run).acted == 1 and "SagaTakenOver" in kinds(run),
    "unavailable": lambda run: run.records[-1].at > run.records[0].at and "SagaTakenOver" not in kinds(run),
    "doubtful": lambda run: run.status == "completed" and len(set(run.writers)) == 1,
    "pause before": lambda run: set(run.writers) == {"B"},
    "pause after": lambda run: len(set(run.writers)) == 2,
    "long pause": lambda run: len(set(run.writers)) == 2,
    "cancel": lambda run: "CancelRequested" in kinds(run) and run.status == "compensated",
    "restart": lambda run: run.status == "completed" and len(set(run.writers)) <= 2,
    "clock back": lambda run: run.status == "completed",
    "clock ahead": lambda run: run.status == "completed",
}
PLACES = {"commit": ("unavailable", "doubtful", "pause before", "clock back", "clock ahead")}


@pytest.mark.parametrize("what", MEANINGS)
def test_a_fault_does_what_it_says(what: str) -> None:
    at = next((place for place, some in PLACES.items() if what in some), "charge")
    run = play(plain, Fault(what, at))
    assert MEANINGS[what](run), (kinds(run), run.calls, run.writers)


def test_part_of_a_batch_is_written_and_the_process_killed() -> None:
    base = Simulator(trip, world=world, view=view).run(Scenario(trip(1)))
    part = next(fault for _, fault in further(base) if fault.what == "part")
    run = Simulator(trip, world=world, view=view).run(Scenario(trip(1), (part,)))
    assert (run.missed, run.broken, set(run.writers)) == ((), [], {"A", "B"})


def signals(run: Run) -> list[Any]:
    return [x.event for x in run.records if isinstance(x.event, (e.SignalReceived, e.TimerFired))]


def test_signals_come_early_twice_late_and_never() -> None:
    early = play(talk, Fault("early", "signal answer"))
    assert kinds(early).index("SignalReceived") < kinds(early).index("StepSucceeded")
    twice = play(talk, Fault("twice", "signal answer"))
    assert kinds(twice).count("SignalReceived") == 2
    overdue = play(talk, Fault("overdue", "signal answer"))
    assert [type(x).__name__ for x in signals(overdue)][:1] == ["TimerFired"]
    never = play(talk, Fault("never", "signal answer", 2))
    assert (never.status, kinds(never).count("SignalReceived")) == ("compensated", 1)


def test_another_saga_of_the_same_id_is_refused() -> None:
    simulator = Simulator(plain, world=world, view=view)
    run = simulator.run(Scenario(plain(7), (Fault("another", "start"),)), watch=True)
    assert (run.broken, run.missed, run.status) == ([], (), "completed")
    assert any("as plain with another input" in x.what for x in run.entries)


@saga(name="plain", version="2", continues=("1",))
async def newer(amount: int) -> str:
    return await plain.function(amount)  # type: ignore[no-any-return]  # the same, deployed anew


def test_every_kind_of_fault_happens_somewhere() -> None:
    happened: set[str] = set()
    for body, options in ((plain, {"deploys": [newer], "late": True}), (trip, {}), (talk, {})):
        simulator = Simulator(body, world=world, view=view, **options)  # type: ignore[arg-type]  # of any type
        base = simulator.run(Scenario(body(1)))
        for _, fault in further(base):
            if fault.what not in happened:
                happened |= {x.what for x in simulator.run(Scenario(body(1), (fault,))).fired}
    assert happened == set(KINDS)


# --- the same every time --------------------------------------------------------------------------------------------

BODIES: tuple[Saga[..., Any], ...] = (plain, trip, errand, talk, patient)
REUSED = {body.name: Simulator(body, world=world, view=view) for body in BODIES}


def told(run: Run) -> object:
    """Gives what happened, with everything that is not made up anew for each process."""
    return (
        run.shape, run.status, run.result, repr(run.error), [x.law for x in run.broken], run.fired, view(run.world),
        [(x.role, x.step, x.path, x.key, x.began, x.acted) for x in run.calls], [x.at for x in run.records],
        list(run.writers), list(run.opportunities), [(x.status, x.records) for x in run.reports],
    )  # fmt: skip


def draw_call(data: st.DataObject) -> SagaCall[Any]:
    body: Saga[..., Any] = data.draw(st.sampled_from(BODIES))
    return body(data.draw(st.integers(0, 3)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_run_is_the_same_on_a_fleet_that_has_served_others(data: st.DataObject) -> None:
    call = draw_call(data)
    simulator = REUSED[call.saga.name]
    run = explore(data.draw, simulator, call, 3)
    simulator.run(Scenario(call.saga(9), run.scenario.faults[:1]))
    assert told(simulator.run(run.scenario)) == told(run)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_run_is_the_same_on_a_fleet_of_its_own(data: st.DataObject) -> None:
    call = draw_call(data)
    run = explore(data.draw, REUSED[call.saga.name], call, 3)
    assert told(Simulator(call.saga, world=world, view=view).run(run.scenario)) == told(run)
