"""Tells browsers when what they show has changed, by server-sent events."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final

import anyio

from sagas.errors import SagaError
from sagas_adapters.console.forms import Refusal

__all__ = ["Changes", "Stream", "fingerprint"]

logger = logging.getLogger("sagas.console")

_MEDIA_TYPE: Final = "text/event-stream"
# Seconds. Then it ends and the browser connects again, so that nobody looks on for long who may not any more.
_LONGEST: Final = 300.0
# Seconds after which something is sent even if nothing has changed, so that proxies keep the connection.
_BEAT: Final = 15.0
# How many streams there may be at once: for one visitor, who may be several with one token, and for all.
_MOST_EACH: Final = 100
_MOST: Final = 1000

_Load = Callable[[], Awaitable[object]]


class _Followed:
    """Something that is looked at again and again, as often for many as for one."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.looked_at = float("-inf")
        self.mark = ""
        self.followers = 0


class Stream:
    """An ASGI response of events.

    Args:
        events: That are sent.
        leave: Called once nothing more is.
    """

    def __init__(self, events: AsyncGenerator[str], leave: Callable[[], None]) -> None:
        self._events = events
        self._leave = leave

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        from starlette.responses import StreamingResponse

        try:
            async with aclosing(self._events) as events:
                headers = {"X-Accel-Buffering": "no"}
                await StreamingResponse(events, media_type=_MEDIA_TYPE, headers=headers)(scope, receive, send)
        finally:
            self._leave()


class Changes:
    """Looks at pages for those who follow them.

    Args:
        pause: Seconds between two looks at the same page.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._followed: dict[str, _Followed] = {}
        self._streams: Counter[str] = Counter()

    async def open(self, whose: str, key: str, seen: str, load: _Load) -> Stream:
        """Begins to follow a page.

        Args:
            whose: Who follows it.
            key: What is followed; the same for all who see the same.
            seen: Mark of what the browser shows.
            load: Reads what the page shows.

        Raises:
            Refusal: Too much is followed, or the page itself refuses.
        """
        self._refuse_more(whose)
        self._streams[whose] += 1
        followed = self._followed.setdefault(key, _Followed())
        followed.followers += 1
        leave = partial(self._leave, whose, key)
        try:
            await self._look(followed, load)
        except BaseException:
            leave()
            raise
        return Stream(self._events(followed, seen, load), leave)

    def _refuse_more(self, whose: str) -> None:
        """Refuses one stream too many.

        Raises:
            Refusal: It is.
        """
        if self._streams[whose] >= _MOST_EACH:
            text = f"You follow {_MOST_EACH} pages of this console already. Close some, or load this one by hand."
            raise Refusal(429, "These are too many pages", text)
        if self._streams.total() >= _MOST:
            raise Refusal(503, "Too many look on", "Close some of the pages of this console, or load this one by hand.")

    def _leave(self, whose: str, key: str) -> None:
        """Ends one stream."""
        self._streams[whose] -= 1
        self._followed[key].followers -= 1
        if not self._streams[whose]:
            del self._streams[whose]
        if not self._followed[key].followers:
            del self._followed[key]

    async def _events(self, followed: _Followed, seen: str, load: _Load) -> AsyncGenerator[str]:
        """Gives the events for a browser; what cannot be read now may be read later."""
        yield f"retry: {int(self._pause * 1000)}\n\n"
        began = sent = anyio.current_time()
        while (now := anyio.current_time()) - began < _LONGEST:
            try:
                mark = await self._look(followed, load)
            except Exception as error:  # the response has begun, and can only end; whoever loads the page is told
                if not isinstance(error, Refusal):
                    logger.exception("a page of the console cannot be followed any more")
                yield _changed(type(error).__name__)
                return
            if mark != seen:
                seen, sent = mark, now
                yield _changed(mark)
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


def _changed(mark: str) -> str:
    """Writes the event that a page has something else to show."""
    return f"event: changed\ndata: {mark}\n\n"


async def _read(load: _Load) -> object:
    """Reads what a page shows; that it cannot be read now is something to show, too."""
    try:
        return await load()
    except SagaError as error:
        return str(error)


def fingerprint(told: object) -> str:
    """Gives a mark of what a page shows."""
    return hashlib.blake2b(repr(told).encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
