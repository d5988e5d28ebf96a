"""Traces and metrics of sagas, by OpenTelemetry."""

from __future__ import annotations

from sagas.telemetry.metrics import Metering, find_metering
from sagas.telemetry.propagation import find_tracer, serving, trace_headers
from sagas.telemetry.tracing import Moment, Tracing, find_tracing

__all__ = ["Metering", "Moment", "Tracing", "find_metering", "find_tracer", "find_tracing", "serving", "trace_headers"]
