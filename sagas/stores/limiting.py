"""Limits that hold for all processes on a SQL database.

A limit has a row for each permit, its slots 1, 2, …, which belongs to the coordinator that it names, as long as that
is alive. Slot 0 is its bucket of tokens. Negative slots are those who wait for permits: ``tokens`` is since when,
``at`` when they last said so.

What is decided about who should have how many may be a moment old; but a permit changes hands only by an update that
finds it still free.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, delete, func, insert, or_, select, text, update

from sagas.core.limits import Bucket
from sagas.stores.port import Drawn, Holding
from sagas.stores.sharing import REPEAT, Standing, fresh, plan
from sagas.stores.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from sqlalchemy import ColumnElement, Connection, Row

__all__ = ["SqlLimits"]

_limit = metadata.tables["saga_limit"]
_permits = _limit.c.slot > 0
_ADD = text(
    "INSERT INTO saga_limit (name, slot, owner, tokens, at) VALUES (:name, :slot, '', :tokens, 0) "
    "ON CONFLICT DO NOTHING"
)
# Seconds after which it is forgotten that somebody waited who has not said so again.
_FORGET = 60.0
# Any bucket is full with this.
_FULL = 1e18


class _State(NamedTuple):
    """What coordinators have of a limit.

    Attributes:
        now: POSIX time by the database's clock.
        held: By owner, how many permits. ``""`` owns those that are free.
        taken: By owner, when it took the last of them.
        wishes: By owner, since when it has waited and when it last said so.
    """

    now: float
    held: dict[str, int]
    taken: dict[str, float]
    wishes: dict[str, tuple[float, float]]


class SqlLimits(ABC):
    """The part of a store in a SQL database that keeps limits."""

    def __init__(self) -> None:
        self._prepared: dict[str, int] = {}

    @abstractmethod
    def _read(self, statement: Any) -> Sequence[Row[Any]]:
        """Runs a query."""

    @abstractmethod
    def _aside(self) -> AbstractContextManager[Connection]:
        """Gives a connection in a transaction that ends with the block."""

    @abstractmethod
    def _time(self, now: float) -> ColumnElement[float]:
        """Gives the time that leases and timers go by."""

    @abstractmethod
    def _live(self, now: float) -> list[str]:
        """Lists the coordinators that are alive."""

    # --- permits ------------------------------------------------------------------------------------------------

    def hold_permits(self, name: str, owner: str, now: float, *, slots: int, used: int, want: int) -> Holding:
        """See ``Store.hold_permits``."""
        self._prepare(name, slots)
        state = self._state(name, now, slots)
        # After the permits: whoever was seen to hold one had taken its lease before.
        live = {owner, *self._live(now)}
        dead = {other: at for other, at in state.taken.items() if other and other not in live}
        held = state.held.get(owner, 0)
        since, said = state.wishes.get(owner, (None, -math.inf))
        others = _others(state, live - {owner})
        planned = plan(slots, Standing(held, since), others, state.now, used=used, want=want)
        free = sum(state.held[other] for other in ("", *dead) if other in state.held)
        take = max(0, min(planned.aim - held, free - planned.reserved))
        give = max(0, held - planned.aim)
        expected = held + take - give
        wishes = expected < want
        if take or give or (wishes and said < state.now - REPEAT) or (since is not None and not wishes):
            with self._aside() as connection:
                these = and_(_limit.c.name == name, _limit.c.slot.between(1, slots), _free(dead))
                taken = self._take(connection, these, take, owner=owner, at=self._time(now)) if take else 0
                if give:
                    self._give(connection, name, owner, give)
                self._wish(connection, name, owner, now, (since or state.now) if wishes else None)
            expected += taken - take
        return Holding(expected, planned.share, planned.starving)

    def keep_permits(self, owner: str, now: float) -> Mapping[str, int]:
        """See ``Store.keep_permits``."""
        mine = and_(_limit.c.owner == owner, _permits)
        with self._aside() as connection:
            connection.execute(update(_limit).where(mine).values(at=self._time(now)))
            names = connection.execute(select(_limit.c.name).where(mine)).scalars().all()
        return Counter(names)

    def _prepare(self, name: str, slots: int) -> None:
        """Makes sure that a limit has its bucket and so many permits."""
        if self._prepared.get(name, -1) < slots:
            with self._aside() as connection:
                connection.execute(_ADD, [{"name": name, "slot": slot, "tokens": _FULL} for slot in range(slots + 1)])
            self._prepared[name] = slots

    def _state(self, name: str, now: float, slots: int) -> _State:
        """Reads how a limit stands."""
        query = (
            select(
                _limit.c.owner, _permits, func.count(), func.min(_limit.c.tokens), func.max(_limit.c.at),
                self._time(now),
            )
            .where(_limit.c.name == name, _limit.c.slot != 0, _limit.c.slot <= slots)
            .group_by(_limit.c.owner, _permits)
        )  # fmt: skip
        state = _State(now, {}, {}, {})
        for row in self._read(query):
            owner, permits, count, since, at, time = tuple[Any, ...](row)
            state = state._replace(now=float(time))
            if permits:
                state.held[owner], state.taken[owner] = count, float(at)
            else:
                state.wishes[owner] = float(since), float(at)
        return state

    def _take(self, connection: Connection, these: ColumnElement[bool], take: int, **values: object) -> int:
        """Takes permits, as far as nobody else is just doing so; says how many."""
        query = select(_limit.c.name, _limit.c.slot).where(these).order_by(_limit.c.slot).limit(take)
        found = connection.execute(query.with_for_update(skip_locked=True)).all()
        if found:
            slots = [slot for _, slot in found]
            chosen = and_(_limit.c.name == found[0].name, _limit.c.slot.in_(slots))
            connection.execute(update(_limit).where(chosen).values(values))
        return len(found)

    def _give(self, connection: Connection, name: str, owner: str, give: int) -> None:
        """Gives permits back, the last ones first."""
        mine = and_(_limit.c.name == name, _permits, _limit.c.owner == owner)
        found = connection.execute(select(_limit.c.slot).where(mine).order_by(_limit.c.slot.desc()).limit(give))
        last = found.scalars().all()
        connection.execute(update(_limit).where(mine, _limit.c.slot.in_(last)).values(owner=""))

    def _wish(self, connection: Connection, name: str, owner: str, now: float, since: float | None) -> None:
        """Says that a coordinator waits, or no longer does."""
        place = {"name": name, "slot": _place(owner)}
        mine = and_(_limit.c.name == name, _limit.c.slot == place["slot"])
        if since is None:
            connection.execute(delete(_limit).where(mine))
            return
        values = {"owner": owner, "tokens": since, "at": self._time(now)}
        if not connection.execute(update(_limit).where(mine).values(values)).rowcount:
            forgotten = and_(_limit.c.name == name, _limit.c.slot < 0, _limit.c.at < self._time(now) - _FORGET)
            connection.execute(delete(_limit).where(forgotten))  # of those who were killed while they waited
            connection.execute(insert(_limit).values(**place, **values))

    # --- tokens -------------------------------------------------------------------------------------------------

    def draw_tokens(self, name: str, now: float, *, speed: float, burst: float, want: int, ahead: int = 0) -> Drawn:
        """See ``Store.draw_tokens``."""
        self._prepare(name, 0)
        bucket = and_(_limit.c.name == name, _limit.c.slot == 0)
        with self._aside() as connection:
            query = select(_limit.c.tokens, _limit.c.at, self._time(now)).where(bucket)
            tokens, at, time = connection.execute(query.with_for_update()).one()
            got, left = Bucket(tokens, at).drawn(float(time), want, speed=speed, burst=burst, ahead=ahead)
            if got:
                connection.execute(update(_limit).where(bucket).values(tokens=left.tokens, at=left.at))
        return Drawn(got, left.pause(float(time), speed=speed, burst=burst))


def _others(state: _State, live: set[str]) -> list[Standing]:
    """Lists how others stand who are alive, and hold permits or wait for some."""
    wishes = {other: since for other, (since, said) in state.wishes.items() if fresh(said, state.now)}
    return [Standing(state.held.get(x, 0), wishes.get(x)) for x in live if x in state.held or x in wishes]


def _free(dead: Mapping[str, float]) -> ColumnElement[bool]:
    """Says that nobody alive holds a permit; one who was thought dead may have come back and touched his own."""
    theirs = [and_(_limit.c.owner == other, _limit.c.at <= at) for other, at in dead.items()]
    return or_(_limit.c.owner == "", *theirs)


def _place(owner: str) -> int:
    """Gives the negative slot in which a coordinator says that it waits."""
    return -1 - (int.from_bytes(hashlib.blake2b(owner.encode(), digest_size=4).digest()) >> 1)
