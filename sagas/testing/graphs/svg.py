"""Draws a graph as SVG: by itself, for light and dark pages, without scripts or fonts from elsewhere."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from sagas.testing.graphs.curves import Labels, curves_of, path_of
from sagas.testing.graphs.layout import arrange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.testing.graphs.collect import Edge, Graph, Node
    from sagas.testing.graphs.layout import Box, Layout

__all__ = ["as_svg"]

_HEADER, _LEGEND = 64.0, 44.0
_THINNEST, _THICKEST = 1.2, 4.0
_STYLE = """
    :root { --page: #ffffff; --ink: #0f172a; --quiet: #64748b; --next: #2563eb; --failed: #dc2626; --doubt: #b45309;
      --undo: #7c3aed; --stuck: #b91c1c; --good: #15803d; --signal: #0f766e;
      --step-fill: #eff6ff; --signal-fill: #f0fdfa; --doubt-fill: #fffbeb;
      --undo-fill: #f5f3ff; --good-fill: #f0fdf4; --stuck-fill: #fef2f2; --start-fill: #f1f5f9; }
    @media (prefers-color-scheme: dark) {
      :root { --page: #0f172a; --ink: #f1f5f9; --quiet: #94a3b8; --next: #60a5fa; --failed: #f87171; --doubt: #fbbf24;
        --undo: #a78bfa; --stuck: #fb7185; --good: #4ade80; --signal: #2dd4bf;
        --step-fill: #172554; --signal-fill: #042f2e; --doubt-fill: #422006;
        --undo-fill: #2e1065; --good-fill: #052e16; --stuck-fill: #4c0519; --start-fill: #1e293b; }
    }
    .page { fill: var(--page); }
    text { font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink); }
    .title { font-size: 17px; font-weight: 600; } .about, .legend { font-size: 12px; fill: var(--quiet); }
    .name { font-size: 13px; font-weight: 500; text-anchor: middle; }
    .count { font-size: 10.5px; fill: var(--quiet); text-anchor: middle; }
    .label { font-size: 10.5px; text-anchor: middle; stroke: var(--page); stroke-width: 4px; paint-order: stroke;
      stroke-linejoin: round; }
    .box { stroke-width: 1.4; fill: var(--start-fill); stroke: var(--quiet); }
    .step .box { fill: var(--step-fill); stroke: var(--next); }
    .signal .box { fill: var(--signal-fill); stroke: var(--signal); }
    .doubt .box { fill: var(--doubt-fill); stroke: var(--doubt); stroke-dasharray: 4 3; }
    .undo .box, .compensated .box { fill: var(--undo-fill); stroke: var(--undo); }
    .completed .box { fill: var(--good-fill); stroke: var(--good); }
    .stuck .box { fill: var(--stuck-fill); stroke: var(--stuck); }
    .completed .box, .compensated .box, .stuck .box { stroke-width: 2.2; }
    .line { fill: none; } .head { stroke: none; }
    .line.next { stroke: var(--next); } .head.next, .label.next { fill: var(--next); }
    .line.failed { stroke: var(--failed); } .head.failed, .label.failed { fill: var(--failed); }
    .line.doubt { stroke: var(--doubt); stroke-dasharray: 5 4; } .head.doubt, .label.doubt { fill: var(--doubt); }
    .line.undo { stroke: var(--undo); } .head.undo, .label.undo { fill: var(--undo); }
    .line.stuck { stroke: var(--stuck); stroke-dasharray: 2 4; } .head.stuck, .label.stuck { fill: var(--stuck); }
"""
_MEANINGS = (
    ("next", "goes on"), ("failed", "failed"), ("doubt", "nobody knows whether it acted"), ("undo", "is undone"),
    ("stuck", "waits for an operator"),
)  # fmt: skip


def as_svg(graph: Graph) -> str:
    """Gives the document, with a newline at its end."""
    return "\n".join(_document(graph, arrange(graph))) + "\n"


def _document(graph: Graph, layout: Layout) -> Iterator[str]:
    """Writes the document."""
    used = {edge.kind for edge in graph.edges}
    legend = [(kind, text) for kind, text in _MEANINGS if kind in used]
    width = max(layout.width, 40 + sum(56 + 6.3 * len(text) for _, text in legend), 360)
    height = _HEADER + layout.height + _LEGEND
    about = f"{graph.runs} simulated runs; how many came by, and which share of all"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-labelledby="title about">'
    )
    yield f'  <title id="title">{escape(graph.saga)}</title>'
    yield f'  <desc id="about">{escape(about)}</desc>'
    yield f"  <style>{_STYLE}  </style>"
    for kind, _ in legend:
        yield (
            f'  <marker id="to-{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerUnits="userSpaceOnUse" '
            f'markerWidth="10" markerHeight="10" orient="auto"><path class="head {kind}" d="M0 1 10 5 0 9z"/></marker>'
        )
    yield '  <rect class="page" width="100%" height="100%"/>'
    yield f'  <text class="title" x="28" y="34">{escape(graph.saga)}</text>'
    yield f'  <text class="about" x="28" y="53">{escape(about)}</text>'
    yield f'  <g transform="translate({(width - layout.width) / 2:.1f} {_HEADER:.0f})">'
    labels = Labels(layout.boxes.values())
    for edge, line in layout.lines:
        yield from _edge(edge, line, graph.runs, labels)
    for node in graph.nodes:
        yield from _node(node, layout.boxes[node.id], graph.runs)
    yield from (f"    {x}" for x in labels.texts())
    yield "  </g>"
    yield from _explain(legend, height - 22)
    yield "</svg>"


def _node(node: Node, box: Box, runs: int) -> Iterator[str]:
    """Draws a node."""
    round_ = {"step": 8, "undo": 8}.get(node.kind, box.height / 2)
    yield f'    <g class="node {node.kind}" id="{node.id}">'
    yield f"      <title>{escape(node.text)}: {escape(node.share(runs))}</title>"
    yield (
        f'      <rect class="box" x="{box.x - box.width / 2:.1f}" y="{box.y - box.height / 2:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:.1f}" rx="{round_:.0f}"/>'
    )
    yield f'      <text class="name" x="{box.x:.1f}" y="{box.y - 1:.1f}">{escape(box.text)}</text>'
    yield f'      <text class="count" x="{box.x:.1f}" y="{box.y + 13:.1f}">{escape(node.share(runs))}</text>'
    yield "    </g>"


def _edge(edge: Edge, line: Sequence[Box], runs: int, labels: Labels) -> Iterator[str]:
    """Draws an edge; its label goes on top of everything."""
    curves = curves_of(line)
    width = _THINNEST + (_THICKEST - _THINNEST) * math.sqrt(edge.runs / max(runs, 1))
    yield (
        f'    <path class="line {edge.kind}" data-from={quoteattr(edge.source)} data-to={quoteattr(edge.target)} '
        f'd="{path_of(curves)}" stroke-width="{width:.2f}" marker-end="url(#to-{edge.kind})">'
        f"<title>{escape(edge.text(runs))}</title></path>"
    )
    labels.add(str(edge.runs), edge.kind, curves)


def _explain(legend: Sequence[tuple[str, str]], y: float) -> Iterator[str]:
    """Draws what the lines mean."""
    x = 28.0
    for kind, text in legend:
        yield (
            f'  <path class="line {kind}" d="M{x:.0f} {y - 4:.0f}h28" stroke-width="2" marker-end="url(#to-{kind})"/>'
            f'<text class="legend" x="{x + 36:.0f}" y="{y:.0f}">{escape(text)}</text>'
        )
        x += 56 + 6.3 * len(text)
