"""What may be a name."""

from __future__ import annotations

from sagas.errors import DeclarationError

__all__ = ["check_name"]

_LONGEST_NAME = 200


def check_name(name: object, what: str) -> str:
    """Refuses names that journals, URLs or terminals would stumble over.

    Raises:
        DeclarationError: The name is empty, too long or not printable.
    """
    if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME or not name.isprintable() or " " in name:
        raise DeclarationError(
            f"{name!r} cannot name a {what}: use 1 to {_LONGEST_NAME} printable characters without spaces"
        )
    return name
