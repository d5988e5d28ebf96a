"""Writes the dashboard ``docs/examples/grafana/sagas.json``: ``python docs/make_grafana.py``."""

# ruff: noqa: INP001 - a script beside the pages that it writes

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["PAGE", "dashboard", "page"]

PAGE = Path(__file__).parent / "examples" / "grafana" / "sagas.json"

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_OF = 'saga_name=~"$saga"'
_RATE = "[$__rate_interval]"
_WIDTH, _HEIGHT = 24, 8


class Panel(NamedTuple):
    """A panel.

    Attributes:
        title: Of the panel.
        about: What it says.
        unit: As Grafana calls it.
        width: Of 24.
        queries: PromQL, by what a line is called.
        kind: ``timeseries`` or ``stat``.
    """

    title: str
    about: str
    unit: str
    width: int
    queries: dict[str, str]
    kind: str = "timeseries"


def _rate(metric: str, by: str, only: str = _OF) -> str:
    """Gives how often something happens, in a second."""
    return f"sum by ({by}) (rate({metric}{{{only}}}{_RATE}))"


def _part(metric: str, some: str, by: str, only: str = _OF) -> str:
    """Gives which part has a label."""
    return f"{_rate(metric, by, f'{only}, {some}')} / {_rate(metric, by, only)}"


def _quantile(part: float, metric: str, by: str, only: str = _OF) -> str:
    """Gives a quantile of a histogram."""
    return f"histogram_quantile({part}, {_rate(f'{metric}_bucket', f'le, {by}' if by else 'le', only)})"


_NOW = (
    Panel("Stuck", "Sagas that wait for an operator: `sagas list --status stuck`.", "none", 4,
          {"stuck": f"sum(max by (saga_name) (saga_stuck{{{_OF}}})) or vector(0)"}, "stat"),
    Panel("Open", "Sagas that have not ended; counting stops at 100,000 of a status.", "none", 4,
          {"{{saga_status}}": "max by (saga_status) (saga_open)"}, "stat"),
    Panel("Backlog", "Sagas that have something to do, and that no live coordinator drives.", "none", 4,
          {"backlog": "max(saga_backlog)"}, "stat"),
    Panel("Coordinators", "That hold a lease.", "none", 4, {"alive": "max(saga_coordinators)"}, "stat"),
    Panel("Journal stalled", "Coordinators that cannot write at the moment.", "none", 4,
          {"stalled": "sum(saga_journal_stalled)"}, "stat"),
    Panel("Routes left alone", "Breakers that are open.", "none", 4,
          {"open": "sum(max by (saga_route) (saga_route_open_breakers)) or vector(0)"}, "stat"),
)  # fmt: skip
_SAGAS = (
    Panel("Started", "Sagas that began, in a second.", "ops", 8,
          {"{{saga_name}}": _rate("saga_started_total", "saga_name")}),
    Panel("Ended", "By outcome, in a second.", "ops", 8,
          {"{{saga_name}} {{saga_outcome}}": _rate("saga_ended_total", "saga_name, saga_outcome")}),
    Panel("Compensated", "The part of those that ended.", "percentunit", 8,
          {"{{saga_name}}": _part("saga_ended_total", 'saga_outcome="compensated"', "saga_name")}),
    Panel("Duration of sagas", "From start to end. Points are exemplars: each leads to its trace.", "s", 8,
          {"{{saga_name}} p50": _quantile(0.5, "saga_duration_seconds", "saga_name"),
           "{{saga_name}} p95": _quantile(0.95, "saga_duration_seconds", "saga_name"),
           "{{saga_name}} p99": _quantile(0.99, "saga_duration_seconds", "saga_name")}),
    Panel("Time to consistent", "From the first failure until everything was undone.", "s", 8,
          {"{{saga_name}} p50": _quantile(0.5, "saga_time_to_consistent_seconds", "saga_name"),
           "{{saga_name}} p95": _quantile(0.95, "saga_time_to_consistent_seconds", "saga_name")}),
    Panel("Wait for a coordinator", "Of sagas that clients have started.", "s", 8,
          {"{{saga_name}} p95": _quantile(0.95, "saga_start_delay_seconds", "saga_name")}),
)  # fmt: skip
_STEPS = (
    Panel("Duration of steps, p95", "Of each attempt. Points are exemplars: each leads to its trace.", "s", 12,
          {"{{saga_name}} {{saga_step}}": _quantile(0.95, "saga_step_duration_seconds", "saga_name, saga_step")}),
    Panel("Failing attempts", "The part of a step's attempts that failed.", "percentunit", 12,
          {"{{saga_name}} {{saga_step}}": _part(
              "saga_step_duration_seconds_count", 'saga_step_outcome="failed"', "saga_name, saga_step")}),
    Panel("Retries", "In a second.", "ops", 8,
          {"{{saga_name}} {{saga_step}}": _rate("saga_retries_total", "saga_name, saga_step")}),
    Panel("Undos", "In a second, by what became of them.", "ops", 8,
          {"{{saga_step}} {{saga_step_outcome}}":
              _rate("saga_compensations_total", "saga_step, saga_step_outcome")}),
    Panel("Duration of undos, p95", "Of each attempt.", "s", 8,
          {"{{saga_name}} {{saga_step}}":
              _quantile(0.95, "saga_compensation_duration_seconds", "saga_name, saga_step")}),
)  # fmt: skip
_FLEET = (
    Panel("Lease churn", "Takeovers, sagas lost to others, and leases that were renewed too late, in a second.", "ops",
          8, {"takeovers": _rate("saga_takeovers_total", ""), "losses": _rate("saga_losses_total", ""),
              "lapses": "sum(rate(saga_lease_lapses_total[$__rate_interval]))"}),
    Panel("Became stuck", "In an hour.", "none", 8,
          {"{{saga_name}}": f"sum by (saga_name) (increase(saga_halts_total{{{_OF}}}[1h]))"}),
    Panel("Active here", "Sagas that have something to do, in all processes.", "none", 8,
          {"active": "sum(saga_active)"}),
    Panel("Commits", "How long the journal takes to write what all running sagas have for it.", "s", 8,
          {"p50": _quantile(0.5, "saga_journal_commit_duration_seconds", "", 'error_type=""'),
           "p99": _quantile(0.99, "saga_journal_commit_duration_seconds", "", 'error_type=""')}),
    Panel("Records a commit", "The mean.", "none", 8,
          {"records": "sum(rate(saga_journal_commit_records_sum[$__rate_interval])) / "
                      "sum(rate(saga_journal_commit_records_count[$__rate_interval]))"}),
    Panel("Workers", "How long they take to answer, and what they give up.", "s", 8,
          {"{{saga_step}} {{saga_request_kind}} p95":
              _quantile(0.95, "saga_request_duration_seconds", "saga_step, saga_request_kind", ""),
           "dead letters in {{messaging_destination_name}}, an hour":
              "sum by (messaging_destination_name) (increase(saga_dead_letters_total[1h]))"}),
)  # fmt: skip
_ROWS = (("Now", _NOW, 4), ("Sagas", _SAGAS, _HEIGHT), ("Steps", _STEPS, _HEIGHT), ("Fleet", _FLEET, _HEIGHT))


def _target(number: int, legend: str, query: str) -> dict[str, Any]:
    """Writes a query."""
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": query.replace("sum by () ", "sum"),
        "legendFormat": legend,
        "exemplar": "_bucket" in query,
    }


def _panel(panel: Panel, number: int, x: int, y: int, height: int) -> dict[str, Any]:
    """Writes a panel."""
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"h": height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {},
        "targets": [_target(n, legend, query) for n, (legend, query) in enumerate(panel.queries.items())],
    }


def _panels() -> list[dict[str, Any]]:
    """Puts everything in its place."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, panels, height in _ROWS:
        at = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        found.append(
            {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": at, "panels": []}
        )
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + height
            found.append(_panel(panel, len(found) + 1, x, y, height))
            x += panel.width
        y += height
    return found


def dashboard() -> dict[str, Any]:
    """Gives the dashboard, as Grafana imports it."""
    saga = {
        "name": "saga", "label": "Saga", "type": "query", "datasource": _SOURCE, "refresh": 2, "multi": True,
        "query": {"query": "label_values(saga_started_total, saga_name)", "refId": "saga"}, "includeAll": True,
        "allValue": ".*", "current": {"text": "All", "value": "$__all"},
    }  # fmt: skip
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "sagas",
        "title": "Sagas",
        "tags": ["sagas"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source, saga]},
        "annotations": {"list": []},
        "panels": _panels(),
    }


def page() -> str:
    """Writes the whole file."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
