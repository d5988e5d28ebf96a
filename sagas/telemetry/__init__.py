"""Traces of sagas, by OpenTelemetry."""

from __future__ import annotations

from sagas.telemetry.tracing import Moment, Tracing, find_tracing

__all__ = ["Moment", "Tracing", "find_tracing"]
