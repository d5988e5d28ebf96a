"""The curves along which edges are drawn, and places beside them for their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sagas.testing.graphs.layout import Box

__all__ = ["Curve", "Labels", "curves_of", "path_of"]

# How deep a line hangs that stays in its layer, and how far one reaches out that goes back to where it came from.
_SAG, _LOOP = 30.0, 36.0
_SIDE = 0.55
_LETTER, _LINE = 6.4, 13.0
_MIDDLE_FIRST = (0.5, 0.4, 0.6, 0.3, 0.7, 0.22, 0.78, 0.15, 0.85)
_IN_DOUBT = 1

Point = tuple[float, float]


class Curve(NamedTuple):
    """A cubic Bézier curve: where it begins, what bends it, and where it ends."""

    begin: Point
    first: Point
    second: Point
    end: Point

    def at(self, share: float) -> Point:
        """Gives the point after that share of it, from 0 to 1."""
        rest = 1 - share
        weights = (rest**3, 3 * rest * rest * share, 3 * rest * share * share, share**3)
        x, y = (sum(weight * point[axis] for weight, point in zip(weights, self, strict=True)) for axis in (0, 1))
        return x, y


def path_of(curves: Sequence[Curve]) -> str:
    """Writes curves that follow each other as SVG does."""
    begin = curves[0].begin
    rest = ("C" + " ".join(f"{x:.1f} {y:.1f}" for x, y in curve[1:]) for curve in curves)
    return " ".join([f"M{begin[0]:.1f} {begin[1]:.1f}", *rest])


def curves_of(line: Sequence[Box]) -> list[Curve]:
    """Draws a line through what it passes."""
    source, target = line[0], line[-1]
    if source is target:
        return [_loop(source)]
    if source.layer == target.layer:
        return [_hanging(source, target)]
    down = 1 if target.y > source.y else -1
    points = [(box.x, box.y) for box in line]
    right, left = source.x + source.width / 2, target.x - target.width / 2
    leaves_aside = source.zone == _IN_DOUBT < target.zone and points[1][0] > right
    enters_aside = target.zone == _IN_DOUBT > source.zone and points[-2][0] < left
    points[0] = (right, source.y) if leaves_aside else (source.x, source.y + down * source.height / 2)
    points[-1] = (left, target.y) if enters_aside else (target.x, target.y - down * target.height / 2)
    last = len(points) - 2
    return [
        _between(
            points[x], points[x + 1], leaves_aside=leaves_aside and x == 0, enters_aside=enters_aside and x == last
        )
        for x in range(last + 1)
    ]


def _between(begin: Point, end: Point, *, leaves_aside: bool, enters_aside: bool) -> Curve:
    """Draws a curve that leaves and enters upright, or sideways."""
    wide, high = end[0] - begin[0], end[1] - begin[1]
    first = (begin[0] + wide * _SIDE, begin[1]) if leaves_aside else (begin[0], begin[1] + high * 0.5)
    second = (end[0] - wide * _SIDE, end[1]) if enters_aside else (end[0], end[1] - high * 0.5)
    return Curve(begin, first, second, end)


def _hanging(source: Box, target: Box) -> Curve:
    """Draws a curve within a layer, beneath what is in between."""
    y = source.y + source.height / 2
    return Curve((source.x, y), (source.x, y + _SAG), (target.x, y + _SAG), (target.x, y))


def _loop(box: Box) -> Curve:
    """Draws a curve back to where it began."""
    x, y = box.x + box.width / 2, box.y
    return Curve((x, y - 8), (x + _LOOP, y - 20), (x + _LOOP, y + 20), (x, y + 8))


class Labels:
    """Finds a place for each label where it hides no other one, and no node.

    Args:
        boxes: The nodes.
    """

    def __init__(self, boxes: Iterable[Box]) -> None:
        self._taken = [(x.x, x.y, x.width, x.height) for x in boxes]
        self._texts: list[str] = []

    def add(self, text: str, kind: str, curves: Sequence[Curve]) -> None:
        """Places a label near the middle of a line; if there is no room anywhere, right there."""
        width = _LETTER * len(text) + 4
        places = [curve.at(share) for curve in _from_the_middle(curves) for share in _MIDDLE_FIRST]
        x, y = next((place for place in places if self._is_free(place, width)), places[0])
        self._taken.append((x, y, width, _LINE))
        self._texts.append(f'<text class="label {kind}" x="{x:.1f}" y="{y + 3.5:.1f}">{escape(text)}</text>')

    def texts(self) -> Iterator[str]:
        """Gives them as elements of SVG."""
        yield from self._texts

    def _is_free(self, place: Point, width: float) -> bool:
        """Says whether nothing is there."""
        return not any(
            abs(place[0] - x) * 2 < width + wide and abs(place[1] - y) * 2 < _LINE + high
            for x, y, wide, high in self._taken
        )


def _from_the_middle(curves: Sequence[Curve]) -> list[Curve]:
    """Sorts curves: first those in the middle of the line."""
    middle = (len(curves) - 1) / 2
    return [curves[x] for x in sorted(range(len(curves)), key=lambda x: abs(x - middle))]
