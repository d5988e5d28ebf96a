"""Whatever is set up to see sagas may fail: they go on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from sagas import Coordinator, Rejected, SagaCompensated, Worker, saga, step
from sagas.worker import LocalTransport

pytestmark = pytest.mark.anyio


class Broken(SpanProcessor):
    """Fails at one end of each span, or at both."""

    def __init__(self, *ends: str) -> None:
        self._ends = ends

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if "start" in self._ends:
            raise RuntimeError("on_start is broken")

    def on_end(self, span: ReadableSpan) -> None:
        if "end" in self._ends:
            raise RuntimeError("on_end is broken")


class BrokenSampler(Sampler):
    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        raise RuntimeError("the sampler is broken")

    def get_description(self) -> str:
        return "broken"


class Unspeakable(Rejected):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@step
async def reserve() -> None: ...


@reserve.compensator
async def release() -> None: ...


@step(name="away.charge")
async def charge(words: str) -> None:
    raise {"none": Unspeakable(), "odd": Rejected("of \udcff")}.get(words) or Rejected(words)


@saga
async def order(words: str) -> None:
    await reserve()
    await charge(words)


def _providers() -> dict[str, TracerProvider]:
    found = {name: TracerProvider() for name in ("start", "end", "start end")}
    for name, provider in found.items():
        provider.add_span_processor(Broken(*name.split()))
    return found | {"sampler": TracerProvider(sampler=BrokenSampler())}


@pytest.mark.parametrize("broken", ["start", "end", "start end", "sampler"])
async def test_sagas_go_on_whatever_of_their_tracing_fails(broken: str) -> None:
    provider = _providers()[broken]
    async with (
        Worker([charge], inbox="memory:", tracer_provider=provider) as worker,
        Coordinator(
            "memory:", sagas=[order], tracer_provider=provider, routes={"away.*": LocalTransport(worker)}
        ) as coordinator,
    ):
        for _ in range(2):
            with pytest.raises(SagaCompensated, match="no"):
                await coordinator.run(order("no"))


@pytest.mark.parametrize("words", ["none", "odd"])
async def test_an_exception_that_nobody_can_write_is_shown_and_ends_its_saga_as_without_traces(words: str) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with Coordinator("memory:", sagas=[order], tracer_provider=provider) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(order(words), id="s")
        view = await coordinator.get("s")
    assert [x.state for x in view.steps] == ["undone", "rejected"]
    (failed,) = [span for span in exporter.get_finished_spans() if span.name == "step away.charge"]
    told = dict(failed.events[0].attributes or {})
    assert str(told["exception.message"]).encode()
    assert failed.status.description is not None
