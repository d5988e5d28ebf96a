"""Sends the traces of sagas again, from their journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sagas.cli.problems import Problem
from sagas.cli.reading import history_of
from sagas.telemetry import Tracing, retell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

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
    exporter = _Watched(_exporter(endpoint))
    provider = _provider(service, exporter)
    told: dict[str, int] = {}
    tracing = Tracing(provider)
    for saga_id in saga_ids:
        spans = retell(tracing, saga_id, history_of(store, saga_id).records, {})
        told[saga_id] = len(spans)
        for span in spans:
            span.show()
    provider.shutdown()
    if exporter.lost:
        raise Problem(
            f"{exporter.lost} of {sum(told.values())} spans were not taken at "
            f"{endpoint or 'the endpoint that the environment names, or http://localhost:4318'}; see above, and send "
            "them again: they have the same ids"
        )
    return told


class _Watched:
    """Exports, and counts what was not taken."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See ``SpanExporter``."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        finally:
            self.lost += 0 if result is SpanExportResult.SUCCESS else len(spans)
        return result

    def shutdown(self) -> None:
        """See ``SpanExporter``."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See ``SpanExporter``."""
        return self._inner.force_flush(timeout_millis)


def _provider(service: str, exporter: _Watched) -> TracerProvider:
    """Makes what sends spans, many together."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(cast("SpanExporter", exporter), max_queue_size=65_536))
    return provider


def _exporter(endpoint: str | None) -> SpanExporter:
    """Makes what sends spans by OTLP over HTTP.

    Raises:
        Problem: It is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise Problem("there is no exporter for traces; install the extra: pip install 'sagakit[otlp]'") from error
    return OTLPSpanExporter(endpoint=None if endpoint is None else f"{endpoint.rstrip('/')}/v1/traces")
