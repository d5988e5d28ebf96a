"""What may name steps, sagas and versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_continues", "check_name"]

_LONGEST = 200


def check_name(name: object, what: str) -> str:
    """Refuses names that journals, URLs or terminals would stumble over.

    Raises:
        DeclarationError: The name is empty, too long or not printable.
    """
    if not isinstance(name, str) or not name or len(name) > _LONGEST or not name.isprintable() or " " in name:
        raise DeclarationError(
            f"{name!r} cannot name a {what}: use 1 to {_LONGEST} printable characters without spaces"
        )
    return name


def check_continues(versions: object, where: str, own: str) -> tuple[str, ...]:
    """Refuses what does not name other versions.

    Args:
        versions: Of a saga.
        where: Which saga, for messages.
        own: The version that it is itself.

    Raises:
        DeclarationError: It is a single text, names this very version, or holds what cannot name one.
    """
    if not isinstance(versions, (tuple, list)):
        raise DeclarationError(f"{where}: continues={versions!r}; write a tuple of versions: continues=('1',)")
    names = tuple(check_name(version, f"version of {where}") for version in cast("Sequence[object]", versions))
    if own in names:
        raise DeclarationError(
            f"{where}: version {own!r} cannot continue itself; continues= names the versions before it"
        )
    return names
