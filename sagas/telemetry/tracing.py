"""One trace a saga, across crashes and processes, that is always a tree.

The root span's context is chosen when the saga starts, and kept in its journal. The ids of all other spans of a
coordinator follow from it and from where the journal stands. So whoever goes on with a saga knows the id of what was
under way when its coordinator died, and gives the spans that hang from it their parent.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar
from copy import copy
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, TraceState

from sagas.telemetry.sparing import spared, tell_once

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.util.types import AttributeValue

__all__ = [
    "UNTRACED", "Held", "Origin", "Tracing", "find_tracing", "nanoseconds", "read_parent", "span_id",
    "surroundings",
]  # fmt: skip

# As W3C Trace Context has it: version, trace id, span id, flags. There is no version ff, and no id is all zeros.
# Version 00 ends there; what a later one adds follows a dash.
_PARENT: Final = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?", re.DOTALL
)
_BAGGAGE = W3CBaggagePropagator()

_chosen_ids: ContextVar[tuple[int, int] | None] = ContextVar("sagas_chosen_ids", default=None)


class _ChosenIds(IdGenerator):
    """Gives a span the ids that were chosen for it."""

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


class Origin(NamedTuple):
    """Where a saga's trace begins, as its journal keeps it.

    Attributes:
        trace: W3C ``traceparent`` of its root span; empty when it is not traced.
        parent: That of the caller's own span; empty when there was none.
        state: The caller's W3C ``tracestate``.
        baggage: The caller's W3C ``baggage``.
    """

    trace: str = ""
    parent: str = ""
    state: str = ""
    baggage: str = ""


UNTRACED = Origin()


def _write_parent(context: SpanContext) -> str:
    """Writes a span context as a W3C ``traceparent``."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"


def read_parent(parent: str, state: str = "") -> SpanContext | None:
    """Reads a W3C ``traceparent``, and ``tracestate``; ``None`` if it is none."""
    found = _PARENT.fullmatch(parent)
    if found is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in found.groups())
    told = TraceState.from_header([state]) if state else None
    # Of the flags only this one means something in every version.
    return SpanContext(
        trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags & TraceFlags.SAMPLED), trace_state=told
    )


def nanoseconds(at: float) -> int:
    """Gives POSIX time as OpenTelemetry wants it."""
    return int(at * 1_000_000_000)


def span_id(trace: str, what: str) -> int:
    """Derives the id of a span from that of its saga's root, and from what it is."""
    return int.from_bytes(blake2b(f"{trace}/{what}".encode(), digest_size=8).digest()) or 1


class Held:
    """A span that is shown when what it tells of is durable; so a trace shows what the journal knows, and that once.

    Attributes:
        span: The span, not ended.
        at: POSIX time at which it is over.
        id: Its span id in hexadecimal.
    """

    __slots__ = ("_derived", "at", "span")

    def __init__(self, span: Span, at: float = 0.0, *, derived: bool = False) -> None:
        self.span = span
        self.at = at
        self._derived = derived

    @property
    def id(self) -> str:
        """See the class."""
        return f"{self.span.get_span_context().span_id:016x}"

    def show(self) -> None:
        """Shows it."""
        try:
            self.span.end(nanoseconds(self.at))
        except Exception:  # noqa: BLE001 - of a processor, which may be anybody's
            tell_once("a span could not be shown")

    def give_up(self) -> None:
        """Leaves it to whoever goes on with the saga, and derives the same id; shows it if nobody could."""
        if not self._derived:
            with spared("a span could not be marked"):
                self.span.set_attribute("saga.lost", True)  # noqa: FBT003 - as the API has it
            self.show()


class Tracing:
    """Makes the spans of sagas.

    Args:
        provider: Of the OpenTelemetry SDK.
    """

    def __init__(self, provider: TracerProvider) -> None:
        # A copy, since a provider gives the same one to all who ask for this name, such as a worker.
        self._tracer = tracer = copy(provider.get_tracer("sagas"))
        self._sampler: Sampler = ALWAYS_OFF
        if isinstance(tracer, SdkTracer):
            # The sampler is asked when a saga starts, and has its word kept to the end, whatever it would say by then.
            self._sampler, tracer.sampler = tracer.sampler, ALWAYS_ON
            tracer.id_generator = _ChosenIds(tracer.id_generator)

    def start(self, name: str, saga_id: str) -> Origin:
        """Chooses the context of a saga's root span, as a child of the caller's own span if there is one."""
        carried: dict[str, str] = {}
        with spared("baggage could not be written"):
            _BAGGAGE.inject(carried)
        caller = trace.get_current_span().get_span_context()
        state = caller.trace_state.to_header() if caller.is_valid and caller.trace_state else ""
        trace_id = caller.trace_id if caller.is_valid else secrets.randbits(128) or 1
        sampled = self._samples(trace_id, name, saga_id)
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        root = SpanContext(trace_id, secrets.randbits(64) or 1, is_remote=False, trace_flags=flags)
        parent = _write_parent(caller) if caller.is_valid else ""
        return Origin(_write_parent(root), parent, state, carried.get("baggage", ""))

    def _samples(self, trace_id: int, name: str, saga_id: str) -> bool:
        """Asks the sampler once, at the start; all spans follow its word."""
        attributes: Mapping[str, AttributeValue] = {"saga.id": saga_id, "saga.name": name}
        try:
            asked = self._sampler.should_sample(None, trace_id, f"saga {name}", SpanKind.INTERNAL, attributes)
        except Exception:  # noqa: BLE001 - likewise
            tell_once("the sampler could not be asked")
            return False
        return asked.decision is Decision.RECORD_AND_SAMPLE

    def begin(
        self,
        name: str,
        above: Context,
        at: float,
        attributes: Mapping[str, AttributeValue],
        *,
        trace_id: int,
        span_id: int,
        kind: SpanKind = SpanKind.INTERNAL,
        undoes: str = "",
    ) -> Span:
        """Begins a span.

        Args:
            name: Of the span.
            above: The context with the span above it.
            at: POSIX time.
            attributes: Of the span.
            trace_id: Of the saga's trace.
            span_id: What was chosen for it; 0 for any.
            kind: Of the span.
            undoes: Span id of what it undoes.
        """
        flags = TraceFlags(TraceFlags.SAMPLED)
        links = [Link(SpanContext(trace_id, int(undoes, 16), is_remote=True, trace_flags=flags))] if undoes else []
        token = _chosen_ids.set((trace_id, span_id) if span_id else None)
        try:
            return self._tracer.start_span(name, above, kind, attributes, links, nanoseconds(at))
        except Exception:  # noqa: BLE001 - likewise
            tell_once("a span could not be begun")
            unseen = SpanContext(trace_id, span_id or secrets.randbits(64) or 1, is_remote=False, trace_flags=flags)
            return NonRecordingSpan(unseen)
        finally:
            _chosen_ids.reset(token)


def surroundings(span: SpanContext, baggage: str = "") -> Context:
    """Makes the context in which something is done for a span of another process."""
    context = _BAGGAGE.extract({"baggage": baggage}, Context()) if baggage else Context()
    return trace.set_span_in_context(NonRecordingSpan(span), context)


def find_tracing(provider: object | None) -> Tracing | None:
    """Makes the tracing for a provider, or for the global one; ``None`` if nobody would see the spans."""
    found = trace.get_tracer_provider() if provider is None else provider
    return Tracing(found) if isinstance(found, TracerProvider) else None
