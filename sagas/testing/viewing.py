"""What a user says that counts of a world: called, copied and compared, with errors that name it."""

from __future__ import annotations

import traceback
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from sagas.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["View", "raised", "refuse_identity"]

_PLAIN = "plain values: numbers, text, tuples, lists, dicts or dataclasses"


class View:
    """See the module.

    Args:
        function: As ``check(view=…)`` takes it.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def show(self, world: Any) -> object:
        """Gives what counts of a world for the story, also in the middle of something, which it may not be made for."""
        try:
            return self._function(world)
        except Exception as error:  # noqa: BLE001 - it is told, and nothing else
            return f"view= raises {type(error).__name__}"

    def copied(self, world: Any, when: str) -> object:
        """Gives a copy of what counts of a world, which goes on changing.

        Args:
            world: The world.
            when: For people.

        Raises:
            RequestError: The function raises, or gives what cannot be copied.
        """
        try:
            seen = self._function(world)
        except Exception as error:
            raise RequestError(
                f"view= raised {raised(error)}, {when}; it has to give what counts of any world that a run may leave, "
                "so have it look for what may not be there"
            ) from error
        try:
            return _copy(seen)
        except Exception as error:
            raise RequestError(
                f"view= gave {seen!r}, which cannot be copied to compare it later ({error}); have it return {_PLAIN}"
            ) from error


# A copy of one of these would be the very same.
_IMMUTABLE = frozenset({bool, int, float, str, bytes, type(None)})


def _copy(seen: object) -> object:
    """Copies what a view gave; plain dictionaries, as most are, without the detours of ``deepcopy``."""
    kind: type[object] = type(seen)
    if kind in _IMMUTABLE:
        return seen
    if kind is dict:
        parts = cast("dict[object, object]", seen)
        if all(type(x) in _IMMUTABLE for x in parts.values()) and all(type(x) in _IMMUTABLE for x in parts):
            return dict(parts)
    return deepcopy(seen)


def refuse_identity(seen: object) -> None:
    """Refuses what differs from all others, and so from what it should be.

    Raises:
        RequestError: It is compared by identity.
    """
    if deepcopy(seen) != seen:
        raise RequestError(
            f"view= gave {seen!r}, which is not even equal to a copy of itself: its class has no __eq__, or it has a "
            f"NaN in it, so no two worlds could look the same; have it return {_PLAIN}"
        )


def raised(error: BaseException) -> str:
    """Says what was raised, and where."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} (at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name})" if frames else text
