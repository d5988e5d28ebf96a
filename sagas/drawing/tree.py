"""The shape of what a saga did, read off its paths: steps in a row, and rows side by side.

However long a saga is, its drawing is not: of very many steps, those stay that tell something.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from sagas.core.paths import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sagas.coordinator.views import SagaView, StepView

__all__ = ["Block", "Fan", "Fold", "Leaf", "Row", "leaves", "tree_of"]

# So many stay of what is in a row, and of what is side by side: fewer, the deeper within others.
_LONGEST_ROW = 60
_WIDEST_FAN = (8, 4, 3)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A step."""

    step: StepView

    @property
    def notable(self) -> bool:
        """Whether it tells more than that it did what it should."""
        return self.step.state != "succeeded"


@dataclass(frozen=True, slots=True)
class Fold:
    """Steps that are not drawn, since there are very many.

    Attributes:
        steps: How many.
    """

    steps: int
    notable: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One thing after the other."""

    blocks: tuple[Block, ...]

    @property
    def notable(self) -> bool:
        """See ``Leaf``."""
        return any(block.notable for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Fan:
    """Things side by side."""

    blocks: tuple[Block, ...]

    @property
    def notable(self) -> bool:
        """See ``Leaf``."""
        return any(block.notable for block in self.blocks)


Block: TypeAlias = Leaf | Fold | Row | Fan


@dataclass(slots=True)
class _Place:
    """A place in the body: a step, and what is within it, in a row or side by side."""

    step: StepView | None = None
    row: dict[int, _Place] = field(default_factory=dict[int, "_Place"])
    fan: dict[int, _Place] = field(default_factory=dict[int, "_Place"])


def tree_of(view: SagaView) -> Row:
    """Gives the shape of a saga; a row without anything if it called no steps."""
    root = _Place()
    for step in view.steps:
        place = root
        for side_by_side, index in parse(step.path):
            place = (place.fan if side_by_side else place.row).setdefault(index, _Place())
        place.step = step
    block = _block(root, 0)
    return block if isinstance(block, Row) else Row((block,))


def _block(place: _Place, depth: int) -> Block:
    """Gives the shape of a place."""
    own: list[Block] = [] if place.step is None else [Leaf(place.step)]
    fan = [_block(inner, depth + 1) for _, inner in sorted(place.fan.items())]
    if fan:
        widest = _WIDEST_FAN[min(depth, len(_WIDEST_FAN)) - 1] if depth else _WIDEST_FAN[0]
        own.append(Fan(tuple(_folded(fan, widest))) if len(fan) > 1 else fan[0])
    row = [_block(inner, depth) for _, inner in sorted(place.row.items())]
    own += _folded(_flat(row), _LONGEST_ROW)
    return own[0] if len(own) == 1 else Row(tuple(own))


def _flat(blocks: Iterable[Block]) -> list[Block]:
    """Puts rows that are in a row into that row."""
    return [inner for block in blocks for inner in (block.blocks if isinstance(block, Row) else (block,))]


def _folded(blocks: Sequence[Block], most: int) -> list[Block]:
    """Leaves out of very many what tells least; what is left out together is one."""
    if len(blocks) <= most:
        return list(blocks)
    room = most - 2
    ends = {*range(room // 4), len(blocks) - 1}
    told = [number for number, block in enumerate(blocks) if block.notable and number not in ends]
    kept = ends | set(told[: room - len(ends)])
    for number in range(len(blocks)):
        if len(kept) >= room // 2:
            break
        kept.add(number)
    return list(_with_folds(blocks, kept))


def _with_folds(blocks: Sequence[Block], kept: set[int]) -> Iterator[Block]:
    """Puts what is left out together into one."""
    left_out = 0
    for number, block in enumerate(blocks):
        if number not in kept:
            left_out += sum(_count(x) for x in leaves(block))
            continue
        if left_out:
            yield Fold(left_out)
            left_out = 0
        yield block
    if left_out:
        yield Fold(left_out)


def _count(leaf: Leaf | Fold) -> int:
    """Says how many steps these are."""
    return leaf.steps if isinstance(leaf, Fold) else 1


def leaves(block: Block) -> Iterator[Leaf | Fold]:
    """Lists what is not made of other things, in order."""
    if isinstance(block, (Leaf, Fold)):
        yield block
        return
    for inner in block.blocks:
        yield from leaves(inner)
