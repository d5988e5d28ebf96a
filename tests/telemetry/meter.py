"""A real meter provider, and what it has measured as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric, NumberDataPoint, Sum

__all__ = ["Meter", "Seen"]


class Seen(NamedTuple):
    """One time series.

    Attributes:
        value: Of a counter or gauge; how many values a histogram has.
        total: Of a histogram's values.
        exemplars: Trace ids and span ids.
    """

    value: float
    total: float
    exemplars: frozenset[tuple[int, int]]


class Meter:
    """Measures."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader], shutdown_on_exit=False)

    def metrics(self) -> list[Metric]:
        """Everything."""
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [x for resource in data.resource_metrics for scope in resource.scope_metrics for x in scope.metrics]

    def points(self) -> Iterator[tuple[str, dict[str, Any], Seen]]:
        """Every time series: its metric's name, its attributes, and what it says."""
        for metric in self.metrics():
            for point in metric.data.data_points:
                found = frozenset((x.trace_id or 0, x.span_id or 0) for x in point.exemplars)
                value, total = (point.value, 0.0) if isinstance(point, NumberDataPoint) else (point.count, point.sum)
                yield metric.name, dict(point.attributes or {}), Seen(value, total, found)

    def read(self, name: str) -> dict[tuple[object, ...], Seen]:
        """The time series of one metric, by the values of their attributes."""
        return {tuple(attributes.values()): seen for metric, attributes, seen in self.points() if metric == name}

    def values(self, name: str) -> dict[tuple[object, ...], float]:
        """The same, values only; of a counter those that were counted at all."""
        counts = any(isinstance(x.data, Sum) and x.data.is_monotonic for x in self.metrics() if x.name == name)
        return {key: seen.value for key, seen in self.read(name).items() if seen.value or not counts}
