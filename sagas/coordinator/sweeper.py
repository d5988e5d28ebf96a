"""Looks after what does not come by itself: leases, sagas without a coordinator, and mail from other processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from sagas.errors import SagaError, StoreUnavailable
from sagas.stores.port import Lease, Mail

if TYPE_CHECKING:
    from sagas.coordinator.engine import Engine
    from sagas.coordinator.orders import Orders

__all__ = ["Sweeper"]

logger = logging.getLogger("sagas.coordinator")

_AT_ONCE = 500
# Even if nothing seems to have changed, a lease may have run out.
_LONGEST = 1.0
# How long mail that cannot be delivered yet is left alone, in seconds.
_KEEP = 2.0


class Sweeper:
    """See the module.

    Args:
        engine: Whose sagas.
        orders: For mail.
        name: What this coordinator is called for people.
        lease: Seconds that its word holds.
        poll: Seconds between two looks.
    """

    def __init__(self, engine: Engine, orders: Orders, *, name: str, lease: float, poll: float) -> None:
        self._engine = engine
        self._orders = orders
        self._name = name
        self._lease = lease
        self._poll = poll
        self._renew_at = 0.0
        self._look_at = 0.0
        self._wake: anyio.Event | None = None
        self._kept: dict[int, float] = {}

    def wake(self) -> None:
        """Looks at once."""
        if self._wake is not None:
            self._wake.set()

    def look(self) -> None:
        """Looks at once, also if nothing seems to have changed."""
        self._look_at = 0.0
        self.wake()

    async def run(self) -> None:
        """Looks, for ever; a database that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                logger.warning("%s; trying again", error)
            except Exception:
                logger.exception("a look after leases, orphaned sagas and mail failed; trying again")
            self._wake = anyio.Event()
            if not self._engine.wanted:
                with anyio.move_on_after(self._poll):
                    await self._wake.wait()
            else:
                await anyio.sleep(self._poll)
            self._wake = None

    async def renew(self) -> None:
        """Says that this coordinator is alive."""
        now = self._engine.clock.now()
        if now >= self._renew_at:
            engine = self._engine
            lapsed = now >= engine.attempting.lease_until
            lease = Lease(engine.owner, self._name, now + self._lease, engine.registry.code)
            await engine.in_thread(engine.store.renew, lease, now)
            if lapsed:
                await engine.drop_what_was_taken()
                await engine.limits.recount()
            engine.attempting.lease_held(lease.expires_at)
            self._renew_at = now + self._lease / 3

    async def sweep(self) -> None:
        """Looks once."""
        engine = self._engine
        await self.renew()
        for saga_id in list(engine.wanted):
            if engine.load.crowded:
                break
            await engine.ensure(saga_id)
            engine.wanted.discard(saga_id)
        now = engine.clock.now()
        if await engine.in_thread(engine.store.changed) or now >= self._look_at:
            await self._claim()
            await self._deliver()
            next_wake = await engine.in_thread(engine.store.next_wake)
            self._look_at = now + _LONGEST
            if next_wake is not None and now < next_wake < self._look_at:
                self._look_at = next_wake

    async def _claim(self) -> None:
        """Takes over sagas that nobody drives, as far as there is room for them."""
        engine = self._engine
        while not engine.closing:
            now, room = engine.clock.now(), min(_AT_ONCE, engine.load.room)
            if not room:
                engine.load.keep()
                return
            engine.load.keep(room)
            rows = await engine.in_thread(engine.store.claim, engine.owner, now, room, engine.registry.code)
            await engine.bring_back(rows)
            if len(rows) < room:
                engine.load.keep(0)
                return

    async def _deliver(self) -> None:
        """Carries out orders from other processes, a page at a time, so that what has to wait holds up nothing."""
        engine = self._engine
        after, left = 0, set[str]()
        while not engine.closing:
            now = engine.clock.now()
            mail = await engine.in_thread(engine.store.mail, engine.owner, now, _AT_ONCE, after)
            for item in mail:
                # For a saga that is left alone now, what comes later must not be earlier.
                if item.saga_id in left or (engine.load.crowded and item.saga_id not in engine.sagas):
                    left.add(item.saga_id)
                elif item.saga_id in engine.sagas or self._kept.get(item.id, 0.0) <= now:
                    await self._deliver_one(item, now)
            if len(mail) < _AT_ONCE:
                return
            after = mail[-1].id

    async def _deliver_one(self, item: Mail, now: float) -> None:
        """Carries out one order; one for a saga that no code at hand can drive is kept, and tried again later."""
        engine = self._engine
        self._kept.pop(item.id, None)
        try:
            done = await self._orders.give(item.saga_id, item.kind, item.body, mail=item.id)
        except StoreUnavailable:
            raise
        except (SagaError, ValueError, LookupError, TypeError, AttributeError) as error:
            # Anybody can write to the table, and what makes no sense may fail anywhere.
            logger.warning("a %s for saga %s is dropped: %s", item.kind, item.saga_id, error)
            await engine.in_thread(engine.store.discard, [item.id])
        else:
            if not done:
                self._kept[item.id] = now + _KEEP
