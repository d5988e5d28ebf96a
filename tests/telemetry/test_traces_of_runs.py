"""Whatever goes wrong, the trace of a saga is one tree: in simulated runs, with a process or two that die."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from sagas import Retry, current_step, gather, lock, receive, saga, scope, sleep, step
from sagas.core import commands as c
from sagas.core import events as e
from sagas.telemetry import Tracing, retell
from sagas.testing import Fault, Run, Scenario, Simulator
from sagas.testing.scenarios import calls_of, explore
from sagas.testing.simulation.playing import SAGA_ID

EXAMPLES = 1500 if os.environ.get("SAGAS_TEST_EVERYTHING") else 40

# What kills or freezes a process between a commit and what it shows of it.
DIES_UNSEEN = {"crash after", "part", "pause after", "long pause"}

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
tracer = provider.get_tracer("shop")


@step(retry=Retry(attempts=3))
async def reserve(sku: str) -> str:
    if current_step().attempt == 1:  # what a killed process has shown of a quick retry stays without its parent
        with tracer.start_as_current_span("INSERT"):
            """Calls a database, say."""
    return sku


@reserve.compensator
async def release(sku: str) -> None:
    with tracer.start_as_current_span("DELETE"):
        """Leaves nothing."""


@step(retry=Retry(attempts=2, initial=60.0, jitter=0.0))
async def charge() -> None: ...


@charge.compensator
async def refund() -> None: ...


@charge.probe
async def find_charge() -> None: ...


@saga
async def pack(sku: str) -> None:
    async with scope():
        await reserve(sku)
    await sleep(1)


async def pick(sku: str) -> None:
    await reserve(sku)
    await reserve(f"{sku}, wrapped")


@saga
async def order() -> str:
    await gather(pick("lamp"), reserve("bulb"))
    async with lock("shelf", hold="block"):
        await pack("shade")
    await charge()
    return await receive("address", str)


def tree_of(spans: list[ReadableSpan], fired: object) -> list[ReadableSpan]:
    """Checks that spans are one tree, and gives them.

    Raises:
        AssertionError: They are not.
    """
    names = {span.context.span_id: span.name for span in spans if span.context is not None}
    assert len(names) == len(spans), f"{fired}: a span came twice: {sorted(x.name for x in spans)}"
    assert len({span.context.trace_id for span in spans if span.context is not None}) == 1
    roots = [span for span in spans if span.parent is None]
    assert len(roots) == 1, roots
    orphans = [span.name for span in spans if span.parent is not None and span.parent.span_id not in names]
    assert not orphans, f"{fired}: their parents never came: {orphans}, of {sorted(names.values())}"
    assert all(link.context.span_id in names for span in spans for link in span.links)
    return spans


def died_unseen(run: Run) -> bool:
    """Says whether a process may not have shown what it had written."""
    what = {x.what for x in run.fired}
    return bool(what & DIES_UNSEEN) or ("doubtful" in what and bool(what & {"crash before", "pause before"}))


def mended(run: Run, spans: list[ReadableSpan]) -> list[ReadableSpan]:
    """Adds what a process did not live to show, after the commit; from the journal, under the same ids."""
    shown = {format_span_id(span.context.span_id) for span in spans if span.context is not None}
    exporter.clear()
    for held in retell(Tracing(provider), SAGA_ID, run.records, {"3": "pack"}):
        if held.id not in shown:
            held.show()
    return [*spans, *exporter.get_finished_spans()]


def waits_of(spans: list[ReadableSpan]) -> Sequence[object]:
    """Gives what tells of the waits for signals and locks."""
    return sorted(
        (span.context.span_id, span.name, span.start_time, span.end_time, sorted((span.attributes or {}).items()))
        for span in spans
        if span.context is not None and span.name in {"receive", "wait for lock"}
    )


def retold_waits(run: Run) -> Sequence[object]:
    """Gives the same as the journal tells it."""
    exporter.clear()
    for held in retell(Tracing(provider), SAGA_ID, run.records, {}):
        held.show()
    return waits_of(list(exporter.get_finished_spans()))


def check(run: Run) -> None:
    """Holds the trace of a run against its journal."""
    if not run.records:
        return
    begun = run.records[0].event
    assert isinstance(begun, e.SagaStarted)
    every = exporter.get_finished_spans()  # of the runs on the way to this one, too
    spans = [x for x in every if x.context is not None and format_trace_id(x.context.trace_id) in begun.trace]
    ended = [x for record in run.records for x in record.commands if isinstance(x, c.Complete)]
    if not ended:
        return
    told = tree_of(mended(run, spans) if died_unseen(run) else spans, run.fired)
    journaled = [x.span for record in run.records for x in getattr(record.event, "attempts", ()) if x.span]
    shown = [
        format_span_id(span.context.span_id)
        for span in told
        if span.context is not None and span.name.partition(" ")[0] in {"step", "compensate"}
        and not (span.attributes or {}).get("saga.lost")
    ]  # fmt: skip
    assert sorted(shown) == sorted(journaled), run.fired
    if not died_unseen(run):
        assert waits_of(told) == retold_waits(run), run.fired
    root = next(span for span in told if span.name == "saga order")
    assert (root.attributes or {})["saga.outcome"] == run.status
    assert (root.status.status_code is StatusCode.ERROR) == (run.status == "compensated")
    takeovers = sum(isinstance(record.event, e.SagaTakenOver) for record in run.records)
    assert sum(event.name == "taken over" for event in root.events) == takeovers


simulated = Simulator(order, signals={"address": st.just("here")})
simulated.tracing = Tracing(provider)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_a_trace_is_a_tree_that_shows_each_attempt_of_the_journal_once(data: st.DataObject) -> None:
    exporter.clear()
    check(explore(data.draw, simulated, data.draw(calls_of(order, None)), 4))


@pytest.mark.parametrize("what", ["crash before", "crash after", "pause before", "pause after", "doubtful"])
@pytest.mark.parametrize("nth", range(1, 13))
def test_so_it_is_wherever_a_process_dies(what: str, nth: int) -> None:
    exporter.clear()
    check(simulated.run(Scenario(order(), (Fault(what, "commit", nth), Fault("error", "charge", 1)))))
