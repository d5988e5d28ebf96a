"""Traces and metrics of sagas, by OpenTelemetry."""

from __future__ import annotations

from sagas.telemetry.logs import SagaLogFilter
from sagas.telemetry.marking import mark, mark_error, unsampled
from sagas.telemetry.metrics import Metering, find_metering
from sagas.telemetry.propagation import (
    arriving,
    find_tracer,
    is_here,
    message_attributes,
    serving,
    tell_message,
    trace_headers,
)
from sagas.telemetry.retelling import retell
from sagas.telemetry.story import Story, find_story
from sagas.telemetry.tracing import UNTRACED, Held, Origin, Tracing, find_tracing

__all__ = [
    "UNTRACED",
    "Held",
    "Metering",
    "Origin",
    "SagaLogFilter",
    "Story",
    "Tracing",
    "arriving",
    "find_metering",
    "find_story",
    "find_tracer",
    "find_tracing",
    "is_here",
    "mark",
    "mark_error",
    "message_attributes",
    "retell",
    "serving",
    "tell_message",
    "trace_headers",
    "unsampled",
]
