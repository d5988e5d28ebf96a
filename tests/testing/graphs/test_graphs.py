"""Graphs tell which ways runs took, whatever the saga, and can be read by what draws them."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagas import gather, receive, saga, step
from sagas.core.definitions import Saga
from sagas.testing import Fault, Scenario, Simulator
from sagas.testing.graphs import Collector, Edge, Graph, Node, as_dot, as_mermaid, as_svg
from sagas.testing.graphs.layout import arrange
from sagas.testing.random_runs import RandomRuns
from tests.core.plans import Plan, interpret, plans
from tests.testing import shop

HERE = Path(__file__).parent
SVG = "{http://www.w3.org/2000/svg}"
WRITERS = {"svg": as_svg, "mmd": as_mermaid, "dot": as_dot}


def _graph(call: Any, *faults: Iterable[Fault]) -> Graph:
    """Plays a run without faults, and one for each chain of them."""
    simulator, collector = Simulator(call.saga), Collector(call.saga.name)
    for chain in ((), *faults):
        run = simulator.run(Scenario(call, tuple(chain)))
        assert run.missed == ()
        collector.add(run)
    return collector.graph()


def _ways(graph: Graph) -> set[tuple[str, str, str]]:
    names = {node.id: node.text for node in graph.nodes}
    return {(names[edge.source], names[edge.target], edge.kind) for edge in graph.edges}


def test_what_runs_side_by_side_fans_out_and_joins_both_ways() -> None:
    graph = _graph(shop.order("lamp", 1), [Fault("rejected", at="ship")], [Fault("lost reply", at="charge")])
    assert _ways(graph) == {
        ("start", "reserve", "next"),
        ("reserve", "charge", "next"),
        ("reserve", "pack", "next"),
        ("charge", "ship", "next"),
        ("pack", "ship", "next"),
        ("ship", "completed", "next"),
        ("ship", "undo charge", "failed"),
        ("ship", "undo pack", "failed"),
        ("charge", "charge in doubt", "doubt"),
        ("charge in doubt", "undo charge", "undo"),
        ("undo charge", "undo reserve", "undo"),
        ("undo pack", "undo reserve", "undo"),
        ("undo reserve", "compensated", "undo"),
    }
    counts = {node.text: node.runs for node in graph.nodes}
    assert counts["reserve"] == 3
    assert counts["undo reserve"] == 2
    assert counts["completed"] == 1


def test_after_the_undo_of_a_scope_the_saga_goes_on_from_there() -> None:
    simulator, collector = Simulator(shop.ask), Collector("ask")
    for answer in range(2):
        collector.add(simulator.run(Scenario(shop.ask("lamp"), answers=(answer,))))
    ways = _ways(collector.graph())
    assert ("start", "reserve", "next") in ways
    assert ("pack", "signal approval", "next") in ways
    assert ("signal approval", "completed", "next") in ways
    assert ("signal approval", "undo pack", "undo") in ways
    assert ("undo pack", "completed", "next") in ways


@saga
async def listen() -> None:
    await gather(poke(1), receive("first"))
    if await receive("second", bool, timeout=60) is True:
        await poke(2)


def test_a_signal_stands_where_the_saga_waits_for_it() -> None:
    graph = _graph(listen())
    assert _ways(graph) == {
        ("start", "poke", "next"),
        ("start", "signal first", "next"),
        ("poke", "signal second", "next"),
        ("signal first", "signal second", "next"),
        ("signal second", "completed", "next"),
    }
    assert all("signal second" in write(graph) for write in WRITERS.values())


def test_what_needs_an_operator_leads_to_stuck() -> None:
    graph = _graph(shop.order("lamp", 1), [Fault("rejected", at="ship"), Fault("down", at="undo of pack")])
    assert ("undo pack", "stuck", "stuck") in _ways(graph)
    assert ("undo reserve", "compensated", "undo") in _ways(graph)


@step
async def poke(number: int) -> None: ...


@saga
async def twice() -> None:
    await poke(1)
    await poke(2)


@saga
async def often() -> None:
    for number in range(12):
        await poke(number)


def test_a_step_that_is_called_at_a_few_places_is_a_node_for_each() -> None:
    assert _ways(_graph(twice())) == {
        ("start", "poke (1)", "next"), ("poke (1)", "poke (2)", "next"), ("poke (2)", "completed", "next")
    }  # fmt: skip


def test_a_step_that_is_called_at_many_places_is_one_node() -> None:
    graph = _graph(often())
    assert _ways(graph) == {("start", "poke", "next"), ("poke", "poke", "next"), ("poke", "completed", "next")}
    for write in WRITERS.values():
        assert write(graph)


# --- what is written ------------------------------------------------------------------------------------------------


def _small() -> Graph:
    return _graph(
        shop.order("lamp", 1),
        [Fault("rejected", at="reserve")],
        [Fault("rejected", at="ship")],
        [Fault("lost reply", at="charge")],
        [Fault("lost reply", at="ship")],
    )


@pytest.mark.parametrize("ending", list(WRITERS))
def test_a_small_saga_is_drawn_as_before(ending: str) -> None:
    """To see what has changed, delete the file, run the test once, and look at the difference."""
    golden = HERE / f"order.{ending}"
    text = WRITERS[ending](_small())
    if not golden.exists():
        golden.write_text(text, encoding="utf-8")
        pytest.fail(f"{golden} is new; look at it")
    assert text == golden.read_text(encoding="utf-8")


def test_a_drawing_has_every_node_once_and_every_edge_between_them() -> None:
    graph = _small()
    root = ET.fromstring(as_svg(graph))  # noqa: S314 - our own
    groups = [x for x in root.iter(f"{SVG}g") if "node" in x.get("class", "").split()]
    assert sorted(x.get("id", "") for x in groups) == sorted(node.id for node in graph.nodes)
    lines = [(x.get("data-from"), x.get("data-to")) for x in root.iter(f"{SVG}path") if x.get("data-from")]
    assert sorted(map(str, lines)) == sorted(str((edge.source, edge.target)) for edge in graph.edges)
    markers = {x.get("id") for x in root.iter(f"{SVG}marker")}
    used = {x.get("marker-end") for x in root.iter(f"{SVG}path") if x.get("marker-end")}
    assert used == {f"url(#{x})" for x in markers}
    style = next(root.iter(f"{SVG}style")).text or ""
    assert "prefers-color-scheme: dark" in style


def test_no_node_covers_another_and_all_are_within_the_drawing() -> None:
    layout = arrange(_small())
    boxes = list(layout.boxes.values())
    for index, one in enumerate(boxes):
        assert one.width / 2 <= one.x <= layout.width - one.width / 2
        assert one.height / 2 <= one.y <= layout.height - one.height / 2
        for other in boxes[:index]:
            apart = abs(one.x - other.x) * 2 >= one.width + other.width or abs(one.y - other.y) >= one.height
            assert apart, (one, other)


def test_undos_stand_beside_their_steps() -> None:
    graph = _small()
    layout = arrange(graph)
    by_name = {node.text: layout.boxes[node.id] for node in graph.nodes}
    for name in ("reserve", "charge", "pack"):
        assert by_name[f"undo {name}"].y == by_name[name].y
        assert by_name[f"undo {name}"].x > by_name["charge in doubt"].x > by_name[name].x


NASTY = '<a href="x">&amp; "b" \\ `c` #d; [e] |f|</a>'


def test_whatever_a_step_is_called_nothing_breaks_out() -> None:
    nodes = (Node("n0", "start", "", "", 1), Node("n1", "step", NASTY, "", 1), Node("n2", "completed", "", "", 1))
    graph = Graph(NASTY, 1, nodes, (Edge("n0", "n1", "next", 1), Edge("n1", "n2", "next", 1)))
    root = ET.fromstring(as_svg(graph))  # noqa: S314 - our own
    assert not list(root.iter(f"{SVG}a"))
    assert NASTY in {x.text for x in root.iter(f"{SVG}text")}
    mermaid = re.fullmatch(r'  n1\["(.*)"\]:::step', as_mermaid(graph).splitlines()[3])
    assert mermaid is not None
    assert not set('"<>&`') & set(re.sub(r"#\w+;", "", mermaid[1]))
    dot = re.search(r'^  n1 \[label="((?:[^"\\]|\\.)*)", shape=box', as_dot(graph), re.MULTILINE)
    assert dot is not None
    assert re.sub(r"\\(.)", r"\1", dot[1]) == NASTY


# --- any saga -------------------------------------------------------------------------------------------------------


@given(plans(2), st.integers(0, 1 << 32))
@settings(max_examples=40)
def test_the_graph_of_any_saga_is_connected_and_can_be_drawn(plan: Plan, seed: int) -> None:
    graph = _graph_of_random_runs(interpret, interpret(plan), seed)
    ids = {node.id for node in graph.nodes}
    assert len(ids) == len(graph.nodes)
    assert all(edge.source in ids and edge.target in ids and 0 < edge.runs <= graph.runs for edge in graph.edges)
    reached = {node.id for node in graph.nodes if node.kind == "start"}
    assert len(reached) == 1
    while more := {edge.target for edge in graph.edges if edge.source in reached} - reached:
        reached |= more
    assert reached == ids
    ET.fromstring(as_svg(graph))  # noqa: S314 - our own
    assert as_mermaid(graph).count("\n") >= len(graph.nodes) + len(graph.edges)
    assert as_dot(graph).count(" -> ") == len(graph.edges)


def _graph_of_random_runs(which: Saga[..., Any], call: Any, seed: int) -> Graph:
    collector = Collector(which.name)
    for run in islice(RandomRuns(Simulator(which), [call], seed), random.Random(seed).randint(1, 8)):
        collector.add(run)
    return collector.graph()
