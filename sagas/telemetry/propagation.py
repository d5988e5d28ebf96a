"""Takes traces along to other processes, by whatever propagators OpenTelemetry is set up with (W3C by default)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from opentelemetry.trace import Span, Tracer, TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["find_tracer", "serving", "trace_headers"]

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


@contextmanager
def serving(
    tracer: Tracer | None,
    name: str,
    headers: Mapping[str, str],
    attributes: Mapping[str, AttributeValue],
    *,
    kind: SpanKind = SpanKind.SERVER,
) -> Generator[Span | None]:
    """Traces what is done for another process, as a child of the span that its headers tell of.

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
    parent = propagate.extract(headers, Context())
    with tracer.start_as_current_span(
        name, context=parent, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span
