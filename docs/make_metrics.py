"""Writes ``docs/reference/metrics.md`` from the table of metrics: ``python docs/make_metrics.py``."""

# ruff: noqa: INP001 - a script beside the pages that it writes

from __future__ import annotations

import re
from pathlib import Path

from sagas.telemetry.metrics_table import METRICS, Kind, Metric

__all__ = ["PAGE", "page", "prometheus_label", "prometheus_names"]

PAGE = Path(__file__).parent / "reference" / "metrics.md"

_HEAD = """\
# Metrics

What coordinators and workers measure, by OpenTelemetry, with the meter `sagas`. Generated from the table in \
`sagas/telemetry/metrics_table.py` by `docs/make_metrics.py`. [See sagas in Prometheus and Grafana]\
(../how-to/prometheus.md) says how to use it.

`Coordinator(…, meter_provider=…)` and `Worker(…, meter_provider=…)` take a provider; by default, it is the global \
one. Where there is none, nothing is measured.

Everything that is counted is counted when it is durable, once, by the process that wrote it. Where a saga is traced \
and sampled, measurements carry its trace id, and the id of the span that was measured, as exemplars.

"""
_GROUPS = (
    ("Counters", Kind.COUNTER, "What has happened since the process began. Take the sum of all processes."),
    ("Histograms", Kind.HISTOGRAM, "How long things took, and how many records a commit wrote. Take the sum."),
    (
        "Gauges", Kind.GAUGE,
        """\
How the store stands, which each coordinator looks up every 15 seconds, or more rarely if that takes long. All of them \
say the same: take the largest, never the sum. Counting stops at 100,000 for each status and 10,000 for stuck sagas by \
name, so that it takes no time in a journal of millions.""",
    ),
    ("Up-down counters", Kind.UP_DOWN_COUNTER, "How a process stands. Take the sum."),
)  # fmt: skip
_TAIL = """\
## Attributes

| Attribute | Values |
|---|---|
| `saga.name`, `saga.step` | as declared; `unknown` where there is no code of the saga, or no such step \
at a participant |
| `saga.outcome` | `completed`, `compensated` |
| `saga.status` | `running`, `compensating`, `stuck` |
| `saga.step.outcome` | of an attempt: `succeeded`, `failed`; of an undo: `succeeded`, `failed` (it used up its \
attempts), `skipped` (by an operator) |
| `saga.compensation` | whether it is an attempt of a compensator |
| `saga.route` | the pattern in `routes={…}`, or the route's name |
| `saga.request.kind` | `action`, `undo`, `probe` |
| `saga.request.outcome` | as in [`StepReply`](transports.md), or `refused` |
| `messaging.destination.name` | the queue's name |
| `error.type` | `StoreUnavailable`, `StoreError` |

There are no ids among them, so there are no more time series than sagas, steps, routes and queues in the code.

## What exactly is measured

- `saga.step.duration` is of each attempt that ended, also of failed ones; waiting for a limit, a route or a retry is \
not in it. An attempt that a crash cut off is not measured.
- `saga.time_to_consistent` begins with the first failure that the body did not survive: siblings in flight end after \
that, and so do undos. It ends when the saga is compensated; skipped undos count as undone. Sagas that had nothing to \
undo are left out.
- `saga.journal.commit.*` is of the commits in which the records of all running sagas are written together. \
Transactional steps, which commit with their own writes, are left out.
- `saga.takeovers` leaves out sagas that a client has started and that begin now; their wait is `saga.start.delay`.
"""


def prometheus_names(metric: Metric) -> list[str]:
    """Gives the names of a metric in Prometheus, by the rules of OpenTelemetry.

    https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
    """
    name = prometheus_label(metric.name) + ("_seconds" if metric.unit == "s" else "")
    if metric.kind is Kind.COUNTER:
        return [f"{name}_total"]
    return [f"{name}_{part}" for part in ("bucket", "count", "sum")] if metric.kind is Kind.HISTOGRAM else [name]


def prometheus_label(attribute: str) -> str:
    """Gives the label that an attribute becomes."""
    return re.sub(r"[^a-zA-Z0-9]+", "_", attribute)


def _row(metric: Metric) -> str:
    """Writes a line of a table."""
    shown = prometheus_names(metric)[0]
    attributes = ", ".join(f"`{attribute}`" for attribute in metric.attributes)
    return f"| `{metric.name}` | `{metric.unit}` | {attributes} | `{shown}` | {metric.about} |"


def _group(title: str, kind: Kind, about: str) -> str:
    """Writes what there is of one kind."""
    rows = "\n".join(_row(metric) for metric in METRICS if metric.kind is kind)
    return f"## {title}\n\n{about}\n\n| Name | Unit | Attributes | In Prometheus | |\n|---|---|---|---|---|\n{rows}\n"


def page() -> str:
    """Writes the whole page."""
    return _HEAD + "\n".join(_group(*group) for group in _GROUPS) + "\n" + _TAIL


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
