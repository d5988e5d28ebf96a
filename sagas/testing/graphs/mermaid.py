"""Writes a graph as a flowchart of Mermaid, which code hosts and wikis draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.testing.graphs.collect import Graph

__all__ = ["as_mermaid"]

_SHAPES = {
    "start": "((%s))",
    "step": "[%s]",
    "signal": "[/%s\\]",
    "doubt": "{{%s}}",
    "undo": "[/%s/]",
    "completed": "([%s])",
    "compensated": "([%s])",
    "stuck": "([%s])",
}
_ARROWS = {"next": "-->", "failed": "-->", "doubt": "-.->", "undo": "==>", "stuck": "-.->"}
_STYLES = {
    "start": "fill:#e2e8f0,stroke:#475569,color:#0f172a",
    "step": "fill:#e0edff,stroke:#2563eb,color:#0f172a",
    "signal": "fill:#ccfbf1,stroke:#0f766e,color:#0f172a",
    "doubt": "fill:#fef3c7,stroke:#b45309,color:#0f172a,stroke-dasharray:4 3",
    "undo": "fill:#f1e8ff,stroke:#7c3aed,color:#0f172a",
    "completed": "fill:#dcfce7,stroke:#15803d,color:#0f172a",
    "compensated": "fill:#f1e8ff,stroke:#7c3aed,color:#0f172a",
    "stuck": "fill:#fee2e2,stroke:#b91c1c,color:#0f172a",
}


def as_mermaid(graph: Graph) -> str:
    """Gives the text of the flowchart, with a newline at its end."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    """Writes the lines."""
    yield f"%% {_plain(graph.saga)}: {graph.runs} simulated runs"
    yield "flowchart TD"
    for node in graph.nodes:
        yield f"  {node.id}{_SHAPES[node.kind] % _quoted(node.text)}:::{node.kind}"
    for edge in graph.edges:
        yield f"  {edge.source} {_ARROWS[edge.kind]}|{_quoted(edge.text(graph.runs))}| {edge.target}"
    for kind in dict.fromkeys(node.kind for node in graph.nodes):
        yield f"  classDef {kind} {_STYLES[kind]}"
    failed = [str(number) for number, edge in enumerate(graph.edges) if edge.kind in ("failed", "stuck")]
    if failed:
        yield f"  linkStyle {','.join(failed)} stroke:#dc2626"


def _quoted(text: str) -> str:
    """Puts a text in quotes; Mermaid has codes like those of HTML for what means something to it."""
    codes = {"&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "#": "#35;", "`": "#96;", ";": "#59;"}
    return '"' + "".join(codes.get(letter, letter) for letter in _plain(text)) + '"'


def _plain(text: str) -> str:
    """Puts a text on one line."""
    return " ".join(text.split())
