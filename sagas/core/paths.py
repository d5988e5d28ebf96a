"""Where an operation stands in its saga, and what follows from that.

A path is a string such as ``2``, ``3:0.1`` or ``4.2``. ``.`` leads into a sequence (the body, a scope, a child
saga), ``:`` into one of several branches that run side by side (``gather``, ``map_each``, ``race``). So the
series-parallel order of a saga can be read off its paths alone, and a rollback needs no code of the body.
"""

from __future__ import annotations

import re

__all__ = ["follows", "is_within", "parse"]

_COMPONENT = re.compile(r"([.:]?)(\d+)")


def parse(path: str) -> tuple[tuple[bool, int], ...]:
    """Splits a path into components ``(side_by_side, index)``.

    Args:
        path: For example ``3:0.1``.

    Returns:
        For example ``((False, 3), (True, 0), (False, 1))``.

    Raises:
        ValueError: The text is not a path.
    """
    parts: list[tuple[bool, int]] = []
    position = 0
    while position < len(path):
        match = _COMPONENT.match(path, position)
        if match is None or (not match[1] and position):
            raise ValueError(f"{path!r} is not a path")
        parts.append((match[1] == ":", int(match[2])))
        position = match.end()
    return tuple(parts)


def follows(later: str, earlier: str) -> bool:
    """Says whether one step causally follows another.

    Steps in different branches of the same ``gather``, ``map_each`` or ``race`` follow neither way.
    """
    for (side_by_side, left), (_, right) in zip(parse(later), parse(earlier), strict=False):
        if left != right:
            return not side_by_side and left > right
    return False


def is_within(path: str, place: str) -> bool:
    """Says whether a path lies at or below a place (``""`` is the whole saga)."""
    if not place:
        return True
    return path == place or (path.startswith(place) and path[len(place)] in ".:")
