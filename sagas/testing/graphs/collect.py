"""Reads off the journals of runs which way each of them took."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from sagas.core import commands as c
from sagas.testing.graphs.signals import received
from sagas.testing.graphs.ways import START, Stop, Way, Ways
from sagas.testing.history import read

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.testing.runs import Run

__all__ = ["Collector", "Edge", "Graph", "Node"]

# A step that is called at more places than these is drawn as one.
_MOST_PLACES = 4
_ENDS = ("completed", "compensated")
_KINDS = ("start", "step", "signal", "doubt", "undo", "completed", "compensated", "stuck")
_LAST_WITH_STEP = 5  # the ends come after those
_BRANCH = re.compile(r":\d+")


class Node(NamedTuple):
    """A place that runs came by.

    Attributes:
        id: Unique.
        kind: ``start``, ``step``, ``signal``, ``doubt``, ``undo``, ``completed``, ``compensated`` or ``stuck``.
        step: Name of the step, or ``signal NAME``; ``""`` if it is about none.
        place: Where in the saga, if the step is called at several places; otherwise ``""``.
        runs: How many runs came by.
    """

    id: str
    kind: str
    step: str
    place: str
    runs: int

    @property
    def text(self) -> str:
        """Names it for people."""
        name = f"{self.step} ({self.place})" if self.place else self.step
        return {"undo": f"undo {name}", "doubt": f"{name} in doubt", "step": name, "signal": name}.get(
            self.kind, self.kind
        )

    def share(self, runs: int) -> str:
        """Says how many of so many runs came by, for people."""
        return share(self.runs, runs)


class Edge(NamedTuple):
    """A way from one place to another.

    Attributes:
        source: Id of a node.
        target: Id of a node.
        kind: ``next``, ``failed``, ``doubt``, ``undo`` or ``stuck``.
        runs: How many runs took it.
    """

    source: str
    target: str
    kind: str
    runs: int

    def text(self, runs: int) -> str:
        """Says how many of so many runs took it, for people."""
        return ("failed, " if self.kind == "failed" else "") + share(self.runs, runs)


class Graph(NamedTuple):
    """See the module.

    Attributes:
        saga: Its name.
        runs: How many runs there were.
        nodes: In the order in which runs came by them.
        edges: The most taken ones first.
    """

    saga: str
    runs: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


class Collector:
    """Takes runs in, and gives their graph.

    Args:
        saga: Its name.
    """

    def __init__(self, saga: str) -> None:
        self._saga = saga
        self._runs = 0
        self._stops: Counter[Stop] = Counter()
        self._ways: Counter[Way] = Counter()

    def add(self, run: Run) -> None:
        """Takes a run in."""
        self._runs += 1
        ways = Ways(read(run.records), received(run))
        taken = {_general(x) for x in ways.forward()} | {_general(x) for x in ways.back()}
        taken |= {_general(x) for x in ways.halts(_halts(run))}
        if run.status in _ENDS:
            taken |= {_general(x) for x in ways.ends(run.status)}
        taken = _without_gaps(taken)
        self._ways.update(taken)
        self._stops.update({stop for way in taken for stop in (way.source, way.target)} | {START})

    def graph(self) -> Graph:
        """Puts the graph together."""
        places: dict[str, set[str]] = defaultdict(set)
        for stop in self._stops:
            places[stop.name].add(stop.place)
        nodes: dict[tuple[str, str, str], int] = {}
        for stop, runs in sorted(self._stops.items(), key=lambda item: _rank(item[0])):
            key = _key(stop, places)
            nodes[key] = max(nodes.get(key, 0), runs)
        ids = {key: f"n{number}" for number, key in enumerate(nodes)}
        edges: Counter[tuple[str, str, str]] = Counter()
        for way, runs in sorted(self._ways.items(), key=lambda item: (_rank(item[0].source), _rank(item[0].target))):
            edges[ids[_key(way.source, places)], ids[_key(way.target, places)], way.kind] += runs
        return Graph(
            self._saga,
            self._runs,
            tuple(Node(ids[key], *key, runs) for key, runs in nodes.items()),
            tuple(Edge(*key, min(runs, self._runs)) for key, runs in edges.most_common()),
        )


def _rank(stop: Stop) -> tuple[object, ...]:
    """Puts stops into the order in which a reader meets them."""
    place = [int(x) if x.isdecimal() else -1 for x in re.split(r"[.:]", stop.place)]
    return _KINDS.index(stop.kind) // _LAST_WITH_STEP, place, stop.name, _KINDS.index(stop.kind)


def share(some: int, runs: int) -> str:
    """Writes a share: ``12 · 3%``."""
    part = some / max(runs, 1)
    percent = "<1%" if 0 < part < 0.01 else f"{min(part, 0.99):.0%}" if some < runs else "100%"  # noqa: PLR2004 - 1%
    return f"{some} · {percent}"


def _general(way: Way) -> Way:
    """Leaves out in which branch it is, since there may be as many as there are items in a list."""
    return way._replace(
        source=way.source._replace(place=_BRANCH.sub(":*", way.source.place)),
        target=way.target._replace(place=_BRANCH.sub(":*", way.target.place)),
    )


def _without_gaps(ways: set[Way]) -> set[Way]:
    """Leaves out what nothing leads to, as after another release was deployed in the middle of a run."""
    known, found = {START}, set[Way]()
    while more := {x for x in ways - found if x.source in known}:
        found |= more
        known |= {x.target for x in more}
    return found


def _key(stop: Stop, places: dict[str, set[str]]) -> tuple[str, str, str]:
    """Says which node a stop is: by its step or, if that is called at several places, by the place too."""
    several = 1 < len(places[stop.name]) <= _MOST_PLACES and stop.name
    return stop.kind, stop.name, stop.place if several else ""


def _halts(run: Run) -> Iterable[str]:
    """Lists the steps for which an operator was needed."""
    return {x.path for record in run.records for x in record.commands if isinstance(x, c.Halt)}
