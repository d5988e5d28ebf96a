"""Traces, received over real OTLP."""
