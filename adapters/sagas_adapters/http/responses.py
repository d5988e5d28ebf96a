"""Responses that are kept by their idempotency keys, so that a repeated request gets the first one's."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from sagas_adapters.http.problems import Response

__all__ = ["MemoryResponses", "Responses", "Stored"]

# A response that is kept, that the first request is still at work, or that it was another one.
Stored = Response | Literal["running", "mismatch"]


class Responses(Protocol):
    """Keeps responses by key."""

    async def begin(self, key: str, fingerprint: bytes) -> Stored | None:
        """Reserves a key for a request, unless it came before.

        Args:
            key: Of the caller; whose it is, is part of it.
            fingerprint: Over all that has to be the same.

        Returns:
            ``None`` if the request is the first; it has to be answered, and ``finish`` or ``forget`` called.
        """
        ...

    async def finish(self, key: str, response: Response) -> None:
        """Keeps the response."""
        ...

    async def forget(self, key: str) -> None:
        """Frees a key whose request was not performed."""
        ...


@dataclass(slots=True)
class _Entry:
    """A request that came."""

    fingerprint: bytes
    began: float
    response: Response | None = None


class MemoryResponses:
    """Keeps responses in this process: another process, and the next one here, know nothing of them.

    Args:
        max_entries: The oldest give way beyond so many.
        max_age: Seconds for which each is kept.
        now: A clock that nobody sets, in seconds.
    """

    def __init__(
        self, *, max_entries: int = 10_000, max_age: float = 86_400.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._max_entries: Final = max_entries
        self._max_age: Final = max_age
        self._now = now

    def __len__(self) -> int:
        return len(self._entries)

    async def begin(self, key: str, fingerprint: bytes) -> Stored | None:
        """See ``Responses``."""
        self._expire()
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = _Entry(fingerprint, self._now())
            self._expire()
            return None
        if entry.fingerprint != fingerprint:
            return "mismatch"
        return entry.response or "running"

    async def finish(self, key: str, response: Response) -> None:
        """See ``Responses``."""
        if (entry := self._entries.get(key)) is not None:
            entry.response = response

    async def forget(self, key: str) -> None:
        """See ``Responses``."""
        self._entries.pop(key, None)

    def _expire(self) -> None:
        """Drops what is too old, or too much."""
        oldest = self._now() - self._max_age
        while self._entries and (
            len(self._entries) > self._max_entries or next(iter(self._entries.values())).began < oldest
        ):
            self._entries.popitem(last=False)
