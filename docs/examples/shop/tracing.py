"""Sends traces where ``OTEL_EXPORTER_OTLP_ENDPOINT`` says, such as to Jaeger; nowhere without it."""

from __future__ import annotations

import os

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

__all__ = ["export_traces"]


def export_traces(service: str) -> None:
    """Sets up OpenTelemetry for a process; its service name tells the services apart in a trace."""
    if "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ:
        return
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
