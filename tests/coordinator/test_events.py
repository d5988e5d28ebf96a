"""Events that sagas emit go out with the records that emit them, and events that come in start sagas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic_core import from_json
from sqlalchemy import create_engine, text

from sagas import (
    Coordinator,
    Event,
    OutsideSaga,
    SagaCompensated,
    SagaStuck,
    Subscription,
    emit,
    gather,
    receive,
    saga,
    step,
)
from sagas.core.operations import SagaCall
from sagas.errors import DeclarationError, MessageTooLarge, TransportError
from sagas.stores import PayloadContext
from sagas.transport import MemoryQueue, Message, Queue
from sagas.transport.events import CloudEvent, read_event

pytestmark = pytest.mark.anyio


@dataclass
class Order:
    item: str
    count: int = 1


async def arriving(queue: Queue, count: int) -> list[CloudEvent]:
    """Takes so many events."""
    found: list[CloudEvent] = []
    with anyio.fail_after(20):
        while len(found) < count:
            deliveries = await queue.receive(count - len(found), wait=10)
            found += [read_event(delivery.message) for delivery in deliveries]
            await queue.ack(*deliveries)
    return found


@step
async def work() -> None: ...


@saga
async def place(order: Order) -> None:
    await emit(Event(type="order.placed", data=order, subject=order.item))
    await work()
    await emit(Event(type="order.paid", data={"count": order.count}))


# --- out ------------------------------------------------------------------------------------------------------------


async def test_events_go_out_as_cloudevents_in_order() -> None:
    queue = MemoryQueue()
    async with Coordinator("memory:", sagas=[place], events=queue.connect()) as coordinator:
        await coordinator.run(place(Order("lamp", 2)), id="order-1")
        first, second = await arriving(queue, 2)
    assert (first.type, first.subject, first.source) == ("order.placed", "lamp", "/sagas/place")
    assert from_json(first.data) == {"item": "lamp", "count": 2}
    assert (second.type, second.subject, from_json(second.data)) == ("order.paid", None, {"count": 2})
    assert first.id != second.id
    assert first.id.startswith("order-1.")


async def test_the_coordinator_closes_the_queues() -> None:
    queue = MemoryQueue().connect()
    async with Coordinator("memory:", sagas=[place], events=queue):
        pass
    with pytest.raises(TransportError, match="closed"):
        await queue.send()


async def test_each_event_goes_to_the_queue_for_its_type() -> None:
    """A type goes before a pattern, a longer pattern before a shorter one."""
    paid, orders, rest = MemoryQueue(), MemoryQueue(), MemoryQueue()
    events = {"*": rest.connect(), "order.*": orders.connect(), "order.paid": paid.connect()}
    async with Coordinator("memory:", sagas=[place], events=events) as coordinator:
        await coordinator.run(place(Order("lamp")))
        assert [event.type for event in await arriving(orders, 1)] == ["order.placed"]
        assert [event.type for event in await arriving(paid, 1)] == ["order.paid"]
    assert rest._shelf.letters == {}  # noqa: SLF001 - what is in it


async def test_what_nobody_takes_waits_for_somebody_who_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And so does what the same saga emitted later, to stay in order."""
    url = f"sqlite:///{tmp_path / 'orders.db'}"
    queue = MemoryQueue()
    async with Coordinator(url, sagas=[place], events={"order.paid": queue.connect()}) as coordinator:
        await coordinator.run(place(Order("lamp")))
        with anyio.fail_after(10):
            while "no queue in Coordinator(events=…)" not in caplog.text:  # noqa: ASYNC110 - the log is what is watched
                await anyio.sleep(0.01)
    assert list(await queue.receive()) == []
    async with Coordinator(url, sagas=[place], events=queue.connect()):
        assert [event.type for event in await arriving(queue, 2)] == ["order.placed", "order.paid"]


async def test_what_nobody_takes_keeps_back_no_other_saga_however_much_it_is() -> None:
    @saga
    async def shout() -> None:
        for _ in range(250):
            await emit(Event(type="noise"))
        await emit(Event(type="order.placed"))

    queue = MemoryQueue()
    async with Coordinator("memory:", sagas=[place, shout], events={"order.*": queue.connect()}) as coordinator:
        await coordinator.run(shout())
        await coordinator.run(place(Order("lamp")), id="later")
        assert [event.id.partition(".")[0] for event in await arriving(queue, 2)] == ["later", "later"]


async def test_an_event_is_written_with_the_record_that_emits_it(tmp_path: Path) -> None:
    """Without anybody who sends it, it waits in the same database."""
    file = tmp_path / "orders.db"
    async with Coordinator(f"sqlite:///{file}", sagas=[place]) as coordinator:
        await coordinator.run(place(Order("lamp")), id="1")
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT seq, type FROM saga_outbox ORDER BY number")).all()
        records = connection.execute(text("SELECT seq, data FROM saga_journal ORDER BY seq")).all()
    engine.dispose()
    assert [tuple(row) for row in rows] == [
        (seq, kind)
        for seq, data in records
        for kind in ("order.placed", "order.paid")
        if f'"{kind}"'.encode() in bytes(data)
    ]
    assert len(rows) == 2


async def test_an_event_that_the_codec_cannot_read_holds_up_its_own_saga_only(caplog: pytest.LogCaptureFixture) -> None:
    """Nor does it end the coordinator; it goes out as soon as the codec can."""
    broken = [True]

    class Keys:
        def encode(self, value: bytes, context: PayloadContext) -> bytes:
            return value

        def decode(self, value: bytes, context: PayloadContext) -> bytes:
            if broken and context.kind == "event" and context.saga_id == "bad":
                raise KeyError("its key is gone")
            return value

    queue = MemoryQueue()
    async with Coordinator("memory:", sagas=[place], events=queue.connect(), codec=Keys()) as coordinator:
        for name in ("bad", "good"):
            await coordinator.run(place(Order("lamp")), id=name)
        assert [event.id.split(".")[0] for event in await arriving(queue, 2)] == ["good", "good"]
        assert "its key is gone" in caplog.text
        broken.clear()
        assert [event.id.split(".")[0] for event in await arriving(queue, 2)] == ["bad", "bad"]


@pytest.mark.parametrize("failure", [TransportError("the broker is away"), KeyError("a fault of its client library")])
async def test_a_queue_that_is_away_gets_its_events_later(failure: Exception) -> None:
    """Each of them, in order."""
    failures = itertools.count()

    class Away(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            if next(failures) < 2:
                raise failure
            await super().send(*messages)

    queue = Away()
    async with Coordinator("memory:", sagas=[place], events=queue.connect()) as coordinator:
        await coordinator.run(place(Order("lamp")))
        assert [event.type for event in await arriving(queue, 2)] == ["order.placed", "order.paid"]


async def test_an_event_that_is_too_large_holds_up_its_own_saga_only(caplog: pytest.LogCaptureFixture) -> None:
    class Small(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            if any(b"x" * 100 in message.body for message in messages):
                raise MessageTooLarge("at most 100 bytes")
            await super().send(*messages)

    queue = Small()
    async with Coordinator("memory:", sagas=[place], events=queue.connect()) as coordinator:
        await coordinator.run(place(Order("x" * 200)), id="large")
        await coordinator.run(place(Order("lamp")), id="small")
        found = await arriving(queue, 2)
    assert [(event.type, event.id.split(".")[0]) for event in found] == [
        ("order.placed", "small"),
        ("order.paid", "small"),
    ]
    assert "at most 100 bytes" in caplog.text


async def test_events_of_many_sagas_and_coordinators_go_out_once_each(tmp_path: Path) -> None:
    """In order for each saga, though any of the coordinators may send them."""
    url = f"sqlite:///{tmp_path / 'orders.db'}"
    queue = MemoryQueue()
    async with (
        Coordinator(url, sagas=[place], events=queue.connect()) as one,
        Coordinator(url, sagas=[place], events=queue.connect()) as other,
    ):
        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon((one, other)[number % 2].run, place(Order(f"{number}")))
        found = await arriving(queue, 60)
        assert list(await queue.receive(wait=0.5)) == []
    by_saga: dict[str, list[str]] = {}
    for event in found:
        by_saga.setdefault(event.id.partition(":")[0], []).append(event.type)
    assert set(map(tuple, by_saga.values())) == {("order.placed", "order.paid")}
    assert len({event.id for event in found}) == 60


async def test_a_replay_emits_nothing_again(tmp_path: Path) -> None:
    @saga
    async def wait() -> str:
        await emit(Event(type="asked"))
        answer = await receive("answer", str)
        await emit(Event(type="answered", data=answer))
        return answer

    url = f"sqlite:///{tmp_path / 'orders.db'}"
    queue = MemoryQueue()
    async with Coordinator(url, sagas=[wait], events=queue.connect()) as coordinator:
        await coordinator.start(wait(), id="1")
        assert [event.type for event in await arriving(queue, 1)] == ["asked"]
    async with Coordinator(url, sagas=[wait], events=queue.connect()) as coordinator:
        await coordinator.signal("1", "answer", "yes")
        assert await coordinator.run(wait(), id="1") == "yes"
        assert [(event.type, event.data) for event in await arriving(queue, 1)] == [("answered", b'"yes"')]
        assert list(await queue.receive(wait=0.3)) == []


async def test_code_that_emits_something_else_does_not_go_on(tmp_path: Path) -> None:
    """A replay could neither send what is new nor take back what is gone."""

    def version(kind: str | None) -> Any:
        @saga(name="wait")
        async def wait() -> str:
            if kind is not None:
                await emit(Event(type=kind))
            return await receive("answer", str)

        return wait

    for number, other in enumerate(["renamed", None]):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        first = version("asked")
        async with Coordinator(url, sagas=[first]) as coordinator:
            await coordinator.start(first(), id="1")
        changed = version(other)
        async with Coordinator(url, sagas=[changed]) as coordinator:
            await coordinator.signal("1", "answer", "yes")
            with pytest.raises(SagaStuck, match="the journal emits event 'asked', the body now"):
                await (await coordinator.start(changed(), id="1")).result()


async def test_events_stay_when_a_saga_is_undone() -> None:
    """What was told cannot be taken back; a body can tell that it was undone."""

    @step
    async def fail() -> None:
        raise OSError("no")

    @saga
    async def doomed() -> None:
        await emit(Event(type="begun"))
        try:
            await gather(fail(), work())
        except Exception:
            await emit(Event(type="failed"))
            raise

    queue = MemoryQueue()
    async with Coordinator("memory:", sagas=[doomed], events=queue.connect()) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(doomed())
        assert [event.type for event in await arriving(queue, 2)] == ["begun", "failed"]


async def test_what_cannot_be_written_fails_where_it_is_emitted() -> None:
    @saga
    async def bad() -> str:
        try:
            await emit(Event(type="odd", data=object()))
        except Exception as error:
            return type(error).__name__
        return "emitted"

    async with Coordinator("memory:", sagas=[bad]) as coordinator:
        assert await coordinator.run(bad()) == "PayloadError"
    with pytest.raises(ValueError, match="no type of an event"):
        Event(type="order placed")
    with pytest.raises(OutsideSaga):
        await emit(Event(type="x"))


# --- in -------------------------------------------------------------------------------------------------------------

handled: list[Order] = []


@step
async def handle(order: Order) -> None:
    handled.append(order)


@saga
async def take(order: Order) -> None:
    await handle(order)


@pytest.fixture(autouse=True)
def _empty() -> None:
    handled.clear()


def placed(number: int, data: bytes = b'{"item":"lamp","count":3}', kind: str = "order.placed") -> Message:
    """An event of somebody else's."""
    headers = {"ce-specversion": "1.0", "ce-id": f"{number}", "ce-source": "/shop", "ce-type": kind}
    return Message(body=data, headers=headers)


async def finished(coordinator: Coordinator, count: int) -> None:
    """Waits until so many sagas have completed."""
    with anyio.fail_after(20):
        while len(await coordinator.list(status="completed")) < count:  # noqa: ASYNC110 - nobody says when
            await anyio.sleep(0.01)


async def test_an_event_starts_a_saga_once_however_often_it_is_delivered() -> None:
    queue = MemoryQueue()
    await queue.send(placed(1), placed(1), placed(2))
    subscription = Subscription(queue.connect(), "order.placed", take)
    async with Coordinator("memory:", sagas=[take], subscriptions=[subscription]) as coordinator:
        await finished(coordinator, 2)
        await queue.send(placed(1))
        with anyio.fail_after(10):
            while queue._shelf.letters:  # noqa: ASYNC110, SLF001 - the queue is what is watched
                await anyio.sleep(0.01)
        assert len(await coordinator.list()) == 2
    assert handled == [Order("lamp", 3)] * 2


async def test_structured_events_are_read_too() -> None:
    queue = MemoryQueue()
    body = b'{"specversion":"1.0","id":"1","source":"/shop","type":"order.placed","data":{"item":"desk"}}'
    await queue.send(Message(body=body, headers={"content-type": "application/cloudevents+json; charset=utf-8"}))
    subscription = Subscription(queue.connect(), "order.*", take)
    async with Coordinator("memory:", sagas=[take], subscriptions=[subscription]) as coordinator:
        await finished(coordinator, 1)
    assert handled == [Order("desk")]


async def test_a_function_makes_the_call_of_an_event() -> None:
    def call(event: CloudEvent) -> SagaCall[None]:
        return take(Order(event.id, count=len(event.data)))

    queue = MemoryQueue()
    await queue.send(placed(7, b"[]"))
    subscription = Subscription(queue.connect(), "*", call)
    async with Coordinator("memory:", sagas=[take], subscriptions=[subscription]) as coordinator:
        await finished(coordinator, 1)
    assert handled == [Order("7", 2)]


async def test_events_of_other_types_are_left() -> None:
    queue = MemoryQueue()
    await queue.send(placed(1, kind="order.shipped"), placed(2))
    subscription = Subscription(queue.connect(), "order.placed", take)
    async with Coordinator("memory:", sagas=[take], subscriptions=[subscription]) as coordinator:
        await finished(coordinator, 1)
        with anyio.fail_after(10):
            while queue._shelf.letters:  # noqa: ASYNC110, SLF001 - the queue is what is watched
                await anyio.sleep(0.01)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (placed(1, b'{"count":"many"}'), "order.count"),
        (placed(1, b"{"), "JSON"),
        (Message(body=b"hello"), "no CloudEvent: it has no header"),
        (Message(body=b"[]", headers={"content-type": "application/cloudevents+json"}), "it lacks specversion"),
    ],
)
async def test_what_can_start_no_saga_goes_to_the_dead_letters(message: Message, reason: str) -> None:
    """With the reason; and nobody else waits for it."""
    queue = MemoryQueue(max_deliveries=3, visibility=0.2)
    await queue.send(message, placed(2))
    subscription = Subscription(queue.connect(), "order.placed", take)
    async with Coordinator("memory:", sagas=[take], subscriptions=[subscription]) as coordinator:
        await finished(coordinator, 1)
        with anyio.fail_after(10):
            while not (dead := await queue.dead_letters()):  # noqa: ASYNC110 - the queue is what is watched
                await anyio.sleep(0.01)
    assert reason in dead[0].reason


async def test_an_event_that_a_saga_emits_starts_another_one() -> None:
    queue = MemoryQueue()
    subscription = Subscription(queue.connect(), "order.placed", take)
    async with Coordinator(
        "memory:", sagas=[place, take], events=queue.connect(), subscriptions=[subscription]
    ) as coordinator:
        await coordinator.run(place(Order("lamp", 9)))
        await finished(coordinator, 2)
    assert handled == [Order("lamp", 9)]


def test_what_cannot_take_an_event_is_refused() -> None:
    @saga
    async def nothing() -> None: ...

    @saga
    async def two(a: int, b: int) -> None: ...

    wrong: Sequence[Any] = (nothing, two)
    for bad in wrong:
        with pytest.raises(DeclarationError, match="as its one parameter"):
            Subscription(MemoryQueue(), "x", bad)
    nonsense: Any = 7
    with pytest.raises(DeclarationError, match="neither saga nor function"):
        Subscription(MemoryQueue(), "x", nonsense)
    with pytest.raises(DeclarationError, match="is no queue"):
        Coordinator("memory:", events=nonsense)
