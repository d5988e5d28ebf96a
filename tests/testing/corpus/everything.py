"""All of the corpus."""

from __future__ import annotations

from tests.testing.corpus.right import orders, tables, waiting
from tests.testing.corpus.wrong import bodies, branches, children, doubt, keys, order, people, pivots, read

__all__ = ["FOUND", "READ", "RIGHT"]

FOUND = [
    case
    for module in (keys, doubt, order, bodies, pivots, branches, people, children)
    for case in module.CASES
]  # fmt: skip
READ = read.CASES
RIGHT = [case for module in (orders, waiting, tables) for case in module.CASES]
