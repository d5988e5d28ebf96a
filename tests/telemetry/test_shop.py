"""The three services of the shop, over HTTP and a queue: killed, taken over, undone; each order is one tree."""

from __future__ import annotations

import os
from pathlib import Path

from docs import make_traces  # pyright: ignore[reportAttributeAccessIssue] - sees tests/docs


def test_the_pictures_of_traces_are_those_of_the_shop(tmp_path: Path) -> None:
    """Which are trees: that is made sure of before they are given."""
    found = make_traces.traces(tmp_path)
    assert list(found) == ["completed", "compensated", "killed"]
    for name, root in found.items():
        assert make_traces.outline(root) == make_traces.drawn(name), f"{name}: run `python docs/make_traces.py`\n{root}"
        assert root.span.attributes["saga.outcome"] == ("compensated" if name == "compensated" else "completed")
    sent = found["completed"].find("process payments").span
    told = {name: value for name, value in sent.attributes.items() if name.startswith("messaging.")}
    assert told == {
        "messaging.system": "sql", "messaging.destination.name": "payments", "messaging.operation.name": "process",
        "messaging.operation.type": "process", "messaging.message.id": told["messaging.message.id"],
    }  # fmt: skip
    charge = next(x.span for x in found["completed"].children if x.span.name == "step payments.charge")
    assert (charge.kind, charge.attributes["messaging.operation.type"]) == ("PRODUCER", "send")
    assert charge.attributes["messaging.message.id"] == sent.attributes["messaging.message.id"]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in os.environ, "it is set for the shop alone"
