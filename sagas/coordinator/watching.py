"""Tells those who wait for a saga's end that it came, across processes.

Whoever waits says ``watch:SAGA``, reads how the saga stands, and waits for ``done:SAGA``. A coordinator remembers
what is watched, and says ``done`` when such a saga has ended or is stuck, which is after that is durable. The two may
cross, so it says so too when it hears of a watch only after a recent end. One that begins to listen asks ``who``
waits. What is said may be lost, or heard by nobody: so everybody who waits also looks from time to time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import anyio
from anyio import CapacityLimiter, to_thread

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from sagas.stores.port import Store

__all__ = ["Waiter", "Watching"]

logger = logging.getLogger("sagas.coordinator")

# How many sagas are remembered that others watch, and as many that ended of late: some seconds' worth.
_REMEMBERED = 10_000
_SETTLED = ("completed", "compensated", "stuck")
# Seconds between the first two looks at a saga where ends are not announced; each pause doubles the one before.
_FIRST_PAUSE = 0.02
# Where they are, looks are so many times as rare.
_CALM = 5


class Watching:
    """See the module.

    Args:
        store: Through which processes tell each other.
        poll: The longest pause between two looks where ends are not announced, in seconds.
        tells: Whether sagas end here, so that others have to be told.
    """

    def __init__(self, store: Store, *, poll: float = 1.0, tells: bool = True) -> None:
        self._store = store
        self._poll = poll
        self._tells = tells
        self._hearing = False
        self._closed = False
        self._waiters: dict[str, set[Waiter]] = {}
        self._watched: OrderedDict[str, None] = OrderedDict()
        self._recent: OrderedDict[str, None] = OrderedDict()
        self._outbox: dict[str, None] = {}
        self._wake: anyio.Event | None = None
        self._mouth = CapacityLimiter(1)
        self.wanted = anyio.Event()

    # --- telling others -----------------------------------------------------------------------------------------

    def tell(self, message: str) -> None:
        """Announces something soon, with whatever else there is to say by then."""
        if self._store.announces:
            self._outbox[message] = None
            if self._wake is not None:
                self._wake.set()

    async def run(self) -> None:
        """Announces, for ever."""
        while True:
            while self._outbox:
                messages, self._outbox = list(self._outbox), {}
                await self._announce(messages)
            self._wake = anyio.Event()
            await self._wake.wait()
            self._wake = None

    async def _announce(self, messages: Sequence[str]) -> None:
        """Announces; nothing depends on it."""
        try:
            await to_thread.run_sync(self._store.announce, messages, limiter=self._mouth, abandon_on_cancel=True)
        except Exception as error:
            logger.info("other processes were not told, and will look by themselves: %s", error)

    def changed(self, saga_id: str, status: str) -> None:
        """Notes how a saga stands by what is durable, and tells those who wait for its end if that is it."""
        if status not in _SETTLED:
            self._recent.pop(saga_id, None)
            return
        self._rouse(saga_id)
        if saga_id in self._watched:
            del self._watched[saga_id]
            self.tell(f"done:{saga_id}")
        elif self._hearing:
            _remember(self._recent, saga_id)

    # --- hearing others -----------------------------------------------------------------------------------------

    def hear(self, messages: Sequence[str] | None) -> None:
        """Takes what others announce; ``None`` while they cannot be heard, or nobody listens any more."""
        hearing = messages is not None
        if hearing is not self._hearing:
            self._hearing = hearing
            self._watched.clear()
            self._recent.clear()
            self._look_again()
            if hearing and self._tells:
                self.tell("who")
        for message in messages or ():
            kind, _, saga_id = message.partition(":")
            if kind == "watch" and self._tells:
                self._watch(saga_id)
            elif kind == "who":
                for waited in self._waiters:
                    self.tell(f"watch:{waited}")
            elif kind == "done":
                self._watched.pop(saga_id, None)
                self._rouse(saga_id)

    def _watch(self, saga_id: str) -> None:
        """Remembers that somebody waits; or tells them, once, since everybody who waits hears it."""
        if saga_id in self._recent:
            del self._recent[saga_id]
            self.tell(f"done:{saga_id}")
        else:
            _remember(self._watched, saga_id)

    def _rouse(self, saga_id: str) -> None:
        """Has those who wait for a saga look again."""
        for waiter in self._waiters.get(saga_id, ()):
            waiter.rouse()

    def _look_again(self) -> None:
        """Has everybody who waits look, and say again that they wait: something may have been missed."""
        for saga_id in self._waiters:
            self._rouse(saga_id)

    def close(self) -> None:
        """Lets nobody wait any more."""
        self._closed = True
        self._look_again()

    # --- waiting ------------------------------------------------------------------------------------------------

    def wait_for(self, saga_id: str) -> Waiter:
        """Waits for a saga: ``with watching.wait_for(saga_id) as waiter: …``."""
        return Waiter(self, saga_id)

    def enter(self, waiter: Waiter) -> None:
        """Notes that somebody waits here."""
        self._waiters.setdefault(waiter.saga_id, set()).add(waiter)
        self.wanted.set()

    def leave(self, waiter: Waiter) -> None:
        """Notes that somebody waits no more."""
        waiters = self._waiters[waiter.saga_id]
        waiters.discard(waiter)
        if not waiters:
            del self._waiters[waiter.saga_id]

    def pause(self, looks: int) -> float:
        """Says how long to wait before the next look, in seconds, after so many."""
        if self._closed:
            return 0.0
        if self._hearing:
            return _CALM * self._poll
        return min(_FIRST_PAUSE * float(2 ** min(looks, 40)), self._poll)


class Waiter:
    """Somebody who waits for a saga's end.

    Args:
        watching: Where.
        saga_id: For which.
    """

    __slots__ = ("_looks", "_news", "_watching", "saga_id")

    def __init__(self, watching: Watching, saga_id: str) -> None:
        self._watching = watching
        self._news = anyio.Event()
        self._looks = 0
        self.saga_id = saga_id

    def __enter__(self) -> Self:
        self._watching.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.leave(self)

    def ask(self) -> None:
        """Asks to be told; what is told from now on ends the next ``news``."""
        self._news = anyio.Event()
        self._watching.tell(f"watch:{self.saga_id}")

    def rouse(self) -> None:
        """Has it look again."""
        self._news.set()

    async def news(self) -> None:
        """Waits until there is a reason to look again."""
        with anyio.move_on_after(self._watching.pause(self._looks)):
            await self._news.wait()
        self._looks += 1


def _remember(known: OrderedDict[str, None], saga_id: str) -> None:
    """Remembers an id as the newest, and forgets the oldest if they are too many."""
    known[saga_id] = None
    known.move_to_end(saga_id)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)
