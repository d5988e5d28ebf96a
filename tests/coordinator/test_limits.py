"""Limits on attempts: how many at once, how many within a time, in a process and across processes."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import (
    Coordinator,
    DeclarationError,
    Limit,
    Rejected,
    Retry,
    Saga,
    SagaCompensated,
    StoreUnavailable,
    gather,
    saga,
    step,
)
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Holding
from tests.coordinator.places import Clock, Gate, Place, until

_TURN = 0.05


class Bank:
    """Where attempts act; it knows how many are in it at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.seen: list[str] = []

    async def visit(self, who: str, seconds: float = 0.002) -> None:
        """Stays for a while."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.seen.append(who)
        try:
            await anyio.sleep(seconds)
        finally:
            self.inside -= 1


def _visiting(bank: Bank, limit: int | Limit) -> Saga[[str], str]:
    """A saga of one step that visits the bank."""

    @step(limit=limit)
    async def visit(who: str) -> str:
        await bank.visit(who)
        return who

    @saga(name="visiting")
    async def body(who: str) -> str:
        return await visit(who)

    return body


async def _run_all(coordinator: Coordinator, body: Saga[[str], Any], names: Sequence[str]) -> None:
    """Runs sagas side by side, to their end."""
    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(coordinator.run, body(name))


async def test_steps_whose_limits_have_one_name_share_it(place: Place) -> None:
    """An undo, too, that asks for it."""
    bank, shared = Bank(), Limit(concurrency=2, name="bank")

    @step(limit=shared)
    async def debit(number: int) -> None:
        await bank.visit("debit")

    @debit.compensator(limit=shared)
    async def refund(number: int) -> None:
        await bank.visit("refund")

    @step(limit=shared)
    async def credit(number: int) -> None:
        await bank.visit("credit")
        if number % 2:
            raise Rejected("no")

    @saga
    async def body(number: int) -> None:
        await debit(number)
        await credit(number)

    async with place.coordinator(body) as coordinator:
        handles = [await coordinator.start(body(number)) for number in range(12)]
        for number, handle in enumerate(handles):
            if number % 2:
                with pytest.raises(SagaCompensated):
                    await handle.result()
            else:
                await handle.result()
    assert sorted(bank.seen) == ["credit"] * 12 + ["debit"] * 12 + ["refund"] * 6
    assert bank.most == 2


async def test_an_undo_does_not_wait_for_the_limit_of_its_step(place: Place) -> None:
    """Else it would wait behind new work; a limit of its own it obeys."""
    gate, undone = Gate(), Gate()

    @step(limit=1)
    async def work(what: str) -> None:
        if what == "hold":
            await gate.wait()

    @work.compensator(limit=Limit(concurrency=2))
    async def take_back(what: str) -> None:
        await undone.wait()

    @saga
    async def body(what: str) -> None:
        await work(what)
        raise Rejected("no")

    async with place.coordinator(body) as coordinator:
        handles = [await coordinator.start(body(what)) for what in ("a", "b", "c", "hold")]
        await gate.arrival()
        await undone.arrival(2)
        await anyio.sleep(0.05)
        assert undone.arrived == 2
        undone.open()
        gate.open()
        for handle in handles:
            with pytest.raises(SagaCompensated):
                await handle.result()
    assert undone.arrived == 4


@pytest.mark.parametrize("across", ["process", "store"])
async def test_no_more_attempts_than_the_rate_begin(place: Place, across: Any) -> None:
    """After a burst of as many as the rate."""
    bank = Bank()
    body = _visiting(bank, Limit(rate=20, per=0.5, across=across))
    async with place.coordinator(body) as coordinator:
        began = time.monotonic()
        await _run_all(coordinator, body, [str(number) for number in range(30)])
        assert time.monotonic() - began >= 10 / 40
    assert len(bank.seen) == 30


async def test_a_rate_across_the_store_holds_for_all_its_coordinators(place: Place) -> None:
    """In every span of time, and however much each of them has to do; and all of it is used."""
    rate, times = 100.0, list[float]()

    @step(limit=Limit(rate=rate, per=1.0, across="store"))
    async def ring(who: str) -> None:
        times.append(time.monotonic())

    @saga
    async def body(who: str) -> None:
        await ring(who)

    fleet = [place.coordinator(body) for _ in range(3)]
    async with fleet[0], fleet[1], fleet[2], anyio.create_task_group() as group:
        for number, share in enumerate((120, 60, 40)):
            group.start_soon(_run_all, fleet[number], body, [f"{number}-{other}" for other in range(share)])
    spans = combinations(enumerate(times), 2)
    # A fifth of a second for attempts that were held up between their token and their first act.
    assert all(last + 1 - first <= rate * (1.2 + end - begin) for (first, begin), (last, end) in spans)
    assert times[-1] - times[0] >= 0.9
    assert len(times) == 220


@pytest.mark.parametrize("across", ["process", "store"])
async def test_a_rate_and_a_number_hold_together(place: Place, across: Any) -> None:
    """Neither is exceeded, and everything is done."""
    bank = Bank()
    body = _visiting(bank, Limit(concurrency=2, rate=10, per=0.1, across=across))
    async with place.coordinator(body) as coordinator:
        began = time.monotonic()
        await _run_all(coordinator, body, [str(number) for number in range(25)])
        assert time.monotonic() - began >= 15 / 100
    assert bank.most == 2


async def test_a_limit_across_the_store_holds_for_all_its_coordinators(place: Place) -> None:
    """Together they run as many as one alone may."""
    bank = Bank()
    body = _visiting(bank, Limit(concurrency=3, across="store"))
    first = place.coordinator(body, limit_turn=_TURN)
    second = place.coordinator(body, limit_turn=_TURN)
    async with first, second, anyio.create_task_group() as group:
        group.start_soon(_run_all, first, body, [f"a{number}" for number in range(40)])
        group.start_soon(_run_all, second, body, [f"b{number}" for number in range(40)])
    assert len(set(bank.seen)) == len(bank.seen) == 80
    assert bank.most == 3


@pytest.mark.parametrize("number", [1, 4])
async def test_a_coordinator_with_much_to_do_does_not_starve_another(place: Place, number: int) -> None:
    """Permits that others wait for are shared, or go round if there are too few, in the midst of what is waiting."""
    bank = Bank()
    body = _visiting(bank, Limit(concurrency=number, across="store"))
    busy = place.coordinator(body, limit_turn=0.01)
    other = place.coordinator(body, limit_turn=0.01)
    async with busy, other, anyio.create_task_group() as group:
        stopped = False

        async def keep_busy(who: str) -> None:
            while not stopped:
                await busy.run(body(who))

        for who in range(8):
            group.start_soon(keep_busy, f"busy{who}")

        async def is_busy() -> bool:
            return bank.inside == number

        await until(is_busy)
        with anyio.fail_after(10):
            await _run_all(other, body, ["other"] * 8)
        stopped = True
    assert bank.most == number


async def test_waiting_for_a_limit_is_no_part_of_an_attempts_timeout(place: Place) -> None:
    """It has not begun yet."""
    gate, shared = Gate(), Limit(concurrency=1, name="one")

    @step(limit=shared)
    async def hold() -> None:
        await gate.wait()

    @step(limit=shared, timeout=0.05)
    async def quick() -> str:
        return "done"

    @saga
    async def holding() -> None:
        await hold()

    @saga
    async def waiting() -> str:
        return await quick()

    async with place.coordinator(holding, waiting) as coordinator:
        await coordinator.start(holding())
        await gate.arrival()
        handle = await coordinator.start(waiting())
        await anyio.sleep(0.1)
        gate.open()
        assert await handle.result() == "done"


async def test_waiting_for_a_limit_is_part_of_the_total_timeout(place: Place) -> None:
    """When it has passed, the step is rejected: nothing was attempted."""
    gate, shared = Gate(), Limit(concurrency=1, name="one")

    @step(limit=shared)
    async def hold() -> None:
        await gate.wait()

    @step(limit=shared, total_timeout=0.05)
    async def quick() -> None:
        raise AssertionError

    @saga
    async def holding() -> None:
        await hold()

    @saga
    async def waiting() -> None:
        await quick()

    async with place.coordinator(holding, waiting) as coordinator:
        holder = await coordinator.start(holding())
        await gate.arrival()
        with pytest.raises(SagaCompensated, match="total_timeout passed while it waited for its limit"):
            await coordinator.run(waiting(), id="w")
        view = await coordinator.get("w")
        assert [(x.state, x.attempts) for x in view.steps] == [("rejected", ())]
        gate.open()
        await holder.result()


async def test_an_attempt_that_is_not_wanted_any_more_stops_waiting(place: Place) -> None:
    """Because its saga is cancelled, or because a sibling failed."""
    gate, shared = Gate(), Limit(concurrency=1, name="one")
    attempted: list[str] = []

    @step(limit=shared)
    async def hold() -> None:
        await gate.wait()

    @step(limit=shared)
    async def queue(who: str) -> None:
        attempted.append(who)

    @step
    async def refuse() -> None:
        raise Rejected("no")

    @saga
    async def holding() -> None:
        await hold()

    @saga
    async def waiting() -> None:
        await queue("cancelled")

    @saga
    async def failing() -> None:
        await gather(queue("sibling"), refuse())

    async with place.coordinator(holding, waiting, failing) as coordinator:
        holder = await coordinator.start(holding())
        await gate.arrival()
        handle = await coordinator.start(waiting(), id="w")
        await coordinator.cancel("w", reason="enough")
        with anyio.fail_after(10):
            with pytest.raises(SagaCompensated, match="enough"):
                await handle.result()
            with pytest.raises(SagaCompensated, match="no"):
                await coordinator.run(failing())
        gate.open()
        await holder.result()
    assert attempted == []


@pytest.mark.parametrize("across", ["process", "store"])
async def test_leaving_does_not_wait_for_those_who_wait_for_a_limit(place: Place, across: Any) -> None:
    """The next coordinator attempts what they were to attempt."""
    gate = Gate()
    done: list[str] = []

    @step(limit=Limit(concurrency=1, across=across))
    async def work(who: str) -> None:
        if who == "hold":
            await gate.wait()
        done.append(who)

    @saga
    async def body(who: str) -> None:
        await work(who)

    coordinator = place.coordinator(body, shutdown_timeout=60)

    async def open_when_closing() -> None:
        async def closing() -> bool:
            return coordinator._engine is not None and coordinator._engine.closing

        await until(closing)
        gate.open()

    began = time.monotonic()
    async with anyio.create_task_group() as group, coordinator:
        await coordinator.start(body("hold"))
        await gate.arrival()
        await coordinator.start(body("wait"), id="w")
        group.start_soon(open_when_closing)
    assert time.monotonic() - began < 30
    assert done == ["hold"]
    async with place.coordinator(body) as coordinator:
        await coordinator.run(body("wait"), id="w")
    assert done == ["hold", "wait"]


async def test_what_is_cancelled_while_it_waits_leaves_its_place(place: Place) -> None:
    """A coordinator that breaks off leaves no attempt behind, and the limit is as it was."""
    bank = Bank()
    body = _visiting(bank, Limit(concurrency=1, across="store"))
    with anyio.move_on_after(0.05):
        async with place.coordinator(body, shutdown_timeout=0) as coordinator:
            for number in range(5):
                await coordinator.start(body(f"{number}"), id=f"{number}")
            await anyio.sleep_forever()
    async with place.coordinator(body) as coordinator:
        for number in range(5):
            assert await coordinator.run(body(f"{number}"), id=f"{number}") == f"{number}"
    assert bank.most == 1


async def test_a_transactional_step_obeys_its_limit(on_disk: Place) -> None:
    """Like any other."""

    @step(transactional=True, limit=Limit(rate=2, per=0.1))
    def write(session: Session, number: int) -> None:
        session.connection().execute(text("INSERT INTO entry VALUES (:number)"), {"number": number})
        session.commit()

    @saga
    async def body(number: int) -> None:
        await write(number)

    on_disk.sql("CREATE TABLE entry (number INTEGER)")
    began = time.monotonic()
    async with on_disk.coordinator(body) as coordinator, anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(coordinator.run, body(number))
    assert time.monotonic() - began >= 4 / 20
    assert sorted(on_disk.sql("SELECT number FROM entry")) == [(number,) for number in range(6)]


async def test_every_attempt_of_a_step_takes_part_in_its_limit(place: Place) -> None:
    """Also a second one; and none keeps its place during the pause between them."""
    bank = Bank()

    @step(limit=1, retry=Retry(attempts=3, initial=0.01))
    async def visit(who: str) -> None:
        await bank.visit(who)
        if bank.seen.count(who) < 3:
            raise ConnectionError(who)

    @saga
    async def body(who: str) -> None:
        await visit(who)

    async with place.coordinator(body) as coordinator:
        await _run_all(coordinator, body, ["a", "b", "c"])
    assert sorted(bank.seen) == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert bank.most == 1


async def test_permits_of_a_coordinator_whose_lease_ran_out_are_free(place: Place) -> None:
    """When it comes back it attempts nothing before it has a permit that is its own."""
    gates = {who: Gate() for who in ("lost", "taken", "later")}
    inside: list[str] = []

    @step(limit=Limit(concurrency=1, across="store"))
    async def work(who: str) -> None:
        inside.append(who)
        try:
            await gates[who].wait()
        finally:
            inside.remove(who)

    @saga
    async def theirs(who: str) -> None:
        await work(who)

    @saga
    async def ours(who: str) -> None:  # which the other has no code for, so that it takes over permits alone
        await work(who)

    clock = Clock()
    late = place.coordinator(ours, clock=clock, limit_turn=_TURN)
    early = place.coordinator(theirs, clock=Clock(ahead=31), limit_turn=_TURN)
    async with late, early:
        lost = await late.start(ours("lost"))
        await gates["lost"].arrival()
        later = await late.start(ours("later"))
        taken = await early.start(theirs("taken"))
        await gates["taken"].arrival()
        clock.ahead = 31  # it was paused, and comes back
        gates["lost"].open()
        await lost.result()
        await anyio.sleep(0.1)
        assert inside == ["taken"]
        gates["taken"].open()
        gates["later"].open()
        await taken.result()
        await later.result()


class _Flaky(MemoryStore):
    """A store that cannot be reached for a while, after it did what it was asked for."""

    def __init__(self, trouble: int) -> None:
        super().__init__()
        self.trouble = trouble

    def hold_permits(self, name: str, owner: str, now: float, *, slots: int, used: int, want: int) -> Holding:
        holding = super().hold_permits(name, owner, now, slots=slots, used=used, want=want)
        self.trouble -= 1
        if self.trouble in (0, 1):
            raise StoreUnavailable("gone")
        if self.trouble == 2:
            raise RuntimeError("a mistake")
        return holding


async def test_a_limit_survives_a_store_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether what was asked for was done is not known then; no permit is lost, and none is invented."""
    monkeypatch.setattr("sagas.coordinator.store_gate._TROUBLE", 0.01)
    bank = Bank()
    body = _visiting(bank, Limit(concurrency=2, across="store"))
    for trouble in range(1, 6):
        async with Coordinator(_Flaky(trouble), sagas=[body], limit_turn=0.01) as coordinator:
            with anyio.fail_after(10):
                await _run_all(coordinator, body, [str(number) for number in range(20)])
    assert bank.most == 2


async def test_nothing_begins_while_permits_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may believe that this process is dead, and hold its permits."""
    monkeypatch.setattr("sagas.coordinator.store_gate._TROUBLE", 0.01)
    away, tries = False, 0

    class Away(MemoryStore):
        def hold_permits(self, name: str, owner: str, now: float, *, slots: int, used: int, want: int) -> Holding:
            nonlocal tries
            tries += 1
            if away:
                raise StoreUnavailable("gone")
            return super().hold_permits(name, owner, now, slots=slots, used=used, want=want)

    gate = Gate()
    inside: list[str] = []

    @step(limit=Limit(concurrency=2, across="store"))
    async def work(who: str) -> None:
        inside.append(who)
        await gate.wait()

    @saga
    async def body(who: str) -> None:
        await work(who)

    async with Coordinator(Away(), sagas=[body], limit_turn=0.01) as coordinator:
        handles = [await coordinator.start(body(who)) for who in ("a", "b", "c")]
        await gate.arrival(2)
        away, before = True, tries

        async def has_tried() -> bool:
            return tries > before

        await until(has_tried)
        gate.open()
        await handles[0].result()
        await handles[1].result()
        before = tries
        await until(has_tried)
        assert len(inside) == 2
        away = False
        await handles[2].result()
    assert len(inside) == 3


def test_limits_of_one_name_that_differ_are_refused() -> None:
    """Before anything runs."""

    @step(limit=Limit(concurrency=1, name="bank"))
    async def debit() -> None: ...

    @debit.compensator(limit=Limit(concurrency=2, name="bank"))
    async def refund() -> None: ...

    @saga
    async def body() -> None:
        await debit()

    with pytest.raises(DeclarationError, match="share the limit 'bank'"):
        Coordinator("memory:", sagas=[body])
