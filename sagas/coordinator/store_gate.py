"""A limit that holds across processes, as one of them sees it.

The demand of all attempts that wait here is pooled: one request for as many permits or tokens as they want together.
Permits are kept while there is demand, so that an attempt usually costs no request at all. They are given back when
nothing was to do for a moment, and what is more than this process's share, when others wait. Tokens are drawn for
those who wait, and, while there are plenty, for those who are likely to come within the next moment; more of them
before those at hand are used up, so that nobody waits for a request.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from sagas.coordinator.gates import Gate
from sagas.errors import StoreUnavailable
from sagas.stores.port import Holding

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.coordinator.clock import Clock
    from sagas.core.limits import Limit
    from sagas.stores.port import Drawn, Store

__all__ = ["Counter", "StoreGate"]

logger = logging.getLogger("sagas.coordinator")

# Seconds.
_FIRST_PAUSE, _LEAST_PAUSE, _LINGER, _TROUBLE, _LONGEST = 0.01, 0.005, 0.02, 1.0, 30.0
# For how long tokens that were drawn may be used. Twice that, if more were drawn meanwhile: so much later than its
# token allows may an attempt begin.
_KEEPS = 0.05
_ALL = 1 << 30


class Counter(Protocol):
    """Where permits and tokens come from: the engine."""

    owner: str
    store: Store

    async def in_thread(self, function: Callable[..., Any], *args: object) -> Any:
        """Calls the store."""
        ...


class StoreGate(Gate):
    """See the module. All times but those for the store are of the monotonic clock.

    Args:
        name: Of the limit, in the store.
        limit: What was declared.
        clock: For the store's methods.
        counter: Where permits and tokens come from.
        turn: Seconds after which it looks whether others wait, and after which a permit that others wait for, and of
            which there are too few for each to have one, goes round.
    """

    def __init__(self, name: str, limit: Limit, clock: Clock, counter: Counter, turn: float) -> None:
        super().__init__(limit, clock)
        self._name = name
        self._counter = counter
        self._turn = turn
        self._places = self._held = 0 if limit.concurrency is not None else _ALL
        self._share = _ALL
        self._ceiling = _ALL
        self._starving = False
        self._resting = False
        # Those at hand, at how few of them to draw more, how many were used since then, and until when they may be.
        self._tokens = self._used = 0
        self._low = -1
        self._keeps_until = 0.0
        # The most that were inside at once since the last look, and whether anybody was since idling began.
        self._peak = 0
        self._busy = False
        self._pause = _FIRST_PAUSE
        self._held_since = self._ask_at = self._look_at = self._draw_at = self._drawn_at = 0.0
        self._idle_since: float | None = None

    def heard(self) -> None:
        """Called when another process has given something back."""
        self._ask_at = 0.0
        self._pause = _FIRST_PAUSE
        self.stir()

    def recounted(self, held: int) -> None:
        """Called after this process's lease had lapsed, with how many permits nobody took meanwhile."""
        if self.limit.concurrency is not None:
            self._held = held
            self._resting = self._resting and held > 0
            self._recompute()
            self.stir()

    # --- letting in ---------------------------------------------------------------------------------------------

    def _is_open(self) -> bool:
        """See ``Gate``."""
        if self.inside >= self._places:
            return False
        return self.limit.rate is None or (self._tokens > 0 and anyio.current_time() < self._keeps_until)

    def _draw(self, tokens: int) -> None:
        """See ``Gate``."""
        if self.limit.rate is not None:
            self._tokens -= tokens
            self._used += tokens
            if self._tokens == self._low:
                self.stir()
        self._busy = True
        self._peak = max(self._peak, self.inside)

    def leave(self) -> None:
        """See ``Gate``."""
        super().leave()
        idles = not self.inside and self._idle_since is None and self.limit.concurrency is not None
        if idles or self._resting or self._held > self._share:
            self.stir()

    def _recompute(self) -> None:
        """Says anew how many attempts may run."""
        self._places = 0 if self._resting else min(self._held, self._share, self._ceiling)
        self._let_in()

    async def run(self) -> None:
        """See ``Gate``."""
        pause: float | None = None
        while True:
            await self._rest(pause)
            try:
                pauses = [*await self._see_to_permits(), *await self._see_to_tokens()]
                if self._line.length:
                    pauses.append(_LONGEST)
                pause = min(pauses) if pauses else None
            except Exception as error:
                told = logger.warning if isinstance(error, StoreUnavailable) else logger.exception
                told("the limit %r cannot be counted now; trying again: %s", self._name, error)
                pause = _TROUBLE

    # --- permits ------------------------------------------------------------------------------------------------

    async def _see_to_permits(self) -> list[float]:
        """Takes permits that are needed, and gives back what is not; says when to look again."""
        slots = self.limit.concurrency
        if slots is None:
            return []
        now = anyio.current_time()
        self._take_turns(now)
        need = min(slots, self.inside + self._line.length)
        want = self._wanted(need, now)
        if want is not None:
            await self._ask(slots, want)
            now = anyio.current_time()
            need = min(slots, self.inside + self._line.length)
        pauses = [self._look_at - now] if self._held else []
        if need > self._held and not self._resting:
            pauses.append(self._ask_at - now)
        if self._idle_since is not None:
            pauses.append(_LINGER)
        return pauses

    def _wanted(self, need: int, now: float) -> int | None:
        """Says how many permits to ask for now; ``None``: there is nothing to ask."""
        if self._resting:
            return self.inside if self._held > self.inside else None
        if self._held > max(self.inside, self._share):
            return need
        if need > self._held:
            return need if now >= self._ask_at else None
        if self._has_idled(now):
            return 0
        return max(need, self._peak) if self._held and now >= self._look_at else None

    def _take_turns(self, now: float) -> None:
        """Lets others have what there is not enough of for each to have one: gives it back, and asks anew."""
        if self._starving and self._share <= 1 and self._held and now >= self._held_since + self._turn:
            self._resting = True
            self._recompute()

    def _has_idled(self, now: float) -> bool:
        """Says whether nothing was to do for a moment."""
        if self.inside or self._line.length or not self._held:
            self._idle_since = None
            return False
        if self._busy or self._idle_since is None:
            self._busy = False
            self._idle_since = now
        return now >= self._idle_since + _LINGER

    async def _ask(self, slots: int, want: int) -> None:
        """Asks for a number of permits."""
        before, used = self._held, self.inside
        self._ceiling = used  # whoever came in meanwhile could be using what is given back
        self._recompute()
        try:
            holding = await self._hold(slots, used, want)
        except BaseException:
            # The rest may have been given back all the same. And others may believe that this process is dead, so
            # nothing begins before the store has answered.
            self._take_in(Holding(min(before, used), self._share, self._starving), before, ceiling=0)
            raise
        self._take_in(holding, before)
        if holding.starving and holding.held < before:
            await self._counter.in_thread(self._counter.store.announce, [f"limit:{self._name}"])

    def _take_in(self, holding: Holding, before: int, ceiling: int = _ALL) -> None:
        """Goes on with what it has now."""
        now = anyio.current_time()
        self._held, self._share, self._starving = holding
        self._resting = self._resting and self._held > 0
        self._ceiling = ceiling
        if not before:
            self._held_since = now
        self._look_at = now + self._turn
        self._peak = self.inside
        self._pause = _FIRST_PAUSE if self._held > before else min(2 * self._pause, self._turn)
        self._ask_at = now + self._pause * (1 - self._clock.chance() / 2)
        self._recompute()

    async def _hold(self, slots: int, used: int, want: int) -> Holding:
        """Calls the store."""
        counter = self._counter
        call = partial(counter.store.hold_permits, slots=slots, used=used, want=want)
        holding: Holding = await counter.in_thread(call, self._name, counter.owner, self._clock.now())
        return holding

    # --- tokens -------------------------------------------------------------------------------------------------

    async def _see_to_tokens(self) -> list[float]:
        """Draws tokens for those who wait for nothing else; says when to look again."""
        if self.limit.rate is None:
            return []
        now = anyio.current_time()
        if now >= self._keeps_until:
            self._tokens, self._low = 0, -1
        want = self._lacking()
        if (want or self._tokens <= self._low) and now >= self._draw_at:
            drawn = await self._draw_from_store(want, self._ahead(now))
            now = anyio.current_time()
            self._take_tokens(drawn, want, now)
        return [self._draw_at - now] if self._lacking() else []

    def _take_tokens(self, drawn: Drawn, want: int, now: float) -> None:
        """Goes on with what was drawn."""
        self._tokens += drawn.tokens
        self._low = self._tokens // 2 if drawn.tokens > want else -1
        self._keeps_until = now + _KEEPS
        self._draw_at = now + (0.0 if drawn.tokens else max(drawn.pause, _LEAST_PAUSE))
        self._let_in()

    def _lacking(self) -> int:
        """Counts the tokens that are lacking for attempts that could begin otherwise."""
        return max(0, min(self._line.length, self._places - self.inside) - self._tokens)

    def _ahead(self, now: float) -> int:
        """Says how many tokens are likely to be used while they keep, as it was since some were drawn last."""
        pace = self._used / max(now - self._drawn_at, _LEAST_PAUSE)
        self._used, self._drawn_at = 0, now
        return int(min(pace, self.limit.speed) * _KEEPS)

    async def _draw_from_store(self, want: int, ahead: int) -> Drawn:
        """Calls the store."""
        counter, limit = self._counter, self.limit
        call = partial(counter.store.draw_tokens, speed=limit.speed, burst=limit.burst, want=want, ahead=ahead)
        drawn: Drawn = await counter.in_thread(call, self._name, self._clock.now())
        return drawn
