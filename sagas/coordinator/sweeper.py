"""Looks after what does not come by itself: leases, sagas without a coordinator, and mail from other processes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio

from sagas.coordinator.parking import KeepsMoving
from sagas.errors import CoordinatorClosed, JournalCorrupted, SagaError, StoreError
from sagas.stores.port import Lease, Mail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.coordinator.engine import Engine
    from sagas.coordinator.orders import Orders

__all__ = ["Sweeper"]

logger = logging.getLogger("sagas.coordinator")

_AT_ONCE = 500
# Many processes share what one of them has left behind, or what comes all at once. So this many sagas are claimed at
# first, then twice as many each time, with pauses in which others get a word in (in seconds), if there are any.
_FIRST_CLAIM, _CLAIM, _CLAIM_ALONE = 8, 128, 512
_TURN = 0.02
# So long after its start, in seconds, a coordinator looks often: whom it replaces may just not yet be known as dead.
_START = 5.0
# Even if nothing seems to have changed, a lease may have run out.
_LONGEST = 1.0
# Renewed so often, in seconds, that a lost connection does not look like a dead process.
_HEARTBEAT = 1.0
# Between so much mail a coordinator looks for work.
_PAGE = 128
# How long mail that cannot be delivered yet is left alone, in seconds: at first, and at most.
_KEEP, _LONGEST_KEEP = 2.0, 15.0


class Sweeper:
    """See the module.

    Args:
        engine: Whose sagas.
        orders: For mail.
        name: What this coordinator is called for people.
        lease: Seconds that its word holds.
        poll: Seconds between two looks.
        take_over: Whether to take sagas that nobody drives.
    """

    def __init__(
        self, engine: Engine, orders: Orders, *, name: str, lease: float, poll: float, take_over: bool = True
    ) -> None:
        self._engine = engine
        self._orders = orders
        self._name = name
        self._lease = lease
        self._poll = poll
        self._takes_over = take_over
        self._renew_at = 0.0
        self._started = engine.clock.steady()
        self._look_at = 0.0
        self._wake = anyio.Event()
        self._away = 0.0
        self._kept: dict[int, tuple[float, float]] = {}  # until when, and for how long
        self._hearing = False
        self._work = self._mail = True
        self._pause = poll
        self._urgent: list[Mail] = []

    def wake(self) -> None:
        """Looks at once."""
        self._wake.set()

    def pass_on(self, mail: Mail) -> None:
        """Delivers mail soon that was made here, and is for a saga that is not in memory here."""
        self._urgent.append(mail)
        self.wake()

    def look(self) -> None:
        """Looks at once, also if nothing seems to have changed."""
        self._look_at = 0.0
        self.wake()

    async def run(self) -> None:
        """Looks, for ever; a database that is away is waited for."""
        while True:
            self._wake = anyio.Event()  # what comes while it looks is looked after at once
            try:
                await self.sweep()
            except StoreError as error:
                await self._rest_after(error)
            except Exception:
                logger.exception("a look after leases, orphaned sagas and mail failed; trying again")
                await anyio.sleep(self._poll)
            else:
                self._note_success()
                await self._rest()

    async def _rest(self) -> None:
        """Waits until there may be something to look after."""
        with anyio.move_on_after(self._poll if self._engine.wanted else self._pause):
            await self._wake.wait()

    async def _rest_after(self, error: StoreError) -> None:
        """Waits for a database that is away, or for a right; longer from time to time. Says so once."""
        if not self._away:
            self._away = self._poll
            logger.warning("%s; it is tried again until it can be", error)
        await anyio.sleep(self._away)
        self._away = min(2 * self._away, _LONGEST)
        self._pause, self._work, self._mail = self._poll, True, True

    def _note_success(self) -> None:
        """Says once that a database is back."""
        if self._away:
            self._away = 0.0
            logger.warning("the database can be used again")

    def hear(self, messages: Sequence[str] | None) -> None:
        """Notes what there is to look after by what others announce; ``None`` while they cannot be heard."""
        self._hearing = messages is not None
        for message in messages or ():
            kind, _, about = message.partition(":")
            if kind == "work":
                self._work = True
            elif kind == "mail" and about in ("", self._engine.owner):
                self._mail = True
        if self._work or self._mail:
            self.wake()

    async def beat(self) -> None:
        """Says that this coordinator is alive, for ever, however long anything else takes."""
        while True:
            try:
                await self.renew()
            except StoreError as error:
                logger.debug("the lease could not be renewed; trying again: %s", error)
            except Exception:
                logger.exception("the lease could not be renewed; trying again")
            await anyio.sleep(self._poll)

    async def renew(self) -> None:
        """Says that this coordinator is alive, if it is time."""
        clock = self._engine.clock
        now, steady = clock.now(), clock.steady()
        if steady >= self._renew_at:
            engine = self._engine
            lapsed = steady >= engine.attempting.lease_until
            lease = Lease(engine.owner, self._name, now + self._lease, engine.registry.code)
            until: float = await engine.in_thread(engine.store.renew, lease, now)
            if lapsed:
                if engine.measuring is not None:
                    engine.measuring.lapsed()
                await engine.drop_what_was_taken()
                await engine.limits.recount()
            engine.attempting.lease_held(steady + until - now)
            heartbeat = _HEARTBEAT if engine.store.announces else self._lease
            self._renew_at = steady + min(heartbeat, self._lease / 3)

    async def sweep(self) -> None:
        """Looks once."""
        engine = self._engine
        await self._fetch()
        await self._deliver_urgent()
        if self._work or self._mail or engine.overdue or engine.clock.steady() >= self._look_at:
            await self._look()
        elif not self._hearing and await engine.in_thread(engine.store.changed):
            await self._look(everything=True)

    async def _fetch(self) -> None:
        """Reads the sagas that somebody asked for, as far as it is not too crowded for them."""
        engine = self._engine
        wanted = [*engine.wanted]
        while wanted and not engine.load.crowded:
            at_once = min(_AT_ONCE, engine.load.spare)
            some, wanted = wanted[:at_once], wanted[at_once:]
            await engine.fetch([saga_id for saga_id in some if saga_id not in engine.sagas])
            engine.wanted.difference_update(some)

    async def _look(self, *, everything: bool = False) -> None:
        """Looks for what it was told of; for everything from time to time, since it may have missed something."""
        engine = self._engine
        steady = engine.clock.steady()
        everything = everything or steady >= self._look_at
        work, self._work = self._work or everything, False
        overdue = len(engine.overdue)
        mail, self._mail = self._mail or everything or overdue > 0, False
        found = (await self._claim() if work else 0) + (await self._deliver() if mail else 0)
        engine.fire_overdue(overdue)
        if not everything:
            return
        next_wake = await engine.in_thread(engine.store.next_wake)
        starting = steady < self._started + _START
        longest = self._poll if starting else _LONGEST
        due = next_wake - engine.clock.now() if next_wake is not None else longest
        self._look_at = steady + (due if 0 < due < longest else longest)
        # A look into a database on the network costs it something, so one in vain is followed by a longer pause.
        patient = engine.store.announces and not found
        self._pause = min(2 * self._pause, longest) if patient else self._poll

    async def _claim(self) -> int:
        """Takes over sagas that nobody drives, as far as there is room for them; gives how many."""
        engine = self._engine
        found, most = 0, _FIRST_CLAIM
        while self._takes_over and not engine.closing:
            now, room = engine.clock.now(), min(most, engine.load.room)
            if not room:
                engine.load.keep()
                break
            engine.load.keep(room)
            rows = await engine.in_thread(engine.store.claim, engine.owner, now, room, engine.registry.code)
            await engine.bring_back(rows)
            found += len(rows)
            if len(rows) < room:
                engine.load.keep(0)
                break
            alone = len(await engine.in_thread(engine.store.leases, now)) <= 1
            most = min(2 * most, _CLAIM_ALONE if alone else _CLAIM)
            await anyio.sleep(0.0 if alone else _TURN)
        return found

    async def _deliver_urgent(self) -> None:
        """Carries out what was made here, or tells the coordinator that can."""
        engine = self._engine
        urgent, self._urgent = self._urgent, []
        for item in urgent:
            await self._deliver_one(item)
            if item.id in self._kept:
                row = await engine.in_thread(engine.store.get, item.saga_id)
                await engine.in_thread(engine.store.announce, [f"mail:{row.owner if row is not None else ''}"])

    async def _deliver(self) -> int:
        """Carries out orders from other processes, a page at a time, so that what has to wait holds up nothing."""
        engine = self._engine
        after = found = 0
        left, seen = set[str](), set[int]()
        while not engine.closing:
            now, steady = engine.clock.now(), engine.clock.steady()
            mail = await engine.in_thread(engine.store.mail, engine.owner, now, _PAGE, after, engine.registry.code)
            seen.update(item.id for item in mail)
            for item in mail:
                # For a saga that is left alone now, what comes later must not be earlier.
                left_alone = engine.load.crowded or not self._takes_over
                if item.saga_id in left or (left_alone and item.saga_id not in engine.sagas):
                    left.add(item.saga_id)
                elif item.saga_id in engine.sagas or self._kept.get(item.id, (0.0, 0.0))[0] <= steady:
                    await self._deliver_one(item)
                    found += 1
            if len(mail) < _PAGE:
                self._kept = {mail_id: kept for mail_id, kept in self._kept.items() if mail_id in seen}
                break
            after = mail[-1].id
            if self._work or not self._hearing:
                self._work = False
                found += await self._claim()
        return found

    async def _deliver_one(self, item: Mail) -> None:
        """Carries out one order; one for a saga that no code at hand can drive is kept, and tried again later."""
        engine = self._engine
        _, before = self._kept.pop(item.id, (0.0, 0.0))
        try:
            done = await self._orders.give(item.saga_id, item.kind, item.body, mail=item.id)
        except (KeepsMoving, CoordinatorClosed) as error:
            logger.debug("a %s for saga %s is left for later: %s", item.kind, item.saga_id, error)
            done = False
        except (SagaError, ValueError, LookupError, TypeError, AttributeError) as error:
            if isinstance(error, StoreError) and not isinstance(error, JournalCorrupted):
                raise  # the database's fault, not the order's
            # Anybody can write to the table, and what makes no sense may fail anywhere.
            logger.warning("a %s for saga %s is dropped: %s", item.kind, item.saga_id, error)
            await engine.in_thread(engine.store.discard, [item.id])
            done = True
        if not done:
            keep = min(2 * before, _LONGEST_KEEP) if before else _KEEP
            self._kept[item.id] = engine.clock.steady() + keep, keep
