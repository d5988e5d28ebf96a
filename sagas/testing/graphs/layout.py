"""Finds a place for every node of a graph.

Steps go down on the left, each below what led to it, and undos go back up on the right, each beside its step: what is
in doubt stands between the two. Within that, it is what is usual: layers, dummies where a line passes one, an order
that crosses few lines, and places near the middle of the neighbours.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sagas.testing.graphs.collect import Edge, Graph, Node

__all__ = ["Box", "Layout", "arrange"]

_LETTER, _PADDING, _NARROWEST = 7.4, 28.0, 96.0
_HEIGHT = 40.0
_GAP, _DUMMY = 30.0, 14.0
_LAYER = 64.0
_ZONE_GAP = 44.0
_MARGIN = 28.0
_SWEEPS = 24
_LONGEST = 30
_MOST_IN_DOUBT = 4
# Steps, what is in doubt, undos.
_ZONES = {"start": 0, "step": 0, "signal": 0, "completed": 0, "doubt": 1, "undo": 2, "compensated": 2, "stuck": 2}
_LAST_ZONE = 2


@dataclass(slots=True)
class Box:
    """A node, or where a line passes a layer.

    Attributes:
        id: Of the node; made up for a dummy.
        layer: From the top.
        zone: From the left: 0 for steps, 1 for what is in doubt, 2 for undos.
        width: Of its drawing.
        text: What is written in it.
        x: Of its middle.
        y: Of its middle.
        dummy: Whether it is none.
    """

    id: str
    layer: int
    zone: float
    width: float
    text: str = ""
    x: float = 0.0
    y: float = 0.0
    dummy: bool = False

    @property
    def column(self) -> int:
        """Gives the zone in which it is; what is on the way from one to another is between them."""
        return int(self.zone) if self.zone in (0, _LAST_ZONE) else 1

    @property
    def height(self) -> float:
        """Of its drawing."""
        return 0.0 if self.dummy else _HEIGHT


@dataclass(slots=True)
class Layout:
    """Where everything is.

    Attributes:
        boxes: By id; without dummies.
        lines: What each edge passes, from its source to its target.
        width: Of the whole.
        height: Of the whole.
    """

    boxes: dict[str, Box]
    lines: list[tuple[Edge, list[Box]]] = field(default_factory=list["tuple[Edge, list[Box]]"])
    width: float = 0.0
    height: float = 0.0


def arrange(graph: Graph) -> Layout:
    """Arranges a graph."""
    layers = _layers(graph)
    boxes = {x.id: Box(x.id, layers[x.id], _ZONES[x.kind], _width(_text(x)), _text(x)) for x in graph.nodes}
    layout = Layout(dict(boxes))
    for number, edge in enumerate(graph.edges):
        layout.lines.append((edge, _passed(edge, boxes, number)))
    rows = _rows([*boxes.values(), *(x for _, line in layout.lines for x in line if x.dummy)])
    near = _neighbours(line for _, line in layout.lines)
    _order(rows, near)
    _place(rows, near)
    _fit(layout, rows)
    return layout


# --- layers ---------------------------------------------------------------------------------------------------------


def _layers(graph: Graph) -> dict[str, int]:
    """Gives each node its layer: steps below what leads to them, undos beside them, what is in doubt in between."""
    depth = _depths(graph)
    doubts: dict[int, list[str]] = defaultdict(list)
    for node in graph.nodes:
        if node.kind == "doubt":
            doubts[depth[_step(node)]].append(node.id)
    top, tops = 0, dict[int, int]()
    for level in range(max(depth.values(), default=0) + 2):
        tops[level] = top
        top += 1 + min(max(len(doubts[level]), 1), _MOST_IN_DOUBT)  # each on its own, so that no line runs through it
    layers: dict[str, int] = {}
    for node in graph.nodes:
        if node.kind in ("start", "compensated"):
            layers[node.id] = 0
        elif node.kind in ("completed", "stuck"):
            layers[node.id] = tops[max(tops)]
        elif node.kind == "doubt":
            level = depth[_step(node)]
            layers[node.id] = tops[level] + 1 + doubts[level].index(node.id) % _MOST_IN_DOUBT
        else:
            layers[node.id] = tops[depth[_step(node)]]
    return layers


def _step(node: Node) -> tuple[str, str]:
    """Says which step a node is about."""
    return node.step, node.place


def _depths(graph: Graph) -> dict[tuple[str, str], int]:
    """Gives the longest way to each step; a way back to an earlier one does not count."""
    nodes = {node.id: node for node in graph.nodes}
    before: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)
    for node in graph.nodes:
        if node.step:
            before[_step(node)]
    for edge in graph.edges:
        source, target = nodes[edge.source], nodes[edge.target]
        if target.kind in ("step", "signal") and source.step:
            before[_step(target)].add(_step(source))
    found: dict[tuple[str, str], int] = {}

    def depth(step: tuple[str, str], seen: frozenset[tuple[str, str]]) -> int:
        if step not in found:
            above = [depth(x, seen | {step}) for x in sorted(before[step]) if x not in seen and x != step]
            found[step] = max(above, default=0) + 1
        return found[step]

    for step in list(before):
        depth(step, frozenset())
    return found


def _passed(edge: Edge, boxes: Mapping[str, Box], number: int) -> list[Box]:
    """Gives what a line passes: a dummy in every layer between its ends."""
    source, target = boxes[edge.source], boxes[edge.target]
    down = 1 if target.layer > source.layer else -1
    between = range(source.layer + down, target.layer, down) if source.layer != target.layer else range(0)
    zone = (source.zone + target.zone) / 2
    dummies = [Box(f"{number}:{layer}", layer, zone, _DUMMY, dummy=True) for layer in between]
    return [source, *dummies, target]


# --- order ----------------------------------------------------------------------------------------------------------


def _rows(boxes: Iterable[Box]) -> list[list[Box]]:
    """Sorts boxes by layer; within one, as they come, zone by zone."""
    rows: dict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        rows[box.layer].append(box)
    return [sorted(rows[layer], key=lambda box: box.zone) for layer in sorted(rows)]


def _neighbours(lines: Iterable[Sequence[Box]]) -> dict[str, list[Box]]:
    """Lists what each box has a line to."""
    near: dict[str, list[Box]] = defaultdict(list)
    for line in lines:
        for one, other in pairwise(line):
            if one is not other:
                near[one.id].append(other)
                near[other.id].append(one)
    return near


def _order(rows: Sequence[list[Box]], near: Mapping[str, list[Box]]) -> None:
    """Sorts the boxes of each layer by where their neighbours in the layer before are; down, and up again.

    Of all the orders on the way, the one with the fewest crossings counts.
    """
    place = {box.id: index for row in rows for index, box in enumerate(row)}
    best, fewest = [list(row) for row in rows], _crossings(rows, near, place)
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            back = 1 if sweep % 2 == 0 else -1
            row.sort(key=lambda box: (box.zone, _middle(box, near.get(box.id, ()), place, back)))
            place |= {box.id: index for index, box in enumerate(row)}
        crossings = _crossings(rows, near, place)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    for row, order in zip(rows, best, strict=True):
        row[:] = order


def _crossings(rows: Iterable[Sequence[Box]], near: Mapping[str, list[Box]], place: Mapping[str, int]) -> int:
    """Counts how often lines between neighbouring layers cross."""
    crossings = 0
    for row in rows:
        ends = [(place[x.id], place[y.id]) for x in row for y in near.get(x.id, ()) if y.layer == x.layer + 1]
        ends.sort()
        crossings += sum(ends[b][1] < ends[a][1] for a in range(len(ends)) for b in range(a + 1, len(ends)))
    return crossings


def _middle(box: Box, near: Iterable[Box], place: Mapping[str, int], back: int) -> float:
    """Gives the middle of the neighbours on one side."""
    found = [place[x.id] for x in near if (box.layer - x.layer) * back > 0]
    return sum(found) / len(found) if found else place[box.id]


# --- places ---------------------------------------------------------------------------------------------------------


def _place(rows: Sequence[Sequence[Box]], near: Mapping[str, list[Box]]) -> None:
    """Places the zones side by side; in each, boxes are near the middle of their neighbours."""
    left = 0.0
    for column in range(_LAST_ZONE + 1):
        zone = [found for row in rows if (found := [box for box in row if box.column == column])]
        _place_zone(zone, near)
        boxes = [box for row in zone for box in row]
        shift = left - min((box.x - box.width / 2 for box in boxes), default=0.0)
        for box in boxes:
            box.x += shift
        left = max((box.x + box.width / 2 for box in boxes), default=left - _ZONE_GAP) + _ZONE_GAP


def _place_zone(rows: Sequence[Sequence[Box]], near: Mapping[str, list[Box]]) -> None:
    """Moves each box towards the middle of its neighbours, as far as those beside it leave room."""
    inside = {box.id for row in rows for box in row}
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(_SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wanted = [_mean([x.x for x in near.get(box.id, ()) if x.id in inside], box.x) for box in row]
            _spread(row, wanted)


def _mean(values: Sequence[float], otherwise: float) -> float:
    """Gives the middle of some values."""
    return sum(values) / len(values) if values else otherwise


def _spread(row: Sequence[Box], wanted: Sequence[float]) -> None:
    """Puts the boxes of a row as near as can be to where they want to be, in their order and apart from each other.

    Less the room that those before it need, each has to be at or after the one before: those that are not are
    averaged until they are (isotonic regression).
    """
    offsets = [0.0]
    for one, other in pairwise(row):
        gap = _DUMMY if one.dummy or other.dummy else _GAP
        offsets.append(offsets[-1] + (one.width + other.width) / 2 + gap)
    blocks: list[tuple[float, int]] = []
    for place, offset in zip(wanted, offsets, strict=True):
        mean, size = place - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    for box, mean, offset in zip(row, means, offsets, strict=True):
        box.x = mean + offset


def _fit(layout: Layout, rows: Sequence[Sequence[Box]]) -> None:
    """Moves everything so that it begins at the margin, and measures it."""
    everything = [box for row in rows for box in row]
    left = min(box.x - box.width / 2 for box in everything) - _MARGIN
    for box in everything:
        box.x -= left
        box.y = _MARGIN + _HEIGHT / 2 + box.layer * _LAYER
    layout.width = max(box.x + box.width / 2 for box in everything) + _MARGIN
    layout.height = max(box.y for box in everything) + _HEIGHT / 2 + _MARGIN


def _text(node: Node) -> str:
    """Gives what is written into a node, which is not too long."""
    text = " ".join(node.text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _width(text: str) -> float:
    """Guesses how wide a text is drawn."""
    letters = sum(2 if unicodedata.east_asian_width(x) in "WF" else 1 for x in text)
    return max(letters * _LETTER + _PADDING, _NARROWEST)
