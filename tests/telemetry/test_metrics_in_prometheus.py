"""The reference, the dashboard and the alerts speak of metrics that there are, by the names that Prometheus sees."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from sagas.telemetry import Metering, metrics_table
from sagas.telemetry.metrics_board import Point
from sagas.telemetry.metrics_table import METRICS, Kind, Metric

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "docs" / "examples" / "grafana"
_WORD = re.compile(r"\bsaga_\w+")
_STRING = re.compile(r'"[^"]*"')


def _script(name: str) -> ModuleType:
    """Imports a script of the documentation."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """By each name that the real exporter gives to Prometheus, its labels: everything is measured once."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry, scope_info_enabled=False, disable_target_info=True)
    metering = Metering(MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    for metric in METRICS:
        if metric.kind in (Kind.COUNTER, Kind.HISTOGRAM):
            metering.write(metric, 1, *("x" for _ in metric.attributes))
    observed = [x for x in METRICS if x.kind in (Kind.GAUGE, Kind.UP_DOWN_COUNTER)]
    metering.board.post(lambda: [Point(metric, 1.0, tuple("x" for _ in metric.attributes)) for metric in observed])
    return {sample.name: set(sample.labels) for family in registry.collect() for sample in family.samples}


def _queries() -> Iterator[tuple[str, str]]:
    """Gives every query, and where it is."""
    for panel in json.loads((GRAFANA / "sagas.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for group in yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


def test_the_names_in_the_reference_are_those_of_the_real_exporter(exported: dict[str, set[str]]) -> None:
    docs = _script("make_metrics")
    expected = {
        name: {docs.prometheus_label(x) for x in metric.attributes} | ({"le"} if name.endswith("_bucket") else set())
        for metric in METRICS
        for name in docs.prometheus_names(metric)
    }
    assert exported == expected


@pytest.mark.parametrize(("where", "query"), [pytest.param(*x, id=x[0]) for x in _queries()])
def test_a_query_asks_for_what_there_is(where: str, query: str, exported: dict[str, set[str]]) -> None:
    words = set(_WORD.findall(_STRING.sub("", query)))
    names = words & set(exported)
    assert names, where
    labels = set[str]().union(*(exported[name] for name in names)) | {"$saga"}
    assert words - names <= labels, where
    for inside in re.findall(r"\{([^}]*)\}", query):
        assert {part.split("=")[0].strip(" !~") for part in inside.split(",") if part.strip()} <= labels, where
    for inside in re.findall(r"by \(([^)]*)\)", query):
        assert {part.strip() for part in inside.split(",")} <= labels, where


def test_every_metric_is_in_the_dashboard(exported: dict[str, set[str]]) -> None:
    docs = _script("make_metrics")
    asked = {word for where, query in _queries() if where.startswith("panel") for word in _WORD.findall(query)}
    assert [x.name for x in METRICS if not asked.intersection(docs.prometheus_names(x))] == []


def test_what_each_coordinator_says_of_the_same_store_is_never_added_up() -> None:
    gauges = [metric.name.replace(".", "_") for metric in METRICS if metric.kind is Kind.GAUGE]
    for where, query in _queries():
        for gauge in gauges:
            assert not re.search(rf"sum( by \([^)]*\))? ?\({gauge}\b", query), where


@pytest.mark.parametrize("name", ["make_metrics", "make_grafana"])
def test_what_is_generated_is_up_to_date(name: str) -> None:
    script = _script(name)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), f"run python docs/{name}.py"


def test_panels_have_a_place_of_their_own_and_ids() -> None:
    panels = json.loads((GRAFANA / "sagas.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    squares = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        for at in (panel["gridPos"] for panel in panels)
    ]
    assert all(0 <= x < 24 for square in squares for x, _ in square)
    assert not any(one & other for one, other in combinations(squares, 2))
    for panel in panels:
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(references)) == len(references)
        assert references or panel["type"] == "row"


def test_an_alert_says_what_to_do() -> None:
    alerts: list[dict[str, Any]] = [
        rule for group in yaml.safe_load((GRAFANA / "alerts.yml").read_text())["groups"] for rule in group["rules"]
    ]
    wanted = {"SagasStuck", "SagaBacklogGrows", "SagasSlowToConsistent", "SagaLeaseChurn"}
    assert wanted <= {rule["alert"] for rule in alerts}
    for rule in alerts:
        assert rule["labels"]["severity"] in {"page", "warn"}
        assert rule["annotations"]["summary"]


def test_prometheus_itself_takes_the_alerts_and_their_tests_pass() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool; Debian has it in `prometheus`")
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=GRAFANA, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


# --- conventions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_and_units_are_as_opentelemetry_has_them(metric: Metric) -> None:
    """https://opentelemetry.io/docs/specs/semconv/general/naming/."""
    for name in (metric.name, *metric.attributes):
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*(\.[a-z][a-z0-9]*(_[a-z0-9]+)*)+", name)
    assert re.fullmatch(r"s|\{[a-z]+\}", metric.unit)
    assert (metric.unit == "s") == metric.name.endswith(("duration", "delay", "time_to_consistent"))
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert not any("id" in attribute.replace("_", ".").split(".") for attribute in metric.attributes)
    assert not any(other.name.startswith(f"{metric.name}.") for other in METRICS)  # a name is no namespace


def test_every_metric_of_the_table_is_measured_somewhere() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "sagas").rglob("*.py") if path.name != "metrics_table.py")
    names = [name for name in metrics_table.__all__ if isinstance(getattr(metrics_table, name), Metric)]
    assert len(names) == len(METRICS) == len({metric.name for metric in METRICS})
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []
