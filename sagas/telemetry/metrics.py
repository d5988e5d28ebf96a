"""Writes to the instruments of OpenTelemetry, with exemplars that point at traces.

What is measured is mostly known only after the span it belongs to, since nothing is counted before it is durable. So
each measurement is given the context of its span by its ids; the SDK's exemplars need no more.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from sagas.telemetry.metrics_board import board_for
from sagas.telemetry.metrics_table import METRICS, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

    from sagas.telemetry.metrics_board import Board
    from sagas.telemetry.metrics_table import Metric

__all__ = ["NOWHERE", "Metering", "find_metering", "spot"]

logger = logging.getLogger("sagas.telemetry")

# Not empty, or the SDK would take whatever span is current where the journal is written.
NOWHERE = otel_context.set_value("sagas.measured", value=True, context=otel_context.Context())
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# The last bit of the flags says so, and others may be set.
_SAMPLED_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f][13579bdf]\Z")


def spot(root: str, span: str = "") -> Context:
    """Gives the context of a span that may have ended.

    Args:
        root: ``traceparent`` of its saga's root span; empty if the saga is not traced.
        span: Its id in hexadecimal; that of the root by default.
    """
    found = _SAMPLED_PARENT.match(root)
    if found is None:
        return NOWHERE
    trace_id, root_id = found.groups()
    context = SpanContext(int(trace_id, 16), int(span or root_id, 16), is_remote=True, trace_flags=_SAMPLED)
    return trace.set_span_in_context(NonRecordingSpan(context), NOWHERE)


class Metering:
    """Writes measurements.

    Args:
        provider: Of OpenTelemetry.

    Attributes:
        board: Where what can be observed at any time is posted.
    """

    def __init__(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("sagas")
        self.board: Board = board_for(provider, meter)
        self._writers = {metric.name: _writer(meter, metric) for metric in METRICS if metric.kind in _WRITTEN}
        self._failed = False
        self._attributes: dict[tuple[object, ...], dict[str, str | bool]] = {}

    def write(self, metric: Metric, amount: float, *values: str | bool, context: Context = NOWHERE) -> None:
        """Adds to a counter, or records in a histogram.

        Args:
            metric: Which one.
            amount: In its unit.
            values: Of its attributes, in their order; an empty text leaves one out.
            context: Of the span to which it belongs.
        """
        try:
            self._writers[metric.name](amount, self._named(metric, values), context)
        except Exception:
            # Whatever is set up to take measurements may fail; what is measured goes on.
            if not self._failed:
                self._failed = True
                logger.exception("%s could not be measured; nothing more is said of this", metric.name)

    def _named(self, metric: Metric, values: tuple[str | bool, ...]) -> dict[str, str | bool]:
        """Gives the attributes by name; made once, since there are few."""
        key = (metric.name, *values)
        found = self._attributes.get(key)
        if found is None:
            pairs = zip(metric.attributes, values, strict=True)
            found = self._attributes[key] = {name: value for name, value in pairs if value != ""}
        return found


_WRITTEN = (Kind.COUNTER, Kind.HISTOGRAM)


def _writer(meter: Meter, metric: Metric) -> Callable[[float, dict[str, str | bool], Context], None]:
    """Makes an instrument, and gives what writes to it."""
    if metric.kind is Kind.COUNTER:
        return meter.create_counter(metric.name, metric.unit, metric.about).add
    return meter.create_histogram(
        metric.name, metric.unit, metric.about, explicit_bucket_boundaries_advisory=metric.buckets
    ).record


def find_metering(provider: MeterProvider | None) -> Metering | None:
    """Makes the metering for a provider, or for the global one; ``None`` if nobody would see what is measured.

    Raises:
        TypeError: It is no provider.
    """
    found = metrics.get_meter_provider() if provider is None else provider
    if not isinstance(found, MeterProvider):
        raise TypeError(f"meter_provider={found!r} is no MeterProvider of OpenTelemetry, for metrics")
    # OpenTelemetry stands a provider in until there is one, and has no public name for it.
    unset = isinstance(found, NoOpMeterProvider) or type(found).__name__ == "_ProxyMeterProvider"
    return None if unset else Metering(found)
