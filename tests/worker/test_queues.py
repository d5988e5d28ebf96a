"""Requests and replies over queues: the same participant, another way to it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import Coordinator, Worker, current_step, saga, step
from sagas.core.events import ErrorInfo
from sagas.errors import KeyReused, MessageTooLarge, RequestError, TransportError
from sagas.testing.contracts import Participant, TransportContract
from sagas.transport import Delivery, MemoryQueue, Message, QueueTransport, StepReply, StepRequest, Transport, acks
from sagas.transport.messages import Answer, read_answer, read_request, reply_message, request_message

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(
    worker: Worker, requests: MemoryQueue, replies: MemoryQueue, **options: Any
) -> AsyncGenerator[QueueTransport]:
    """Serves a queue, and opens a transport to it."""
    async with anyio.create_task_group() as group:

        async def serve() -> None:
            await worker.serve(requests.connect(), replies=lambda _: replies.connect())

        group.start_soon(serve)
        async with QueueTransport(requests.connect(), replies.connect(), **options) as transport:
            yield transport
        group.cancel_scope.cancel()


class TestOverQueues(TransportContract):
    @pytest.fixture
    async def transport(self, participant: Participant) -> AsyncIterator[Transport]:
        async with (
            Worker(participant.steps, inbox="memory:") as worker,
            serving(worker, MemoryQueue(), MemoryQueue()) as transport,
        ):
            yield transport


def action(name: str, key: str = "k", **more: Any) -> StepRequest:
    """A request."""
    return StepRequest(kind="action", step=name, saga_id="s", path="1", idempotency_key=key, **more)


@step
async def pack() -> str:
    return f"packed {current_step().idempotency_key}"


# --- at least once --------------------------------------------------------------------------------------------------


async def test_a_request_that_is_delivered_again_is_answered_again_and_acts_once() -> None:
    """As after the death of the worker that had it, before it acknowledged it."""
    acted: list[str] = []

    @step
    async def act() -> None:
        acted.append(current_step().idempotency_key)

    answers: list[Answer] = []
    requests, replies = MemoryQueue(), MemoryQueue()
    message = request_message(action("act"), call="1", source="/test", reply_to="replies")
    await requests.send(message, message, message)
    async with Worker([act], inbox="memory:") as worker, anyio.create_task_group() as group:

        async def serve() -> None:
            await worker.serve(requests.connect(), replies=lambda _: replies.connect())

        group.start_soon(serve)
        answers += [read_answer((await replies.receive(wait=10))[0].message) for _ in range(3)]
        group.cancel_scope.cancel()
    assert {answer.reply for answer in answers} == {StepReply.succeeded(b"null")}
    assert acted == ["k"]


async def test_nothing_is_acknowledged_before_its_reply_is_sent() -> None:
    """If it cannot be sent, the request is delivered again, and answered from memory."""
    acted: list[int] = []
    sent: list[str] = []
    failures = [TransportError("the broker is away")] * 2

    @step
    async def act() -> int:
        acted.append(1)
        return 7

    class Shaky(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            if failures:
                raise failures.pop()
            sent.append("reply")
            await super().send(*messages)

    class Noting(MemoryQueue):
        async def ack(self, *deliveries: Delivery) -> None:
            sent.append("ack")
            await super().ack(*deliveries)

    async with (
        Worker([act], inbox="memory:") as worker,
        serving(worker, Noting(visibility=0.3), Shaky()) as transport,
    ):
        with anyio.fail_after(20):
            assert await transport.call(action("act")) == StepReply.succeeded(b"7")
            while len(sent) < 2:  # noqa: ASYNC110 - what is sent is watched
                await anyio.sleep(0.001)
    assert (acted, sent[:2]) == ([1], ["reply", "ack"])


async def test_a_worker_that_is_left_has_acknowledged_what_it_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else all of it would be delivered once more."""
    monkeypatch.setattr(acks, "_LINGER", 1e9)
    acked: list[Delivery] = []

    class Noting(MemoryQueue):
        async def ack(self, *deliveries: Delivery) -> None:
            acked.extend(deliveries)
            await super().ack(*deliveries)

    requests, replies = Noting(visibility=1e11), Noting(visibility=1e11)
    async with Worker([pack], inbox="memory:") as worker, serving(worker, requests, replies) as transport:
        for number in range(3):
            await transport.call(action("pack", key=f"k{number}"))
        assert acked == []
    assert len(acked) == 6, "three requests and three replies"


async def test_a_lost_reply_leaves_the_step_in_doubt_and_another_request_finds_it() -> None:
    class Lossy(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            kept = [x for x in messages if x.headers["ce-sagacall"] in later]
            later.update(x.headers["ce-sagacall"] for x in messages)
            await super().send(*kept)

    later: set[str] = set()
    async with Worker([pack], inbox="memory:") as worker, serving(worker, MemoryQueue(), Lossy()) as transport:
        lost = await transport.call(action("pack", deadline=time.time() + 0.05))
        assert (lost.outcome, lost.reached) == ("in_doubt", False)


async def test_what_is_no_request_goes_to_the_dead_letters_with_the_reason() -> None:
    requests = MemoryQueue(max_deliveries=3, capabilities=replace(MemoryQueue.ABLE, nack_delay=False))
    await requests.send(Message(body=b"hello"))
    async with Worker([pack], inbox="memory:") as worker, serving(worker, requests, MemoryQueue()) as transport:
        with anyio.fail_after(10):
            while not (dead := await requests.dead_letters()):  # noqa: ASYNC110 - the queue is what is watched
                await anyio.sleep(0.001)
        assert (await transport.call(action("pack"))).outcome == "succeeded"
    assert dead[0].count == 3
    assert "it has no header 'ce-type'" in dead[0].reason


async def test_a_long_step_keeps_its_request() -> None:
    """Nobody else gets it meanwhile."""
    begun: list[int] = []

    @step
    async def long() -> None:
        begun.append(1)
        await anyio.sleep(1.0)

    requests = MemoryQueue(visibility=0.2)
    async with (
        Worker([long], inbox="memory:") as worker,
        serving(worker, requests, MemoryQueue()) as transport,
        anyio.create_task_group() as group,
    ):
        group.start_soon(transport.call, action("long"))
        while not begun:  # noqa: ASYNC110 - the step is what is watched
            await anyio.sleep(0.001)
        assert list(await requests.receive(wait=0.6)) == []
    assert begun == [1]


@pytest.mark.parametrize("fault", ["receive", "extend", "nack", "ack"])
async def test_a_fault_of_a_queues_client_ends_neither_worker_nor_transport(fault: str) -> None:
    """Whatever is raised. What it was about is done again."""

    class Faulty(MemoryQueue):
        tripped: ClassVar[list[str]] = []

        def trip(self, what: str) -> None:
            if what == fault and what not in self.tripped:
                self.tripped.append(what)
                raise KeyError("of the client library")

        async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
            self.trip("receive")
            return await super().receive(limit, wait=wait)

        async def extend(self, delivery: Delivery, seconds: float) -> None:
            self.trip("extend")
            await super().extend(delivery, seconds)

        async def nack(self, delivery: Delivery, *, delay: float = 0.0, reason: str = "") -> None:
            self.trip("nack")
            await super().nack(delivery, delay=delay, reason=reason)

        async def ack(self, *deliveries: Delivery) -> None:
            self.trip("ack")
            await super().ack(*deliveries)

    @step
    async def long() -> str:
        await anyio.sleep(0.3)
        return "done"

    requests, replies = Faulty(visibility=0.3), MemoryQueue()
    await requests.send(Message(body=b"no request"))
    async with Worker([long], inbox="memory:") as worker, serving(worker, requests, replies) as transport:
        with anyio.fail_after(20):
            assert await transport.call(action("long")) == StepReply.succeeded(b'"done"')
            while not requests.tripped:  # noqa: ASYNC110 - the queue is what is watched
                await anyio.sleep(0.001)
            assert await transport.call(action("long", "k2")) == StepReply.succeeded(b'"done"')


async def test_a_fault_where_replies_come_from_leaves_the_transport_as_it_was() -> None:
    faults = [KeyError("of the client library")]

    class Faulty(MemoryQueue):
        async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
            if faults:
                raise faults.pop()
            return await super().receive(limit, wait=wait)

    async with Worker([pack], inbox="memory:") as worker, serving(worker, MemoryQueue(), Faulty()) as transport:
        with anyio.fail_after(20):
            assert (await transport.call(action("pack"))).outcome == "succeeded"
    assert faults == []


async def test_a_worker_takes_no_more_than_it_can_perform() -> None:
    """The rest is for others."""
    go = anyio.Event()
    running: list[str] = []

    @step
    async def hold() -> None:
        running.append(current_step().idempotency_key)
        await go.wait()

    requests, replies = MemoryQueue(), MemoryQueue()
    async with Worker([hold], inbox="memory:") as worker, anyio.create_task_group() as group:

        async def serve() -> None:
            await worker.serve(requests.connect(), replies=lambda _: replies.connect(), concurrency=3)

        group.start_soon(serve)
        async with QueueTransport(requests.connect(), replies.connect()) as transport:
            for number in range(5):
                group.start_soon(transport.call, action("hold", f"k{number}"))
            with anyio.fail_after(10):
                while len(running) < 3:  # noqa: ASYNC110 - the step is what is watched
                    await anyio.sleep(0.001)
                assert len(await requests.receive(5, wait=1.0)) == 2
            go.set()
            group.cancel_scope.cancel()
    assert len(running) == 3


async def test_a_worker_that_is_left_answers_what_it_has_taken() -> None:
    begun, go = anyio.Event(), anyio.Event()
    found: list[StepReply] = []

    @step
    async def hold() -> str:
        begun.set()
        await go.wait()
        return "done"

    requests, replies = MemoryQueue(), MemoryQueue()
    async with QueueTransport(requests.connect(), replies.connect()) as transport, anyio.create_task_group() as group:

        async def ask() -> None:
            found.append(await transport.call(action("hold")))

        async with Worker([hold], inbox="memory:") as worker:

            async def serve() -> None:
                await worker.serve(requests.connect(), replies=lambda _: replies.connect())

            group.start_soon(serve)
            group.start_soon(ask)
            await begun.wait()
            group.start_soon(_after, go)
    assert found == [StepReply.succeeded(b'"done"')]


async def _after(event: anyio.Event) -> None:
    await anyio.sleep(0.05)
    event.set()


# --- how long -------------------------------------------------------------------------------------------------------


async def test_a_request_that_nobody_begins_in_time_is_in_doubt_and_not_begun_later() -> None:
    begun: list[int] = []

    @step
    async def act() -> None:
        begun.append(1)

    requests, replies = MemoryQueue(), MemoryQueue()
    async with QueueTransport(requests.connect(), replies.connect(), start_within=0.05) as transport:
        reply = await transport.call(action("act"))
        assert (reply.outcome, reply.reached) == ("in_doubt", False)
        assert reply.error is not None
        assert "not begun within 0.05 s" in reply.error.message
    async with Worker([act], inbox="memory:") as worker, serving(worker, requests, replies):
        with anyio.fail_after(10):
            while requests._shelf.letters:  # noqa: ASYNC110, SLF001 - the queue is what is watched
                await anyio.sleep(0.001)
    assert begun == []


async def test_a_step_that_was_begun_in_time_may_take_longer() -> None:
    @step
    async def slow() -> str:
        await anyio.sleep(0.3)
        return "done"

    async with (
        Worker([slow], inbox="memory:") as worker,
        serving(worker, MemoryQueue(), MemoryQueue(), start_within=0.15) as transport,
    ):
        assert await transport.call(action("slow")) == StepReply.succeeded(b'"done"')


async def test_signs_of_life_come_through_the_queue() -> None:
    beats: list[float] = []
    heard = anyio.Event()

    def beat() -> None:
        beats.append(time.monotonic())
        heard.set()

    @step(heartbeat=30.0)
    async def long() -> None:
        current_step().heartbeat()
        await heard.wait()

    async with Worker([long], inbox="memory:") as worker, serving(worker, MemoryQueue(), MemoryQueue()) as transport:
        with anyio.fail_after(10):
            assert (await transport.call(action("long"), beat=beat)).outcome == "succeeded"
    assert beats


async def test_no_signs_of_life_are_sent_where_nobody_heeds_them() -> None:
    outcomes: list[str] = []

    @step
    async def beating() -> None:
        for _ in range(3):
            current_step().heartbeat()
            await anyio.sleep(0.6)

    class Noting(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            outcomes.extend(message.headers["ce-sagaoutcome"] for message in messages)
            await super().send(*messages)

    async with Worker([beating], inbox="memory:") as worker, serving(worker, MemoryQueue(), Noting()) as transport:
        with anyio.fail_after(10):
            assert (await transport.call(action("beating"))).outcome == "succeeded"
    assert outcomes == ["succeeded"]


async def test_a_reply_finds_a_queue_whatever_it_is_called() -> None:
    asked: list[str] = []
    replies = MemoryQueue()

    def open_replies(name: str) -> MemoryQueue:
        asked.append(name)
        return replies.connect()

    requests = MemoryQueue()
    message = request_message(action("pack"), call="1", source="/test", reply_to="ein weg%20zurück")
    await requests.send(message)
    async with Worker([pack], inbox="memory:") as worker, anyio.create_task_group() as group:

        async def serve() -> None:
            await worker.serve(requests.connect(), replies=open_replies)

        group.start_soon(serve)
        assert await replies.receive(wait=10)
        group.cancel_scope.cancel()
    assert asked == ["ein weg%20zurück"]


async def test_what_is_too_large_for_the_queue_fails_before_anything_is_sent() -> None:
    """And a result that is too large is told to be in doubt, though it is remembered."""

    @step
    async def echo(text: str, times: int) -> str:
        return text * times

    small = MemoryQueue(capabilities=replace(MemoryQueue.ABLE, max_bytes=2_000))
    async with (
        Worker([echo], inbox="memory:") as worker,
        serving(worker, small, MemoryQueue(capabilities=small.capabilities)) as transport,
    ):
        with pytest.raises(MessageTooLarge, match="at most 2000 bytes"):
            await transport.call(action("echo", "a", arguments=b'{"text":"' + b"x" * 2_000 + b'","times":1}'))
        result = await transport.call(action("echo", "b", arguments=b'{"text":"x","times":2000}'))
        assert (result.outcome, result.error is not None and "at most 2000" in result.error.message) == (
            "in_doubt",
            True,
        )


async def test_whoever_reads_the_replies_of_others_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once; and not of those that were left behind by a process before it."""
    times = iter([1_000.0, 2_000.0, 3_000.0])
    requests, replies = MemoryQueue(), MemoryQueue()
    async with Worker([pack], inbox="memory:") as worker, serving(worker, requests, replies, now=lambda: next(times)):
        for began in (1, 999_999_999):
            message = request_message(action("pack"), call=f"{began}.abc-1", source="/x", reply_to="replies")
            await requests.send(message)
        with anyio.fail_after(10):
            while requests._shelf.letters or replies._shelf.letters:  # noqa: ASYNC110, SLF001 - what is watched
                await anyio.sleep(0.001)
        assert caplog.messages == []
        for number in range(2):
            later = request_message(action("pack"), call=f"1000000000.def-{number}", source="/x", reply_to="replies")
            await requests.send(later)
        with anyio.fail_after(10):
            while requests._shelf.letters or replies._shelf.letters:  # noqa: ASYNC110, SLF001 - what is watched
                await anyio.sleep(0.001)
    (told,) = caplog.messages
    assert "two read this queue" in told


async def test_a_key_that_is_reused_is_an_error_over_a_queue_too() -> None:
    @step
    async def echo(text: str) -> str:
        return text

    async with Worker([echo], inbox="memory:") as worker, serving(worker, MemoryQueue(), MemoryQueue()) as transport:
        await transport.call(action("echo", arguments=b'{"text":"a"}'))
        with pytest.raises(KeyReused):
            await transport.call(action("echo", arguments=b'{"text":"b"}'))


async def test_a_queue_without_a_way_back_is_refused() -> None:
    async with Worker([pack], inbox="memory:") as worker:
        with pytest.raises(RequestError, match="needs replies="):
            await worker.serve(MemoryQueue())
        with pytest.raises(TransportError, match="does not name a queue"):
            await worker.serve("nats://localhost:4222")
    with pytest.raises(RequestError, match="not running"):
        await worker.serve(MemoryQueue(), replies=lambda _: MemoryQueue())


async def test_a_saga_runs_over_a_queue() -> None:
    """The coordinator opens the transport, and closes it with both queues."""

    @step(name="packing.pack", remote=True)
    async def pack_remotely() -> str:
        raise AssertionError

    @saga
    async def order() -> str:
        return await pack_remotely()

    @step(name="packing.pack")
    async def pack_here() -> str:
        return "packed"

    requests, replies = MemoryQueue(), MemoryQueue()
    async with Worker([pack_here], inbox="memory:") as worker, anyio.create_task_group() as group:

        async def serve() -> None:
            await worker.serve(requests.connect(), replies=lambda _: replies.connect())

        group.start_soon(serve)
        mine = requests.connect()
        async with Coordinator(
            "memory:", sagas=[order], routes={"packing.*": QueueTransport(mine, replies.connect())}
        ) as coordinator:
            assert await coordinator.run(order()) == "packed"
        with pytest.raises(TransportError, match="closed"):
            await mine.receive()
        group.cancel_scope.cancel()


# --- messages -------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
numbers = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=5
)


def _json(value: object) -> bytes:
    import pydantic_core

    return pydantic_core.to_json(value)


requests_ = st.builds(
    lambda kind, result, **more: StepRequest(
        kind=kind, undoes="k" if kind == "undo" else None, result=result if kind == "undo" else None, **more
    ),
    kind=st.sampled_from(["action", "undo", "probe"]),
    result=st.none() | numbers.map(_json),
    step=texts,
    saga_id=texts,
    path=texts,
    idempotency_key=texts,
    attempt=st.integers(1, 10**6),
    arguments=st.dictionaries(texts, numbers, max_size=3).map(_json),
    deadline=st.none() | st.floats(0, 1e11),
)


@given(requests_)
def test_a_request_is_the_same_after_its_journey(request: StepRequest) -> None:
    message = request_message(request, call="c", source="/ä b", reply_to="näch bar")
    assert all(value.isascii() and value.isprintable() for value in message.headers.values())
    assert read_request(message) == request


replies_ = st.one_of(
    st.builds(StepReply.succeeded, numbers.map(_json)),
    st.builds(
        StepReply,
        st.sampled_from(["rejected", "failed", "in_doubt"]),
        error=st.builds(
            ErrorInfo, texts, st.text(st.characters(exclude_categories=["Cs"])), st.none() | numbers.map(_json), texts
        ),
        retry_after=st.none() | st.floats(0, 1e6),
    ),
    st.sampled_from([StepReply.running(), StepReply.fenced(), StepReply.not_applied()]),
)


@given(replies_)
def test_a_reply_is_the_same_after_its_journey(reply: StepReply) -> None:
    asked = request_message(action("pack"), call="c", source="/a", reply_to="r")
    answer = read_answer(reply_message(asked.headers, reply, source="/b"))
    assert (answer.call, answer.reply) == ("c", reply)


def test_messages_are_cloudevents() -> None:
    """As the library that everybody uses reads them."""
    from cloudevents.core.bindings.http import HTTPMessage, from_binary
    from cloudevents.core.formats.json import JSONFormat

    message = request_message(
        action("pack", "schlüssel", arguments=b'{"a":1}', headers={"traceparent": "00-1-2-01"}),
        call="c", source="/orders", reply_to="r",
    )  # fmt: skip
    event: Any = from_binary(HTTPMessage(headers=dict(message.headers), body=message.body), JSONFormat())
    assert (event.get_id(), event.get_type(), event.get_source()) == ("c", "sagas.step.requested", "/orders")
    assert event.get_extension("sagakey") == "schlüssel"
    assert event.get_data() == {"a": 1}


@pytest.mark.parametrize(
    "broken",
    [
        {"ce-type": "other"},
        {"ce-sagakind": "dance"},
        {"ce-sagaattempt": "first"},
        {"ce-sagadeadline": "soon"},
    ],
)
def test_what_is_no_request_is_refused(broken: dict[str, str]) -> None:
    message = request_message(action("pack", deadline=1.0), call="c", source="/a", reply_to="r")
    with pytest.raises(TransportError, match="no request for a step"):
        read_request(replace(message, headers={**message.headers, **broken}))
