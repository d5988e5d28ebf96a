"""The receiver, proven with the exporters that users have."""

from __future__ import annotations

import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.support.otlp import OtlpReceiver, ReceivedSpan, tree

MakeExporter: TypeAlias = Callable[[OtlpReceiver], SpanExporter]

EXPORTERS: dict[str, MakeExporter] = {
    "grpc": lambda receiver: GrpcExporter(endpoint=receiver.grpc_endpoint, insecure=True),
    "http": lambda receiver: HttpExporter(endpoint=receiver.http_endpoint),
    "http-gzip": lambda receiver: HttpExporter(endpoint=receiver.http_endpoint, compression=Compression.Gzip),
    "http-deflate": lambda receiver: HttpExporter(endpoint=receiver.http_endpoint, compression=Compression.Deflate),
}


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture(params=EXPORTERS.values(), ids=list(EXPORTERS))
def tracer(receiver: OtlpReceiver, request: pytest.FixtureRequest) -> Iterator[trace.Tracer]:
    make_exporter: MakeExporter = request.param
    provider = TracerProvider(resource=Resource({"service.name": "orders"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(make_exporter(receiver)))
    yield provider.get_tracer("sagas.test")
    provider.shutdown()


def test_everything_a_span_holds_arrives(receiver: OtlpReceiver, tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("saga"):
        with tracer.start_as_current_span("charge_card", kind=SpanKind.CLIENT) as step:
            step.set_attributes({"saga.attempt": 2, "saga.late": True, "saga.ratio": 0.5, "saga.tags": ["a", "b"]})
            step.add_event("retried", {"saga.cause": "reset"}, timestamp=17)
        undo = tracer.start_span("refund_card", links=[Link(step.get_span_context(), {"saga.link": "undoes"})])
        undo.set_status(Status(StatusCode.ERROR, "no such card"))
        undo.end()

    root = tree(receiver.wait_for(lambda spans: len(spans) == 3))

    assert root.span.name == "saga"
    assert root.span.parent_span_id is None
    assert (root.span.kind, root.span.status, root.span.scope) == ("INTERNAL", "UNSET", "sagas.test")
    assert root.span.resource == {"service.name": "orders"}
    charge, refund = root.children
    assert (charge.span.name, charge.span.kind) == ("charge_card", "CLIENT")
    assert charge.span.attributes == {
        "saga.attempt": 2,
        "saga.late": True,
        "saga.ratio": 0.5,
        "saga.tags": ["a", "b"],
    }
    (event,) = charge.span.events
    assert (event.name, event.at_ns, event.attributes) == ("retried", 17, {"saga.cause": "reset"})
    assert root.span.start_ns <= charge.span.start_ns <= charge.span.end_ns <= root.span.end_ns
    (link,) = refund.span.links
    assert (link.trace_id, link.span_id) == (charge.span.trace_id, charge.span.span_id)
    assert link.attributes == {"saga.link": "undoes"}
    assert (refund.span.status, refund.span.status_message) == ("ERROR", "no such card")
    assert root.find("refund_card") is refund


EXPORTS_FROM_ITS_ENVIRONMENT = """
import os, sys
from opentelemetry.exporter.otlp.proto.{protocol}.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
provider.get_tracer("child").start_span("from a child").end()
os._exit(9)
"""


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_another_process_is_heard_even_if_it_dies_at_once(receiver: OtlpReceiver, protocol: str) -> None:
    endpoint = receiver.grpc_endpoint if protocol == "grpc" else receiver.http_endpoint
    child = subprocess.run(
        [sys.executable, "-c", EXPORTS_FROM_ITS_ENVIRONMENT.format(protocol=protocol)],
        env={"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": "child"},
        check=False,
        timeout=60,
    )

    (span,) = receiver.wait_for(lambda spans: spans)

    assert child.returncode == 9
    assert (span.name, span.resource["service.name"]) == ("from a child", "child")


def test_waiting_in_vain_says_what_came(receiver: OtlpReceiver, tracer: trace.Tracer) -> None:
    tracer.start_span("lonely").end()
    receiver.wait_for(lambda spans: spans)

    with pytest.raises(AssertionError, match="lonely"):
        receiver.wait_for(lambda spans: len(spans) > 1, timeout=0.01)


def test_waiting_wakes_when_the_span_arrives(receiver: OtlpReceiver) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(HttpExporter(endpoint=receiver.http_endpoint)))
    elsewhere = threading.Thread(target=provider.get_tracer("late").start_span("late").end)
    asked: list[int] = []

    def second_time(spans: list[ReceivedSpan]) -> bool:
        # What is sent while the first answer is given can only arrive after it.
        if not asked:
            elsewhere.start()
        asked.append(len(spans))
        return bool(spans)

    (span,) = receiver.wait_for(second_time)
    elsewhere.join()
    provider.shutdown()

    assert span.name == "late"
    assert asked == [0, 1]


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/v1/metrics", {"Content-Type": "application/x-protobuf"}, b"", 404),
        ("/v1/traces", {"Content-Type": "application/json"}, b"{}", 415),
        ("/v1/traces", {"Content-Type": "application/x-protobuf"}, b"\xff", 400),
        ("/v1/traces", {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}, b"no", 400),
        ("/v1/traces", {"Content-Type": "application/x-protobuf", "Content-Encoding": "br"}, b"", 400),
    ],
)
def test_what_is_not_otlp_is_refused(
    receiver: OtlpReceiver, path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    url = receiver.http_endpoint.removesuffix("/v1/traces") + path
    request = urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 - the receiver's own address

    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request)  # noqa: S310 - as above
    refusal.value.close()

    assert refusal.value.code == status
    assert receiver.spans() == []


def span(span_id: str, parent: str | None, *, trace_id: str = "t") -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent,
        name=span_id.upper(),
        kind="INTERNAL",
        start_ns=ord(span_id[0]),
        end_ns=200,
        attributes={},
        events=(),
        links=(),
        status="UNSET",
        status_message="",
        resource={},
        scope="",
    )


def test_a_tree_is_drawn_by_start() -> None:
    root = tree([span("d", "b"), span("c", "a"), span("b", "a"), span("a", None)])

    assert str(root) == ("A [INTERNAL, UNSET]\n  B [INTERNAL, UNSET]\n    D [INTERNAL, UNSET]\n  C [INTERNAL, UNSET]")
    assert [node.span.name for node in root.walk()] == ["A", "B", "D", "C"]


@pytest.mark.parametrize(
    ("spans", "complaint"),
    [
        ([], "0 traces"),
        ([span("a", None), span("b", "a", trace_id="u")], "2 traces"),
        ([span("a", None), span("b", None)], "2 roots"),
        ([span("a", "b"), span("b", "a")], "0 roots"),
        ([span("a", None), span("b", "gone")], "never came"),
        ([span("a", None), replace(span("b", "a"), span_id="a")], "came twice"),
        ([span("a", None), span("b", "c"), span("c", "b")], "circle"),
    ],
)
def test_what_is_no_tree_is_refused(spans: list[ReceivedSpan], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        tree(spans)


def test_a_name_that_is_not_unique_is_not_found() -> None:
    root = tree([span("a", None), replace(span("b", "a"), name="X"), replace(span("c", "a"), name="X")])

    with pytest.raises(AssertionError, match="2 spans are named 'X'"):
        root.find("X")
    with pytest.raises(AssertionError, match="0 spans are named 'Y'"):
        root.find("Y")
