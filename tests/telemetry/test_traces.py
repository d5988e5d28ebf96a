"""One trace a saga, which is a tree: received over real OTLP, by gRPC and by HTTP."""

from __future__ import annotations

import io
import logging
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import Attributes
from sqlmodel import Session

from sagas import (
    Coordinator,
    Event,
    ReceiveTimeout,
    Rejected,
    Retry,
    SagaCompensated,
    Subscription,
    emit,
    gather,
    lock,
    receive,
    saga,
    scope,
    sleep,
    step,
)
from sagas.telemetry import SagaLogFilter
from sagas.transport import MemoryQueue
from tests.support.otlp import OtlpReceiver, ReceivedSpan, SpanNode, tree


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    """One for all tests; each looks at its own trace."""
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(params=["grpc", "http"])
def provider(request: pytest.FixtureRequest, receiver: OtlpReceiver) -> Iterator[TracerProvider]:
    """Exports to the receiver."""
    provider = _provider(receiver, request.param)
    yield provider
    provider.shutdown()


def _provider(receiver: OtlpReceiver, protocol: str = "grpc", **options: object) -> TracerProvider:
    exporter: SpanExporter = (
        GrpcExporter(endpoint=receiver.grpc_endpoint, insecure=True)
        if protocol == "grpc"
        else HttpExporter(endpoint=receiver.http_endpoint)
    )
    provider = TracerProvider(**options)  # type: ignore[arg-type]  # a sampler
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


async def _spans(provider: TracerProvider, receiver: OtlpReceiver, trace_id: str) -> list[ReceivedSpan]:
    """What has come of one trace, when everything was sent."""
    assert await anyio.to_thread.run_sync(provider.force_flush)
    return [span for span in receiver.spans() if span.trace_id == trace_id]


async def _tree(provider: TracerProvider, receiver: OtlpReceiver, traceparent: str) -> SpanNode:
    return tree(await _spans(provider, receiver, traceparent.split("-")[1]))


@step
async def reserve(sku: str) -> str:
    """Acts."""
    return sku


@reserve.compensator
async def release(sku: str) -> None:
    """Takes it back."""


@step
async def charge(amount: int) -> int:
    """Acts, or refuses."""
    if amount < 0:
        raise Rejected("negative")
    return amount


@saga(version="3")
async def order(sku: str, amount: int) -> str:
    """Two steps side by side, and one more."""
    await gather(reserve(sku), reserve(sku + "2"))
    await charge(amount)
    return "done"


async def test_a_saga_that_completes_is_a_root_with_a_child_an_attempt(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    """With the attributes to find them by, and no payloads."""
    async with Coordinator("memory:", sagas=[order], tracer_provider=provider) as coordinator:
        await coordinator.run(order("secret-sku", 7), id="s")
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    assert (root.span.name, root.span.status, root.span.scope) == ("saga order", "UNSET", "sagas")
    assert root.span.attributes == {
        "saga.id": "s", "saga.name": "order", "saga.version": "3", "saga.outcome": "completed",
    }  # fmt: skip
    assert [child.span.name for child in root.children] == ["step reserve", "step reserve", "step charge"]
    for child in root.children:
        assert child.span.attributes["saga.id"] == "s"
        assert child.span.attributes["saga.attempt"] == 1
        assert "saga.compensation" not in child.span.attributes
        assert root.span.start_ns <= child.span.start_ns <= child.span.end_ns
        assert child.span.start_ns <= root.span.end_ns
    assert len({str(child.span.attributes["saga.path"]) for child in root.children}) == 3
    assert "secret" not in repr([node.span for node in root.walk()])


async def test_a_compensation_is_linked_to_the_attempt_that_it_undoes(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    """The failing attempt and the root say why."""
    async with Coordinator("memory:", sagas=[order], tracer_provider=provider) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(order("a", -1), id="s")
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    assert root.span.attributes["saga.outcome"] == "compensated"
    assert (root.span.status, root.span.status_message) == ("ERROR", "Rejected: negative")
    failed = root.find("step charge").span
    assert (failed.status, failed.status_message) == ("ERROR", "Rejected: negative")
    assert [event.name for event in failed.events] == ["exception"]
    undone = [child.span for child in root.children if child.span.name == "compensate reserve"]
    done = {child.span.span_id: child.span for child in root.children if child.span.name == "step reserve"}
    assert len(undone) == len(done) == 2
    for span in undone:
        assert span.attributes["saga.compensation"] is True
        (link,) = span.links
        assert link.trace_id == span.trace_id
        assert done.pop(link.span_id).attributes["saga.path"] == span.attributes["saga.path"]


async def test_so_is_one_in_a_transaction(provider: TracerProvider, receiver: OtlpReceiver, tmp_path: Path) -> None:
    """An attempt that failed says why, as any other."""
    failures = iter([True])

    @step(transactional=True)
    def enter(session: Session) -> None: ...

    @enter.compensator(transactional=True, retry=Retry(attempts=2, initial=0))
    def strike(session: Session) -> None:
        if next(failures, False):
            raise ConnectionError("no")

    @saga
    async def body() -> None:
        await enter()
        raise ValueError("no")

    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    async with Coordinator(journal, sagas=[body], tracer_provider=provider) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    done, failed, undone = (child.span for child in root.children)
    assert [x.name for x in (done, failed, undone)] == ["step enter", "compensate enter", "compensate enter"]
    assert (failed.status, failed.status_message) == ("ERROR", "ConnectionError: no")
    assert [x.attributes["saga.attempt"] for x in (failed, undone)] == [1, 2]
    assert [[link.span_id for link in x.links] for x in (failed, undone)] == [[done.span_id]] * 2


async def test_retries_are_siblings_that_count_their_attempts(provider: TracerProvider, receiver: OtlpReceiver) -> None:
    """Those that failed say so; so does a compensator's."""
    calls: list[str] = []

    @step(retry=Retry(attempts=3, initial=0))
    async def flaky() -> None:
        calls.append("flaky")
        if len(calls) < 3:
            raise ConnectionError(f"try {len(calls)}")

    @flaky.compensator(retry=Retry(attempts=2, initial=0))
    async def undo() -> None:
        calls.append("undo")
        if calls.count("undo") < 2:
            raise ConnectionError("undo failed")

    @saga
    async def body() -> None:
        await flaky()
        raise ValueError("no")

    async with Coordinator("memory:", sagas=[body], tracer_provider=provider) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    assert [(x.span.name, x.span.attributes["saga.attempt"], x.span.status) for x in root.children] == [
        ("step flaky", 1, "ERROR"),
        ("step flaky", 2, "ERROR"),
        ("step flaky", 3, "UNSET"),
        ("compensate flaky", 1, "ERROR"),
        ("compensate flaky", 2, "UNSET"),
    ]
    last = root.children[2].span.span_id
    assert [[link.span_id for link in child.span.links] for child in root.children[3:]] == [[last], [last]]


async def test_the_callers_own_span_is_the_parent_and_spans_inside_a_step_nest_in_its_attempt(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    """In the event loop and in worker threads; the caller's span is still current afterwards."""
    tracer = provider.get_tracer("app")

    @step
    async def call() -> None:
        with tracer.start_as_current_span("client call"):
            pass

    @step
    def call_in_a_thread() -> None:
        with tracer.start_as_current_span("client call in a thread"):
            pass

    @saga
    async def body() -> None:
        await call()
        await call_in_a_thread()

    async with Coordinator("memory:", sagas=[body], tracer_provider=provider) as coordinator:
        with tracer.start_as_current_span("request") as request:
            await coordinator.run(body(), id="s")
            assert trace.get_current_span() is request
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    assert root.span.name == "request"
    (saga_node,) = root.children
    assert saga_node.span.name == "saga body"
    assert [child.span.name for child in saga_node.children] == ["step call", "step call_in_a_thread"]
    assert [[x.span.name for x in child.children] for child in saga_node.children] == [
        ["client call"],
        ["client call in a thread"],
    ]


async def test_child_sagas_scopes_and_branches_hold_what_runs_in_them_and_waits_have_spans(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    """By names of which there are few; what tells them apart are attributes."""

    @saga
    async def pack(sku: str) -> None:
        await sleep(0.01)
        await reserve(sku)

    async def pick(sku: str) -> None:
        await reserve(sku)
        await reserve(sku)

    @saga
    async def body() -> None:
        async with lock("shelf-7"):
            await gather(pick("a"), pack("b"))
        async with scope():
            await charge(1)
        await receive("address-of-7", str)
        with suppress(ReceiveTimeout):
            await receive("never", str, timeout=0.01)

    async with Coordinator("memory:", sagas=[body], tracer_provider=provider) as coordinator:
        handle = await coordinator.start(body(), id="s")
        await coordinator.signal("s", "address-of-7", "here")
        await handle.result()
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    below = {x.span.name: [y.span.name for y in x.children] for x in root.children}
    assert below.keys() == {"branch", "saga pack", "scope", "wait for lock", "receive"}
    assert below["branch"] == ["step reserve", "step reserve"]
    assert below["saga pack"] == ["sleep", "step reserve"]
    assert below["scope"] == ["step charge"]
    waits = [x.span for x in root.walk() if x.span.name in {"sleep", "receive", "wait for lock"}]
    assert all(root.span.start_ns <= x.start_ns <= x.end_ns <= root.span.end_ns for x in waits)
    assert next(x for x in waits if x.name == "wait for lock").attributes["saga.lock"] == "shelf-7"
    assert {"signal"} == {event.name for event in root.span.events}
    timed_out = [x.attributes["saga.signal"] for x in waits if x.attributes.get("saga.timed_out")]
    assert timed_out == ["never"]


async def test_what_a_failed_child_saga_did_is_undone_at_a_glance(
    provider: TracerProvider, receiver: OtlpReceiver
) -> None:
    """Undos are children of the root, whatever they undo was in."""

    @saga
    async def pack() -> None:
        await reserve("a")
        await charge(-1)

    @saga
    async def body() -> None:
        await pack()

    async with Coordinator("memory:", sagas=[body], tracer_provider=provider) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
        root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    assert [x.span.name for x in root.children] == ["saga pack", "compensate reserve"]
    done, failed = root.children[0].children
    assert [link.span_id for link in root.children[1].span.links] == [done.span.span_id]
    assert (failed.span.status, failed.span.attributes["error.type"]) == ("ERROR", "sagas.errors.Rejected")
    assert root.span.attributes["error.type"] == "sagas.errors.Rejected"


async def test_a_callers_baggage_and_tracestate_reach_steps_and_survive_a_takeover(
    receiver: OtlpReceiver, tmp_path: Path
) -> None:
    """They are in the journal."""
    provider = _provider(receiver)
    seen: list[tuple[object, str]] = []
    looked = anyio.Event()

    @step
    async def look() -> None:
        looked.set()
        context = trace.get_current_span().get_span_context()
        seen.append((baggage.get_baggage("tenant"), context.trace_state.to_header()))

    @saga
    async def body() -> None:
        await look()
        await receive("go", str)
        await look()

    store = f"sqlite:///{tmp_path / 'j.db'}"
    caller = SpanContext(
        secrets.randbits(128), 8, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("shop", "x")])
    )
    context = trace.set_span_in_context(NonRecordingSpan(caller), baggage.set_baggage("tenant", "blue"))
    try:
        async with Coordinator(store, sagas=[body], tracer_provider=provider) as coordinator:
            token = attach(context)
            await coordinator.start(body(), id="s")
            detach(token)
            await looked.wait()
        async with Coordinator(store, sagas=[body], tracer_provider=provider) as coordinator:
            await coordinator.signal("s", "go", "")
            await coordinator.run(body(), id="s")
            spans = await _spans(provider, receiver, trace.format_trace_id(caller.trace_id))
    finally:
        provider.shutdown()
    assert seen == [("blue", "shop=x")] * 2
    root = next(span for span in spans if span.name == "saga body")
    assert root.parent_span_id == f"{8:016x}"
    assert {span.parent_span_id for span in spans if span is not root} == {root.span_id}


async def test_the_sampler_is_asked_once_and_its_word_is_kept(receiver: OtlpReceiver) -> None:
    """Also by one that would say something else a moment later, and with what it may want to know."""

    class OnceOnly(Sampler):
        def __init__(self) -> None:
            self.asked: list[Attributes] = []

        def should_sample(
            self, parent_context: Context | None, trace_id: int, name: str, kind: SpanKind | None = None,
            attributes: Attributes = None, links: Sequence[Link] | None = None, trace_state: TraceState | None = None,
        ) -> SamplingResult:  # fmt: skip
            self.asked.append(attributes)
            return SamplingResult(Decision.RECORD_AND_SAMPLE if len(self.asked) == 1 else Decision.DROP)

        def get_description(self) -> str:
            return "once"

    sampler = OnceOnly()
    provider = _provider(receiver, sampler=sampler)
    try:
        async with Coordinator("memory:", sagas=[order], tracer_provider=provider) as coordinator:
            await coordinator.run(order("a", 1), id="s")
            await coordinator.run(order("a", 1), id="t")
            root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
            assert await _spans(provider, receiver, (await coordinator.get("t")).trace.split("-")[1]) == []
    finally:
        provider.shutdown()
    assert len(list(root.walk())) == 4
    assert sampler.asked == [{"saga.id": "s", "saga.name": "order"}, {"saga.id": "t", "saga.name": "order"}]


async def test_log_records_of_steps_say_which_saga_and_trace_they_belong_to(
    provider: TracerProvider, receiver: OtlpReceiver, tmp_path: Path
) -> None:
    """In the event loop, in threads and in transactions; elsewhere they are empty."""
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    handler.addFilter(SagaLogFilter())
    text = "%(message)s %(saga_id)s %(saga_step)s %(saga_path)s %(saga_attempt)s %(trace_id)s %(span_id)s"
    handler.setFormatter(logging.Formatter(text))
    log = logging.getLogger("tests.shop")
    log.addHandler(handler)
    log.setLevel(logging.INFO)

    @step
    async def looped() -> None:
        log.info("loop")

    @step
    def threaded() -> None:
        log.info("thread")

    @step(transactional=True)
    def transacted(session: Session) -> None:
        log.info("transaction")

    @saga
    async def body() -> None:
        await looped()
        await threaded()
        await transacted()

    try:
        log.info("before")
        store = f"sqlite:///{tmp_path / 'j.db'}"
        async with Coordinator(store, sagas=[body], tracer_provider=provider) as coordinator:
            await coordinator.run(body(), id="s")
            root = await _tree(provider, receiver, (await coordinator.get("s")).trace)
    finally:
        log.removeHandler(handler)
    spans = [x.span for x in root.children]
    names = ["looped", "threaded", "transacted"]
    assert [x.name for x in spans] == [f"step {name}" for name in names]
    said = ["loop", "thread", "transaction"]
    assert shown.getvalue().splitlines() == ["before    0  "] + [
        f"{what} s {name} {number} 1 {span.trace_id} {span.span_id}"
        for number, (what, name, span) in enumerate(zip(said, names, spans, strict=True), 1)
    ]


async def test_a_saga_that_an_event_starts_belongs_to_the_trace_of_the_one_that_emitted_it(
    receiver: OtlpReceiver,
) -> None:
    """Over a queue, in the headers and in the attributes that CloudEvents has for it."""
    provider = _provider(receiver)

    @saga
    async def first() -> None:
        await emit(Event(type="order.placed", data={"sku": "a"}))

    @saga
    async def second(data: dict[str, str]) -> str:
        return await reserve(data["sku"])

    queue = MemoryQueue("events")
    try:
        async with Coordinator(
            "memory:", sagas=[first, second], events=queue, tracer_provider=provider,
            subscriptions=[Subscription(queue, "order.*", second)],
        ) as coordinator:  # fmt: skip
            await coordinator.run(first(), id="s")
            trace_id = (await coordinator.get("s")).trace.split("-")[1]
            while len(spans := await _spans(provider, receiver, trace_id)) < 3:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            root = tree(spans)
    finally:
        provider.shutdown()
    assert root.span.name == "saga first"
    assert [x.span.name for x in root.children] == ["saga second"]
    assert [x.span.name for x in root.children[0].children] == ["step reserve"]


async def test_of_a_caller_that_is_not_sampled_nothing_is_exported(receiver: OtlpReceiver) -> None:
    """Nor of a saga that the sampler itself leaves out."""
    provider = _provider(receiver, sampler=ParentBased(ALWAYS_OFF))
    before = len(receiver.spans())
    try:
        async with Coordinator("memory:", sagas=[order], tracer_provider=provider) as coordinator:
            with provider.get_tracer("app").start_as_current_span("request"):
                await coordinator.run(order("a", 1), id="s")
            await coordinator.run(order("a", 1), id="t")
            with pytest.raises(SagaCompensated):
                await coordinator.run(order("a", -1), id="u")
        assert await anyio.to_thread.run_sync(provider.force_flush)
    finally:
        provider.shutdown()
    assert receiver.spans()[before:] == []


async def test_a_sampler_keeps_whole_sagas_or_none_of_them(receiver: OtlpReceiver) -> None:
    """Each trace that comes is a tree with its root."""
    provider = _provider(receiver, sampler=ParentBased(TraceIdRatioBased(0.5)))
    try:
        async with Coordinator("memory:", sagas=[order], tracer_provider=provider) as coordinator:
            kept = 0
            for number in range(30):
                await coordinator.run(order("a", 1), id=f"s{number}")
            assert await anyio.to_thread.run_sync(provider.force_flush)
            for number in range(30):
                trace_id = (await coordinator.get(f"s{number}")).trace.split("-")[1]
                spans = await _spans(provider, receiver, trace_id)
                kept += bool(spans)
                assert not spans or len(list(tree(spans).walk())) == 4
    finally:
        provider.shutdown()
    assert 0 < kept < 30


async def test_without_a_provider_nothing_is_traced() -> None:
    """And a saga's trace is empty."""
    async with Coordinator("memory:", sagas=[order]) as coordinator:
        await coordinator.run(order("a", 1), id="s")
        assert (await coordinator.get("s")).trace == ""


def test_a_killed_process_and_its_successor_leave_one_trace_that_is_a_tree(tmp_path: Path) -> None:
    """The attempt that was in flight is shown by whoever ends the saga; the recovery is an event of the root."""
    with OtlpReceiver() as receiver:
        command = [sys.executable, "-m", "tests.telemetry.child", str(tmp_path / "j.db"), receiver.grpc_endpoint]
        killed = subprocess.Popen([*command, "hang"], stdout=subprocess.PIPE, text=True)
        try:
            assert killed.stdout is not None
            assert killed.stdout.readline() == "in flight\n"
        finally:
            killed.kill()
            killed.communicate(timeout=30)
        assert [span.name for span in receiver.spans()] == ["step reserve"]
        second = subprocess.run([*command, "go"], capture_output=True, text=True, timeout=60, check=False)
        assert second.stdout == "compensated\n", second.stderr
        root = tree(receiver.wait_for(lambda spans: any(span.name == "saga order" for span in spans)))
    assert [(x.span.name, x.span.resource["service.name"]) for x in root.children] == [
        ("step reserve", "hang"),
        ("step charge", "go"),
        ("step charge", "go"),
        ("compensate charge", "go"),
        ("compensate reserve", "go"),
    ]
    lost = root.children[1].span
    assert (lost.attributes["saga.lost"], lost.attributes["saga.attempt"], lost.status) == (True, 1, "UNSET")
    assert [event.name for event in lost.events] == ["lost"]
    assert [event.name for event in root.span.events] == ["taken over"]
    assert root.span.start_ns <= root.children[0].span.start_ns
    assert root.children[0].span.end_ns <= root.span.events[0].at_ns <= root.children[2].span.start_ns
    assert [link.span_id for link in root.find("compensate reserve").span.links] == [root.children[0].span.span_id]
    assert root.span.status == "ERROR"


def test_what_a_killed_process_did_not_send_is_told_again_from_the_journal(tmp_path: Path) -> None:
    """Under the same ids, by a command."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"

    async def run() -> None:
        async with Coordinator(journal, sagas=[order], tracer_provider=TracerProvider()) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(order("a", -1), id="s")
        async with Coordinator(journal, sagas=[order]) as coordinator:
            await coordinator.run(order("a", 1), id="untraced")

    anyio.run(run)
    with OtlpReceiver() as receiver:
        endpoint = receiver.http_endpoint.removesuffix("/v1/traces")
        command = [sys.executable, "-m", "sagas", "retell", "s", "untraced", "--store", journal]
        done = subprocess.run([*command, "--endpoint", endpoint, "--service", "shop"],
            capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
        assert done.stdout == "s: 6 spans\nuntraced: it was not traced, or not in the sample\n"
        root = tree(receiver.wait_for(lambda spans: len(spans) == 6))
    lost = subprocess.run([*command, "--endpoint", endpoint], capture_output=True, text=True, timeout=60, check=False)
    assert lost.returncode != 0
    assert f"6 of 6 spans were not taken at {endpoint}" in lost.stderr.replace("\n", " ")
    assert [x.span.name for x in root.children] == [
        "step reserve", "step reserve", "step charge", "compensate reserve", "compensate reserve",
    ]  # fmt: skip
    assert (root.span.status_message, root.span.resource["service.name"]) == ("Rejected: negative", "shop")
    charged = root.children[2].span
    assert (charged.status, charged.attributes["saga.retold"]) == ("ERROR", True)
    assert charged.attributes["error.type"] == "sagas.errors.Rejected"
    (raised,) = charged.events
    assert (raised.name, raised.attributes["exception.message"]) == ("exception", "negative")
    done_ids = {x.span.span_id for x in root.children[:2]}
    assert {link.span_id for x in root.children[3:] for link in x.span.links} == done_ids
