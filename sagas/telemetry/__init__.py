"""Traces of sagas, by OpenTelemetry."""

from __future__ import annotations

from sagas.telemetry.propagation import find_tracer, serving, trace_headers
from sagas.telemetry.tracing import Moment, Tracing, find_tracing

__all__ = ["Moment", "Tracing", "find_tracer", "find_tracing", "serving", "trace_headers"]
