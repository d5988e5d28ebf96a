"""A small OTLP receiver: what an exporter sends over gRPC or HTTP, as plain values to assert on.

    with OtlpReceiver() as receiver:
        exporter = OTLPSpanExporter(endpoint=receiver.grpc_endpoint, insecure=True)
        ...
        spans = receiver.wait_for(lambda spans: len(spans) == 3)
        root = tree(spans)
        assert [child.span.name for child in root.children] == ["reserve_stock", "charge_card"]

It speaks the real protocol on loopback, so that it also receives what another process exports before it dies.
"""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1 import trace_pb2

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

__all__ = ["OtlpReceiver", "ReceivedEvent", "ReceivedLink", "ReceivedSpan", "SpanNode", "tree"]

AttributeValue: TypeAlias = "str | bool | int | float | bytes | list[AttributeValue] | dict[str, AttributeValue] | None"

_TRACES_PATH = "/v1/traces"
_PROTOBUF = "application/x-protobuf"
_INFLATE: Mapping[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedEvent:
    """Something that happened during a span, at ``at_ns`` nanoseconds since the epoch."""

    name: str
    at_ns: int
    attributes: dict[str, AttributeValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedLink:
    """A span's reference to another span; the ids are lower-case hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, AttributeValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedSpan:
    """A span, as it came over the wire.

    Attributes:
        trace_id: 32 hex digits.
        span_id: 16 hex digits.
        parent_span_id: 16 hex digits, or None for a root.
        name: Its name.
        kind: ``INTERNAL``, ``CLIENT``, ``SERVER``, ``PRODUCER`` or ``CONSUMER``.
        start_ns: Nanoseconds since the epoch.
        end_ns: Nanoseconds since the epoch.
        attributes: Its own.
        events: In the order in which they were recorded.
        links: In the order in which they were added.
        status: ``UNSET``, ``OK`` or ``ERROR``.
        status_message: What the status says beyond that, or the empty string.
        resource: Attributes of the process that sent it.
        scope: Name of the tracer that made it.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: dict[str, AttributeValue]
    events: tuple[ReceivedEvent, ...]
    links: tuple[ReceivedLink, ...]
    status: str
    status_message: str
    resource: dict[str, AttributeValue]
    scope: str


@dataclass(frozen=True, slots=True)
class SpanNode:
    """A span and the spans beneath it, by start; ``str`` draws them."""

    span: ReceivedSpan
    children: tuple[SpanNode, ...]

    def walk(self) -> Iterator[SpanNode]:
        """This node and all beneath it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str) -> SpanNode:
        """The one node of this name.

        Raises:
            AssertionError: There is none, or more than one.
        """
        found = [node for node in self.walk() if node.span.name == name]
        assert len(found) == 1, f"{len(found)} spans are named {name!r} in\n{self}"
        return found[0]

    def __str__(self) -> str:
        lines = [f"{self.span.name} [{self.span.kind}, {self.span.status}]"]
        for child in self.children:
            lines += [f"  {line}" for line in str(child).splitlines()]
        return "\n".join(lines)


def tree(spans: Sequence[ReceivedSpan]) -> SpanNode:
    """The spans as the one tree that they have to be.

    Raises:
        AssertionError: There is not exactly one trace, one root and one span an id, or some span cannot be
            reached from the root.
    """
    traces = {span.trace_id for span in spans}
    assert len(traces) == 1, f"{len(traces)} traces, not one:{_listed(spans)}"
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), f"a span id came twice:{_listed(spans)}"
    roots = [span for span in spans if span.parent_span_id is None]
    assert len(roots) == 1, f"{len(roots)} roots, not one:{_listed(spans)}"
    orphans = [span for span in spans if span.parent_span_id not in {None, *by_id}]
    assert not orphans, f"the parent of these never came:{_listed(orphans)}"
    root = _node(roots[0], spans)
    # What is left over hangs from itself.
    assert sum(1 for _ in root.walk()) == len(spans), f"some spans form a circle:{_listed(spans)}"
    return root


def _node(span: ReceivedSpan, spans: Sequence[ReceivedSpan]) -> SpanNode:
    children = sorted((s for s in spans if s.parent_span_id == span.span_id), key=lambda s: s.start_ns)
    return SpanNode(span, tuple(_node(child, spans) for child in children))


def _listed(spans: Iterable[ReceivedSpan]) -> str:
    return "".join(f"\n  {s.trace_id} {s.span_id} <- {s.parent_span_id}: {s.name}" for s in spans)


class OtlpReceiver:
    """Receives spans over gRPC and HTTP/protobuf on free loopback ports, from entering it to leaving it."""

    def __init__(self) -> None:
        self._inbox = _Inbox()
        self._grpc = grpc.server(futures.ThreadPoolExecutor(max_workers=4, thread_name_prefix="otlp-grpc"))
        self._http = _HttpServer(self._inbox)
        self._http_thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="otlp-http")
        add_TraceServiceServicer_to_server(_GrpcService(self._inbox), self._grpc)  # type: ignore[no-untyped-call]  # generated code
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")

    @property
    def grpc_endpoint(self) -> str:
        """What to set as ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` for the protocol ``grpc``."""
        return f"http://127.0.0.1:{self._grpc_port}"

    @property
    def http_endpoint(self) -> str:
        """What to set as ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` for the protocol ``http/protobuf``."""
        return f"http://127.0.0.1:{self._http.server_port}{_TRACES_PATH}"

    def __enter__(self) -> Self:
        self._grpc.start()
        self._http_thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.shutdown()
        self._http_thread.join()
        self._http.server_close()
        self._grpc.stop(grace=None).wait()

    def spans(self) -> list[ReceivedSpan]:
        """Every span so far, in the order of arrival, those sent twice twice."""
        return self._inbox.spans()

    def wait_for(
        self, predicate: Callable[[list[ReceivedSpan]], object], *, timeout: float = 30.0
    ) -> list[ReceivedSpan]:
        """Waits until the spans satisfy ``predicate``, and returns them.

        Args:
            predicate: Asked again whenever some arrive.
            timeout: Seconds.

        Raises:
            AssertionError: They did not in time; says what came.
        """
        return self._inbox.wait_for(predicate, timeout)


@dataclass(slots=True)
class _Inbox:
    """What was received; wakes those who wait for more."""

    _spans: list[ReceivedSpan] = field(default_factory=list[ReceivedSpan])
    _arrived: threading.Condition = field(default_factory=threading.Condition)

    def put(self, request: ExportTraceServiceRequest) -> None:
        received = list(_decode(request))
        with self._arrived:
            self._spans += received
            self._arrived.notify_all()

    def spans(self) -> list[ReceivedSpan]:
        with self._arrived:
            return list(self._spans)

    def wait_for(self, predicate: Callable[[list[ReceivedSpan]], object], timeout: float) -> list[ReceivedSpan]:
        with self._arrived:
            satisfied = self._arrived.wait_for(lambda: bool(predicate(list(self._spans))), timeout)
            assert satisfied, f"not received within {timeout} s; these came:{_listed(self._spans) or ' none'}"
            return list(self._spans)


class _GrpcService(TraceServiceServicer):
    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox

    def Export(  # noqa: N802 - the protocol's name
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        self._inbox.put(request)
        return ExportTraceServiceResponse()


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, inbox: _Inbox) -> None:
        super().__init__(("127.0.0.1", 0), _HttpHandler)
        self.inbox = inbox


class _HttpHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != _TRACES_PATH:
            self.send_error(404, explain=f"only {_TRACES_PATH} is served")
            return
        if self.headers.get_content_type() != _PROTOBUF:
            self.send_error(415, explain=f"only {_PROTOBUF} is understood")
            return
        assert isinstance(self.server, _HttpServer)
        try:
            inflate = _INFLATE[self.headers.get("Content-Encoding", "identity")]
            self.server.inbox.put(ExportTraceServiceRequest.FromString(inflate(body)))
        except (KeyError, OSError, EOFError, zlib.error, DecodeError) as error:
            self.send_error(400, explain=f"not an ExportTraceServiceRequest: {error!r}")
            return
        self._reply(ExportTraceServiceResponse().SerializeToString())

    def _reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", _PROTOBUF)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing: a failing test shows what it received."""


def _decode(request: ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield _span(span, resource, scope_spans.scope.name)


def _span(span: trace_pb2.Span, resource: dict[str, AttributeValue], scope: str) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=tuple(
            ReceivedEvent(name=e.name, at_ns=e.time_unix_nano, attributes=_attributes(e.attributes))
            for e in span.events
        ),
        links=tuple(
            ReceivedLink(
                trace_id=link.trace_id.hex(),
                span_id=link.span_id.hex(),
                attributes=_attributes(link.attributes),
            )
            for link in span.links
        ),
        status=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        status_message=span.status.message,
        resource=resource,
        scope=scope,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> AttributeValue:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "bytes_value":
            return value.bytes_value
        case "array_value":
            return [_value(item) for item in value.array_value.values]
        case "kvlist_value":
            return _attributes(value.kvlist_value.values)
        case None:
            return None
        case unknown:
            raise AssertionError(f"attribute values of kind {unknown} are not decoded; add it here")
