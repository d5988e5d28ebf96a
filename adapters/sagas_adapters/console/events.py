"""Tells browsers when what they show has changed, by server-sent events."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

import anyio

from sagas.errors import SagaError

__all__ = ["MEDIA_TYPE", "Changes", "fingerprint"]

MEDIA_TYPE: Final = "text/event-stream"
# Seconds. Then it ends and the browser connects again, so that nobody looks on for long who may not any more.
_LONGEST: Final = 300.0
# Seconds after which something is sent even if nothing has changed, so that proxies keep the connection.
_BEAT: Final = 15.0
# How many different pages may be followed at once.
_MOST: Final = 1000

_Load = Callable[[], Awaitable[object]]


class _Followed:
    """Something that is looked at again and again, as often for many as for one."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.looked_at = float("-inf")
        self.mark = ""
        self.followers = 0


class Changes:
    """Looks at pages for those who follow them.

    Args:
        pause: Seconds between two looks at the same page.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._followed: dict[str, _Followed] = {}

    async def follow(self, key: str, seen: str, load: _Load) -> AsyncGenerator[str]:
        """Gives the events for a browser.

        Args:
            key: What is followed; the same for all who see the same.
            seen: Mark of what the browser shows.
            load: Reads what the page shows.
        """
        followed = self._followed.setdefault(key, _Followed())
        followed.followers += 1
        try:
            yield f"retry: {int(self._pause * 1000)}\n\n"
            async with aclosing(self._events(followed, seen, load)) as events:
                async for event in events:
                    yield event
        finally:
            followed.followers -= 1
            if not followed.followers:
                self._followed.pop(key, None)

    @property
    def is_full(self) -> bool:
        """Whether nothing more can be followed."""
        return len(self._followed) >= _MOST

    async def _events(self, followed: _Followed, seen: str, load: _Load) -> AsyncGenerator[str]:
        """Gives the events; what cannot be read now may be read later."""
        began = sent = anyio.current_time()
        while (now := anyio.current_time()) - began < _LONGEST:
            mark = await self._look(followed, load)
            if mark != seen:
                seen, sent = mark, now
                yield f"event: changed\ndata: {mark}\n\n"
            elif now - sent >= _BEAT:
                sent = now
                yield ": still here\n\n"
            await anyio.sleep(self._pause)

    async def _look(self, followed: _Followed, load: _Load) -> str:
        """Gives the mark of what there is now, or was a moment ago."""
        async with followed.lock:
            if anyio.current_time() - followed.looked_at >= self._pause / 2:
                followed.mark = fingerprint(await _read(load))
                followed.looked_at = anyio.current_time()
        return followed.mark


async def _read(load: _Load) -> object:
    """Reads what a page shows; that it cannot be read now is something to show, too."""
    try:
        return await load()
    except SagaError as error:
        return str(error)


def fingerprint(told: object) -> str:
    """Gives a mark of what a page shows."""
    return hashlib.blake2b(repr(told).encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
