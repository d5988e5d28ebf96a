"""The order in which steps are undone: the reverse of their causal order.

The paths of the steps span a tree of sequences and side-by-side branches. A sequence is undone from its end,
one item at a time; branches are undone side by side. So the undo of a step starts only when everything after it
is undone, and a branch that cannot go on holds up only what came before it (after Garcia-Molina and Salem,
"Sagas", 1987, extended to series-parallel order).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.core.paths import parse

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["UndoOrder"]


class _Node:
    """A place in the tree: a step, a sequence or a set of branches."""

    __slots__ = ("children", "left", "parent", "path", "side_by_side")

    def __init__(self, parent: _Node | None) -> None:
        self.parent = parent
        self.children: dict[int, _Node] = {}
        self.side_by_side = False
        self.left = 0
        self.path: str | None = None

    def ready(self) -> list[str]:
        """Lists the steps below that nothing else below has to precede."""
        if self.path is not None:
            return [self.path]
        open_children = {index: child for index, child in self.children.items() if child.left}
        if not open_children:
            return []
        if self.side_by_side:
            return [path for index in sorted(open_children) for path in open_children[index].ready()]
        return open_children[max(open_children)].ready()


class UndoOrder:
    """Which of some steps may be undone next.

    Args:
        paths: The steps to undo.
    """

    __slots__ = ("_leaves", "_root")

    def __init__(self, paths: Iterable[str]) -> None:
        self._root = _Node(None)
        self._leaves: dict[str, _Node] = {}
        for path in paths:
            self._insert(path)

    def _insert(self, path: str) -> None:
        """Adds a step to the tree."""
        node = self._root
        for side_by_side, index in parse(path):
            node.left += 1
            node.side_by_side = side_by_side
            node = node.children.setdefault(index, _Node(node))
        node.left += 1
        node.path = path
        self._leaves[path] = node

    @property
    def left(self) -> int:
        """How many steps are not undone yet."""
        return self._root.left

    def first(self) -> list[str]:
        """Lists the steps that can be undone at once."""
        return self._root.ready()

    def undone(self, path: str) -> list[str]:
        """Notes that a step is undone, and lists those whose turn it has become.

        Args:
            path: One of the given steps, not undone before.

        Returns:
            Paths; empty if other steps hold up the rest.
        """
        node: _Node | None = self._leaves.pop(path)
        stopped_at: _Node | None = None
        while node is not None:
            node.left -= 1
            if stopped_at is None and node.left:
                stopped_at = node
            node = node.parent
        # The lowest place with something left decides: a sequence goes on with what stands before; the other
        # branches of a set are on their way already.
        return [] if stopped_at is None or stopped_at.side_by_side else stopped_at.ready()
