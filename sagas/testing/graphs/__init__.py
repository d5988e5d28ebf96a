"""The graph of all the ways that a saga took in simulated runs, and how often, as SVG, Mermaid and DOT."""

from sagas.testing.graphs.collect import Collector, Edge, Graph, Node
from sagas.testing.graphs.dot import as_dot
from sagas.testing.graphs.mermaid import as_mermaid
from sagas.testing.graphs.svg import as_svg

__all__ = ["Collector", "Edge", "Graph", "Node", "as_dot", "as_mermaid", "as_svg"]
