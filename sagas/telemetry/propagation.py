"""Takes traces along to other processes, by whatever propagators OpenTelemetry is set up with (W3C by default)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from sagas.telemetry.sparing import spared, tell_once

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from opentelemetry.trace import Span, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["arriving", "find_tracer", "is_here", "message_attributes", "serving", "tell_message", "trace_headers"]

_NOTHING: Mapping[str, str] = {}


def trace_headers() -> Mapping[str, str]:
    """Gives the headers that tell another process of the span that runs here; none, if none does."""
    if not trace.get_current_span().get_span_context().is_valid:
        return _NOTHING
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers


def find_tracer(provider: TracerProvider | None) -> Tracer | None:
    """Gives a participant's tracer; ``None`` if nobody would see its spans."""
    found = trace.get_tracer_provider() if provider is None else provider
    return (
        None if isinstance(found, (trace.NoOpTracerProvider, trace.ProxyTracerProvider)) else found.get_tracer("sagas")
    )


def is_here(headers: Mapping[str, str]) -> bool:
    """Says whether the span that headers tell of is the one that runs here."""
    current = trace.get_current_span().get_span_context()
    return current.is_valid and f"{current.span_id:016x}" in headers.get("traceparent", "")


@contextmanager
def arriving(headers: Mapping[str, str]) -> Generator[None]:
    """Makes the span that headers tell of current: what is begun here belongs to its trace."""
    if "traceparent" not in headers:
        yield
        return
    token = otel_context.attach(propagate.extract(headers, Context()))
    try:
        yield
    finally:
        otel_context.detach(token)


@contextmanager
def serving(
    tracer: Tracer | None,
    name: str,
    headers: Mapping[str, str],
    attributes: Mapping[str, AttributeValue],
    *,
    kind: SpanKind = SpanKind.SERVER,
) -> Generator[Span | None]:
    """Traces what is done for another process, as a child of the span that its headers tell of, with its baggage.

    Args:
        tracer: Of this process; ``None``: nothing is traced.
        name: Of the span.
        headers: That came with the request.
        attributes: Of the span.
        kind: Of the span.
    """
    if tracer is None:
        yield None
        return
    try:
        above = propagate.extract(headers, Context())
        span = tracer.start_span(name, above, kind, attributes)
    except Exception:  # noqa: BLE001 - of a processor, which may be anybody's
        tell_once("a span could not be begun")
        yield None
        return
    token = otel_context.attach(trace.set_span_in_context(span, above))
    try:
        yield span
    finally:
        otel_context.detach(token)
        with spared("a span could not be shown"):
            span.end()


def message_attributes(system: str, queue: str, operation: str, message_id: str) -> dict[str, AttributeValue]:
    """Says which message it was, by the semantic conventions of OpenTelemetry."""
    return {
        "messaging.system": system,
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.message.id": message_id,
    }


def tell_message(system: str, queue: str, message_id: str) -> None:
    """Says in the span that runs here which message it sends."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(message_attributes(system, queue, "send", message_id))
