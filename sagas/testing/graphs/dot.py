"""Writes a graph in DOT, the language of Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.testing.graphs.collect import Graph

__all__ = ["as_dot"]

_NODES = {
    "start": 'shape=circle, fillcolor="#e2e8f0", color="#475569"',
    "step": 'shape=box, style="rounded,filled", fillcolor="#e0edff", color="#2563eb"',
    "signal": 'shape=cds, fillcolor="#ccfbf1", color="#0f766e"',
    "doubt": 'shape=hexagon, style="filled,dashed", fillcolor="#fef3c7", color="#b45309"',
    "undo": 'shape=box, style="rounded,filled", fillcolor="#f1e8ff", color="#7c3aed"',
    "completed": 'shape=box, style="rounded,filled,bold", fillcolor="#dcfce7", color="#15803d"',
    "compensated": 'shape=box, style="rounded,filled,bold", fillcolor="#f1e8ff", color="#7c3aed"',
    "stuck": 'shape=box, style="rounded,filled,bold", fillcolor="#fee2e2", color="#b91c1c"',
}
_EDGES = {
    "next": 'color="#2563eb"',
    "failed": 'color="#dc2626"',
    "doubt": 'color="#b45309", style=dashed',
    "undo": 'color="#7c3aed"',
    "stuck": 'color="#b91c1c", style=dashed',
}
_THICKEST = 3.0


def as_dot(graph: Graph) -> str:
    """Gives the text, with a newline at its end."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    """Writes the lines."""
    yield f"digraph {_quoted(graph.saga)} {{"
    yield f"  label={_quoted(f'{graph.saga}: {graph.runs} simulated runs')}; labelloc=t; rankdir=TB;"
    yield '  node [style=filled, fontname="sans-serif"]; edge [fontname="sans-serif", fontsize=10];'
    for node in graph.nodes:
        yield f"  {node.id} [label={_quoted(node.text)}, {_NODES[node.kind]}];"
    for edge in graph.edges:
        width = 1 + (_THICKEST - 1) * edge.runs / max(graph.runs, 1)
        label = _quoted(edge.text(graph.runs))
        yield f"  {edge.source} -> {edge.target} [label={label}, penwidth={width:.2f}, {_EDGES[edge.kind]}];"
    yield "}"


def _quoted(text: str) -> str:
    """Puts a text in quotes."""
    plain = " ".join(text.split())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
