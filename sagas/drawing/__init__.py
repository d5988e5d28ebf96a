"""Draws one saga: its own graph and its timeline as SVG, and its graph for a terminal. Takes views, and does no I/O."""

from sagas.drawing.gantt import as_gantt
from sagas.drawing.graph import as_graph
from sagas.drawing.style import STYLE
from sagas.drawing.text import as_text

__all__ = ["STYLE", "as_gantt", "as_graph", "as_text"]
