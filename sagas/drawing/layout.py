"""Finds a place for every step of a saga: rows go down, what is side by side is side by side, undos are on the right.

A block has a spine, along which its steps stand; so it is as wide to the left of it as to the right as it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from sagas.drawing.tree import Fan, Fold, Leaf, Row
from sagas.drawing.words import undo_look_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.coordinator.views import StepView
    from sagas.drawing.tree import Block

__all__ = ["HEIGHT", "WIDTH", "Box", "Edge", "Layout", "arrange"]

WIDTH, HEIGHT = 176.0, 44.0
_UNDO_GAP, _COLUMN_GAP, _ROW_GAP = 34.0, 30.0, 34.0


@dataclass(frozen=True, slots=True)
class Box:
    """A box that is drawn.

    Attributes:
        x: Of its middle.
        y: Of its upper edge.
        step: What it is about; ``None`` for steps that are left out, and for the beginning and the end.
        undo: Whether it is the undo of the step.
        folded: How many steps are left out here.
    """

    x: float
    y: float
    step: StepView | None = None
    undo: bool = False
    folded: int = 0

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.y + HEIGHT

    @property
    def left(self) -> float:
        """Its left edge."""
        return self.x - WIDTH / 2

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.x + WIDTH / 2


class Edge(NamedTuple):
    """That one box leads to another: downwards, or back up from undo to undo; ``at``: how far down it goes first."""

    source: Box
    target: Box
    at: float


class Layout(NamedTuple):
    """See the module.

    Attributes:
        boxes: Steps and undos.
        forward: Edges from step to step.
        back: Edges from undo to undo.
        first: The boxes that nothing leads to.
        last: The boxes that lead to nothing.
        last_undos: The undos that lead to nothing.
        left: The left edge of it all, with the spine at 0.
        right: The right edge.
        bottom: The lower edge.
    """

    boxes: list[Box]
    forward: list[Edge]
    back: list[Edge]
    first: list[Box]
    last: list[Box]
    last_undos: list[Box]
    left: float
    right: float
    bottom: float


class _Size(NamedTuple):
    """How far a block reaches to the left and the right of its spine, and down."""

    left: float
    right: float
    height: float


class _Placed(NamedTuple):
    """The boxes by which a block is entered and left, and its undos likewise; the latter in the order of the steps."""

    first: list[Box]
    last: list[Box]
    first_undos: list[Box]
    last_undos: list[Box]
    bottom: float


def arrange(row: Row, top: float) -> Layout:
    """Places everything, with the spine at 0."""
    artist = _Artist()
    size = artist.size(row)
    placed = artist.place(row, 0.0, top)
    return Layout(
        artist.boxes, artist.forward, artist.back, placed.first, placed.last, placed.first_undos,
        -size.left, size.right, top + size.height,
    )  # fmt: skip


class _Artist:
    """Measures blocks, and places them."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.forward: list[Edge] = []
        self.back: list[Edge] = []

    def size(self, block: Block) -> _Size:
        """Measures a block."""
        if isinstance(block, Fan):
            sizes = [self.size(inner) for inner in block.blocks]
            wide = sum(x.left + x.right for x in sizes) + _COLUMN_GAP * (len(sizes) - 1)
            return _Size(wide / 2, wide / 2, max(x.height for x in sizes))
        if isinstance(block, Row):
            sizes = [self.size(inner) for inner in block.blocks] or [_Size(0.0, 0.0, -_ROW_GAP)]
            high = sum(x.height + _ROW_GAP for x in sizes) - _ROW_GAP
            return _Size(max(x.left for x in sizes), max(x.right for x in sizes), max(high, 0.0))
        undone = isinstance(block, Leaf) and undo_look_of(block.step) is not None
        return _Size(WIDTH / 2, WIDTH / 2 + (_UNDO_GAP + WIDTH if undone else 0.0), HEIGHT)

    def place(self, block: Block, spine: float, top: float) -> _Placed:
        """Places a block."""
        if isinstance(block, Fan):
            return self._place_fan(block, spine, top)
        if isinstance(block, Row):
            return self._place_row(block, spine, top)
        return self._place_leaf(block, spine, top)

    def _place_leaf(self, leaf: Leaf | Fold, spine: float, top: float) -> _Placed:
        """Places a step, and its undo beside it."""
        if isinstance(leaf, Fold):
            box = Box(spine, top, folded=leaf.steps)
            self.boxes.append(box)
            return _Placed([box], [box], [], [], box.bottom)
        box = Box(spine, top, leaf.step)
        self.boxes.append(box)
        undos: list[Box] = []
        if undo_look_of(leaf.step) is not None:
            undos = [Box(spine + WIDTH + _UNDO_GAP, top, leaf.step, undo=True)]
            self.boxes += undos
        return _Placed([box], [box], undos, undos, box.bottom)

    def _place_row(self, row: Row, spine: float, top: float) -> _Placed:
        """Places one thing below the other."""
        parts: list[_Placed] = []
        for block in row.blocks:
            part = self.place(block, spine, top)
            if parts:
                self.forward += [Edge(a, b, parts[-1].bottom) for a in parts[-1].last for b in part.first]
            parts.append(part)
            top = part.bottom + _ROW_GAP
        undone = [part for part in parts if part.first_undos]
        for later, earlier in zip(undone[:0:-1], undone[-2::-1], strict=True):
            # From what is undone last of the later ones to what is undone first of the earlier ones.
            self.back += [Edge(a, b, a.y) for a in later.first_undos for b in earlier.last_undos]
        if not parts:
            return _Placed([], [], [], [], top)
        first, last = (undone[0].first_undos, undone[-1].last_undos) if undone else ([], [])
        return _Placed(parts[0].first, parts[-1].last, first, last, parts[-1].bottom)

    def _place_fan(self, fan: Fan, spine: float, top: float) -> _Placed:
        """Places things side by side."""
        sizes = [self.size(inner) for inner in fan.blocks]
        left = spine - (sum(x.left + x.right for x in sizes) + _COLUMN_GAP * (len(sizes) - 1)) / 2
        parts: list[_Placed] = []
        for block, size in zip(fan.blocks, sizes, strict=True):
            parts.append(self.place(block, left + size.left, top))
            left += size.left + size.right + _COLUMN_GAP
        return _Placed(
            _all(x.first for x in parts), _all(x.last for x in parts),
            _all(x.first_undos for x in parts), _all(x.last_undos for x in parts), max(x.bottom for x in parts),
        )  # fmt: skip


def _all(lists: Iterable[list[Box]]) -> list[Box]:
    """Puts lists together."""
    return [box for some in lists for box in some]
