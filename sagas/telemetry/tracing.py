"""One trace a saga, across crashes and processes, that is always a tree.

The root span's context is chosen when the saga starts, and kept in its journal; the span itself is emitted once,
by whoever ends the saga. Attempts and compensations are its children, live, so that a client library's own
spans nest in them; a compensation is linked to the attempt that it undoes.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from opentelemetry.util.types import AttributeValue

__all__ = ["Moment", "Tracing", "find_tracing"]

Moment = tuple[str, float, dict[str, str]]
"""Something that happened to a saga: name, POSIX time, attributes."""

_NANO = 1_000_000_000
_PARTS = 4

_chosen_ids: ContextVar[tuple[int, int] | None] = ContextVar("sagas_chosen_ids", default=None)


class _ChosenIds(IdGenerator):
    """Gives a root span the ids that were chosen when its saga started; everything else as before."""

    def __init__(self, inner: IdGenerator) -> None:
        self._inner = inner

    def generate_span_id(self) -> int:
        chosen = _chosen_ids.get()
        return self._inner.generate_span_id() if chosen is None else chosen[1]

    def generate_trace_id(self) -> int:
        chosen = _chosen_ids.get()
        return self._inner.generate_trace_id() if chosen is None else chosen[0]

    def is_trace_id_random(self) -> bool:
        return self._inner.is_trace_id_random()


def _write_parent(context: SpanContext) -> str:
    """Writes a span context as a W3C ``traceparent``."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"


def _read_parent(parent: str) -> SpanContext | None:
    """Reads a W3C ``traceparent``; ``None`` if it is none."""
    parts = parent.split("-")
    if len(parts) != _PARTS:
        return None
    try:
        context = SpanContext(
            int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=TraceFlags(int(parts[3], 16))
        )
    except ValueError:
        return None
    return context if context.is_valid else None


class Tracing:
    """Emits the spans of sagas.

    Args:
        provider: Of the OpenTelemetry SDK.
    """

    def __init__(self, provider: TracerProvider) -> None:
        tracer = provider.get_tracer("sagas")
        self._tracer = tracer
        self._sampled_out = not isinstance(tracer, SdkTracer)
        if isinstance(tracer, SdkTracer) and not isinstance(tracer.id_generator, _ChosenIds):
            # Only this tracer's: the provider's other tracers keep theirs.
            tracer.id_generator = _ChosenIds(tracer.id_generator)

    def start(self, name: str) -> tuple[str, str]:
        """Chooses the context of a saga's root span, as a child of the caller's own span if there is one.

        Returns:
            ``traceparent`` of the root, and of its parent (empty if there is none).
        """
        caller = trace.get_current_span().get_span_context()
        span_id = secrets.randbits(64) or 1
        if caller.is_valid:
            root = SpanContext(caller.trace_id, span_id, is_remote=False, trace_flags=caller.trace_flags)
            return _write_parent(root), _write_parent(caller)
        trace_id = secrets.randbits(128) or 1
        flags = TraceFlags(TraceFlags.SAMPLED if self._samples(trace_id, name) else TraceFlags.DEFAULT)
        return _write_parent(SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags)), ""

    def _samples(self, trace_id: int, name: str) -> bool:
        """Asks the sampler once, at the start; the attempts follow its word."""
        if not isinstance(self._tracer, SdkTracer):
            return False
        result = self._tracer.sampler.should_sample(None, trace_id, f"saga {name}", SpanKind.INTERNAL)
        return result.decision is Decision.RECORD_AND_SAMPLE

    @contextmanager
    def attempt(
        self, root: str, name: str, attributes: dict[str, AttributeValue], *, undoes: str = ""
    ) -> Generator[trace.Span]:
        """Traces one attempt; what runs inside nests in it.

        Args:
            root: The saga's ``traceparent``.
            name: Of the span.
            attributes: Of the span.
            undoes: Span id of the attempt that this one undoes.
        """
        parent = _read_parent(root)
        context = (
            None if parent is None else trace.set_span_in_context(NonRecordingSpan(parent), otel_context.Context())
        )
        links: Sequence[Link] = ()
        if undoes and parent is not None:
            links = (
                Link(SpanContext(parent.trace_id, int(undoes, 16), is_remote=True, trace_flags=parent.trace_flags)),
            )
        span = self._tracer.start_span(name, context=context, attributes=attributes, links=links)
        token = otel_context.attach(trace.set_span_in_context(span, context))
        try:
            yield span
        finally:
            otel_context.detach(token)
            span.end()

    def end(
        self,
        root: str,
        parent: str,
        name: str,
        *,
        started: float,
        ended: float,
        attributes: dict[str, AttributeValue],
        moments: Sequence[Moment],
        error: str | None,
    ) -> None:
        """Emits the root span of a saga that has ended; times are POSIX, in seconds."""
        context = _read_parent(root)
        if context is None:
            return
        above = _read_parent(parent)
        surrounding = otel_context.Context()
        if above is not None:
            surrounding = trace.set_span_in_context(NonRecordingSpan(above), surrounding)
        token = _chosen_ids.set((context.trace_id, context.span_id))
        try:
            span = self._tracer.start_span(
                f"saga {name}", context=surrounding, attributes=attributes, start_time=int(started * _NANO)
            )
        finally:
            _chosen_ids.reset(token)
        for moment, at, details in moments:
            span.add_event(moment, dict(details), timestamp=int(at * _NANO))
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(end_time=int(ended * _NANO))


def find_tracing(provider: object | None) -> Tracing | None:
    """Makes the tracing for a provider, or for the global one; ``None`` if nobody would see the spans."""
    found = trace.get_tracer_provider() if provider is None else provider
    return Tracing(found) if isinstance(found, TracerProvider) else None
