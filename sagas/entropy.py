"""Random values that are the same on every replay."""

from __future__ import annotations

from uuid import UUID

from sagas.core.operations import Entropy

__all__ = ["uuid4"]


async def uuid4() -> UUID:
    """Gives a random UUID, the same on every replay."""
    return UUID(bytes=await Entropy(), version=4)
