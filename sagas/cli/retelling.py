"""Sends the traces of sagas again, from their journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.cli.problems import Problem
from sagas.cli.reading import history_of
from sagas.telemetry import Tracing, retell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import TracerProvider

    from sagas.stores import Store

__all__ = ["retell_sagas"]


def retell_sagas(store: Store, saga_ids: Sequence[str], *, service: str, endpoint: str | None) -> dict[str, int]:
    """Sends the traces of some sagas again.

    Args:
        store: The journal.
        saga_ids: Which.
        service: The name of the service that sends them.
        endpoint: Where to, by OTLP over HTTP; as the environment says by default.

    Returns:
        How many spans of each.

    Raises:
        SagaNotFound: There is no such saga.
        Problem: There is no exporter, or what it sends is not taken.
    """
    provider = _provider(service, endpoint)
    told: dict[str, int] = {}
    tracing = Tracing(provider)
    for saga_id in saga_ids:
        spans = retell(tracing, saga_id, history_of(store, saga_id).records, {})
        told[saga_id] = len(spans)
        for span in spans:
            span.show()
    provider.shutdown()
    return told


def _provider(service: str, endpoint: str | None) -> TracerProvider:
    """Makes what sends spans, each as it comes.

    Raises:
        Problem: The exporter is not installed.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise Problem("there is no exporter for traces; install the extra: pip install 'sagakit[otlp]'") from error
    url = None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces"
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url), max_queue_size=65_536))
    return provider
