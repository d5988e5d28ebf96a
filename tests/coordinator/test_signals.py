"""Signals: early, late, twice, wrong, too late; and those for sagas that are not in memory."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from pydantic import BaseModel

from sagas import (
    Coordinator,
    CoordinatorClosed,
    NotApplicable,
    PayloadError,
    ReceiveTimeout,
    SagaCompensated,
    SagaNotFound,
    gather,
    race,
    receive,
    saga,
    sleep,
    step,
)
from sagas.coordinator.orders import Orders
from sagas.coordinator.parking import KeepsMoving
from tests.coordinator.places import Clock, Gate, Place, until


class Approval(BaseModel):
    """What a signal carries."""

    by: str
    amount: int


@saga
async def approved() -> Approval:
    """Waits for one signal."""
    return await receive("approval", Approval)


async def test_a_signal_that_is_waited_for_is_received_with_its_type(place: Place) -> None:
    """Payloads are whatever pydantic writes."""
    async with place.coordinator(approved) as coordinator:
        handle = await coordinator.start(approved(), id="s")
        await coordinator.signal("s", "approval", Approval(by="alice", amount=7))
        assert await handle.result() == Approval(by="alice", amount=7)


async def test_signals_that_come_early_are_kept_in_order_each_name_apart(place: Place) -> None:
    """None is lost, and sent twice is received twice."""
    gate = Gate()

    @step
    async def wait() -> None:
        await gate.wait()

    @saga
    async def body() -> list[int]:
        await wait()
        return [await receive("b", int), await receive("a", int), await receive("a", int), await receive("a", int)]

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")
        await gate.arrival()
        for name, payload in (("a", 1), ("b", 9), ("a", 2), ("a", 2)):
            await coordinator.signal("s", name, payload)
        gate.open()
        assert await handle.result() == [9, 1, 2, 2]


async def test_a_signal_of_the_wrong_type_is_refused_and_the_saga_goes_on_waiting(place: Place) -> None:
    """The sender hears of it."""
    async with place.coordinator(approved) as coordinator:
        handle = await coordinator.start(approved(), id="s")

        async def waits() -> bool:
            return (await coordinator.get("s")).waiting

        await until(waits)
        for wrong in (7, {"by": "alice"}, None):
            with pytest.raises(PayloadError, match="approval"):
                await coordinator.signal("s", "approval", wrong)
        await coordinator.signal("s", "approval", {"by": "bob", "amount": 1})
        assert (await handle.result()).by == "bob"


async def test_the_journal_says_which_signals_a_saga_waits_for_and_of_which_type(place: Place) -> None:
    """Exactly those, whoever drives it: none that lost a race, or came."""

    @saga
    async def body() -> None:
        await gather(receive("first", Approval), receive("any", timeout=500))
        await race(receive("left", int), receive("right", list[int]))
        with suppress(ReceiveTimeout):
            await receive("last", timeout=0.001)
        await receive("hello", str)

    async def waits(**expected: str) -> None:
        await until(lambda: _awaited(coordinator, expected))

    async with place.coordinator(body) as coordinator:
        await coordinator.start(body(), id="s")
        await waits(first=f"{__name__}.Approval", any="")
        one, other = (await coordinator.get("s")).signals
        assert (one.path, other.path, one.until) == ("1:0", "1:1", None)
        assert other.until is not None
        assert (other.until - other.since).total_seconds() == 500
        await coordinator.signal("s", "any", 1)
        await waits(first=f"{__name__}.Approval")
        assert (await coordinator.get("s")).signals == (one,)
    async with place.coordinator(body) as coordinator:
        await coordinator.signal("s", "first", {"by": "alice", "amount": 1})
        await waits(left="int", right="list[int]")
        await coordinator.signal("s", "right", [1])
        await waits(hello="str")
        await coordinator.signal("s", "hello", "you")
        await waits()


async def _awaited(coordinator: Coordinator, expected: dict[str, str]) -> bool:
    return {x.name: x.type for x in (await coordinator.get("s")).signals} == expected


@pytest.mark.parametrize("name", ["", "x" * 201, "\ud800", None, 7], ids=ascii)
async def test_what_cannot_name_a_signal_is_refused(place: Place, name: str) -> None:
    """Nothing is written."""
    async with place.coordinator(approved) as coordinator:
        await coordinator.start(approved(), id="s")
        with pytest.raises(PayloadError, match="cannot name a signal"):
            await coordinator.signal("s", name)


async def test_a_payload_that_cannot_be_written_is_refused(place: Place) -> None:
    """With the signal's name; and by whoever asks for it, since coordinators drop what they cannot read."""
    circle: list[object] = []
    circle.append(circle)
    deep: object = None
    for _ in range(200):
        deep = [deep]
    async with place.coordinator(approved) as coordinator:
        await coordinator.start(approved(), id="s")
        for wrong in (object(), circle, "\ud800", deep):
            with pytest.raises(PayloadError, match="the payload of the signal 'approval' cannot be encoded"):
                await coordinator.signal("s", "approval", wrong)


async def test_an_ended_saga_takes_no_signal(place: Place) -> None:
    """The sender is told how it ended."""
    async with place.coordinator(approved) as coordinator:
        handle = await coordinator.start(approved(), id="s")
        await coordinator.signal("s", "approval", {"by": "alice", "amount": 1})
        await handle.result()
        with pytest.raises(NotApplicable, match=r"has ended \(completed\)"):
            await coordinator.signal("s", "approval", {"by": "alice", "amount": 1})
        with pytest.raises(SagaNotFound):
            await coordinator.signal("t", "approval")


async def test_receiving_may_time_out_and_the_body_may_go_on(place: Place) -> None:
    """A signal that comes later is kept for the next receive."""

    @saga
    async def body() -> str:
        try:
            await receive("a", str, timeout=0.02)
        except ReceiveTimeout:
            return "late: " + await receive("a", str)
        return "in time"

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")

        async def timed_out() -> bool:
            return any(line.what == "timer fired" for line in (await coordinator.get("s")).timeline)

        await until(timed_out)
        await coordinator.signal("s", "a", "x")
        assert await handle.result() == "late: x"


async def test_a_receive_that_times_out_uncaught_compensates(place: Place) -> None:
    """As any failure does."""

    @saga
    async def body() -> None:
        await receive("a", timeout=0.02)

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match="no signal 'a' came in time"):
            await coordinator.run(body())


async def test_a_race_against_a_signal_is_decided_by_it(place: Place) -> None:
    """Side by side with a timer, and in a gather."""

    @saga
    async def body() -> list[str]:
        first = await race(receive("go", str), receive("stop", str))
        return [first, *await gather(receive("x", str), receive("y", str))]

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")
        for name in ("y", "stop", "x"):
            await coordinator.signal("s", name, name)
        assert await handle.result() == ["stop", "x", "y"]


async def test_sagas_dropped_from_memory_come_back_for_a_signal(place: Place) -> None:
    """Nobody notices that they were gone."""
    async with place.coordinator(approved, keep_waiting=0) as coordinator:
        for number in range(5):
            await coordinator.start(approved(), id=f"s{number}")

        async def dropped() -> bool:
            assert coordinator._engine is not None
            return not coordinator._engine.sagas

        await until(dropped)
        for number in range(5):
            await coordinator.signal(f"s{number}", "approval", {"by": "alice", "amount": number})
        for number in range(5):
            assert (await coordinator.run(approved(), id=f"s{number}")).amount == number


async def test_sagas_dropped_from_memory_come_back_for_a_timer(place: Place) -> None:
    """Also when they are asked for, by a start or a get, while they are gone."""
    steps = 0

    @step
    async def work() -> None:
        nonlocal steps
        steps += 1

    @saga
    async def body() -> str:
        for _ in range(3):
            await work()
            await sleep(0.05)
        return "rested"

    async with place.coordinator(body, keep_waiting=0) as coordinator:
        handles = [await coordinator.start(body(), id=f"s{number}") for number in range(5)]

        async def ended() -> bool:
            for number in range(5):
                await coordinator.start(body(), id=f"s{number}")
            return all([(await coordinator.get(f"s{number}")).status == "completed" for number in range(5)])

        await until(ended)
        assert [await handle.result() for handle in handles] == ["rested"] * 5
    assert steps == 15


async def test_a_signal_for_a_saga_of_another_coordinator_reaches_it(place: Place) -> None:
    """Through the journal."""
    async with place.coordinator(approved) as owner, place.coordinator(approved) as other:
        handle = await owner.start(approved(), id="s")
        await other.signal("s", "approval", {"by": "carol", "amount": 3})
        with anyio.fail_after(10):
            assert (await handle.result()).by == "carol"


async def test_a_bad_signal_from_elsewhere_is_dropped_and_good_ones_come_through(place: Place) -> None:
    """The owner's coordinator does not stumble over it."""
    async with place.coordinator(approved) as owner, place.coordinator(approved) as other:
        handle = await owner.start(approved(), id="s")
        await other.signal("s", "approval", "nonsense")
        await other.signal("s", "approval", {"by": "carol", "amount": 3})
        assert (await handle.result()).by == "carol"


@pytest.mark.parametrize("kind", ["signal", "cancel", "retry", "skip", "resume", "nonsense"])
async def test_mail_that_makes_no_sense_is_dropped(place: Place, kind: str) -> None:
    """Whoever wrote it, the coordinator goes on."""
    async with place.coordinator(approved) as coordinator:
        handle = await coordinator.start(approved(), id="s")
        store = place.store()
        store.open(migrate=True)
        for body in (b"[]", b"{}", b"not json", b"\xff", b'{"name": 7}', b'{"name": []}'):
            store.post("s", 1.0, kind, body)
            store.post("nobody", 1.0, kind, body)

        async def dropped() -> bool:
            return not store.mail("anybody", Clock(1e9).now(), 10)

        await until(dropped)
        if not store.in_memory:
            store.close()
        await coordinator.signal("s", "approval", {"by": "alice", "amount": 1})
        assert (await handle.result()).by == "alice"


async def test_a_coordinator_without_the_code_leaves_mail_to_whoever_has_it(place: Place) -> None:
    """A signal is not lost because the first process that sees it does not know the saga."""

    @saga
    async def unrelated() -> None:
        await sleep(0)

    async with place.coordinator(approved) as owner:
        await owner.start(approved(), id="s")
    async with place.coordinator(unrelated) as other:
        await other.signal("s", "approval", {"by": "dave", "amount": 4})
        store = place.store()
        store.open(migrate=True)
        store.post("s", 1.0, "signal", b'{"name": "extra", "payload": 1}')
        store.post("s", 2.0, "signal", b'{"name": "more", "payload": 2}')
        store.post("nobody", 2.0, "signal", b'{"name": "more", "payload": 2}')

        async def looked() -> bool:
            return all(mail.saga_id != "nobody" for mail in store.mail("anybody", 3.0, 10))

        await until(looked)
        assert len(store.mail("anybody", 3.0, 10)) == 3
        if not store.in_memory:
            store.close()
    async with place.coordinator(approved) as owner:
        with anyio.fail_after(10):
            assert (await owner.run(approved(), id="s")).by == "dave"


@pytest.mark.parametrize("error", [KeepsMoving("elsewhere by now"), CoordinatorClosed("on its way out")])
async def test_mail_that_could_not_be_delivered_in_time_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A signal is lost neither by a saga that changes hands nor by a coordinator that is being left."""
    failed: list[int | None] = []
    give = Orders.give

    async def fail_once(self: Orders, saga_id: str, kind: str, body: bytes, *, mail: int | None = None) -> bool:
        if mail is not None and not failed:
            failed.append(mail)
            raise error
        return await give(self, saga_id, kind, body, mail=mail)

    monkeypatch.setattr(Orders, "give", fail_once)
    async with place.coordinator(approved) as owner, place.coordinator() as other:
        handle = await owner.start(approved(), id="s")
        await other.signal("s", "approval", {"by": "erin", "amount": 5})
        with anyio.fail_after(20):
            assert (await handle.result()).by == "erin"
    assert failed
