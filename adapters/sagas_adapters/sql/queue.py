"""A queue in a SQL database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sagas.errors import DeliveryExpired, StoreError, TransportClosed, TransportError
from sagas.transport.opening import public_url
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message
from sagas_adapters.sql import lanes
from sagas_adapters.sql.asking import Ack, Call, Extend, Nack, Request, Send, Take, post_here
from sagas_adapters.sql.desk import Desk, row_of
from sagas_adapters.sql.dialects import dialect_of
from sagas_adapters.sql.lane import Lane, place_of

if TYPE_CHECKING:
    from sagas.stores.sql import SqlStore

__all__ = ["SqlQueue", "open_queue"]

R = TypeVar("R", bound=Request)

_MAX_BYTES = 1_000_000
_DIGITS = 18
# With the channel of the table, as in `sagas.stores.announcing`; nobody is left out, whoever sent it.
_NOTIFY = "SELECT pg_notify('sagas_' || 'saga_message'::regclass::oid, ':' || :queue)"


class SqlQueue:
    """A queue in the tables of a database, which any number of processes share.

    Connects when it is first used. All connections of a process to one URL, or on one store, share its transactions:
    what many tasks ask for at the same time is committed together.

    Args:
        database: ``sqlite:///orders.db``, ``postgresql+psycopg://user@host/database``, or a store, such as one that a
            coordinator of this process uses too; then SQLite's file has one writer here and not two. A store is
            opened if it is not, and left open.
        name: Of the queue; there is no need to create it.
        visibility: See ``Queue``; in seconds.
        max_deliveries: See ``Queue``.
        dedup_window: Seconds for which a ``dedup_id`` is remembered.
        max_bytes: The largest message; ``None`` for as much as memory and the database hold.
        clock: Tells the POSIX time; by default, that is this machine's on SQLite and the server's on PostgreSQL.

    Raises:
        StoreError: The URL names no database.
        TransportError: It names one that is not SQL.
    """

    ABLE = Capabilities(
        system="sql",
        ordered=True, groups=True, delay=True, nack_delay=True, extend=True, dedup_window=300.0, dead_letters=True,
        max_bytes=_MAX_BYTES, max_batch=100, late="refused",
    )  # fmt: skip

    def __init__(
        self,
        database: str | SqlStore,
        name: str,
        *,
        visibility: float = 30.0,
        max_deliveries: int = 5,
        dedup_window: float = 300.0,
        max_bytes: int | None = _MAX_BYTES,
        clock: lanes.Clock | None = None,
    ) -> None:
        self.name = name
        self.visibility = visibility
        self.max_deliveries = max_deliveries
        self.capabilities = replace(self.ABLE, dedup_window=dedup_window, max_bytes=max_bytes)
        self._window = dedup_window
        self._clock = clock
        self._key, self._lane = lanes.join(database, clock)
        self._closed = False

    # --- sending ------------------------------------------------------------------------------------------------

    async def send(self, *messages: Message) -> None:
        """See ``Queue.send``."""
        self._check_open()
        self.capabilities.admit(messages, where=self._where)
        if messages:
            rows = [row_of(self.name, message) for message in messages]
            await self._done(Send(post_here(), rows=rows, window=self._window))

    def send_within(self, connection: Connection, *messages: Message) -> None:
        """Sends messages in a transaction of the caller's, on the same database: both happen, or neither does.

        Whoever waits hears of it when it is committed, from PostgreSQL; on SQLite, he finds it within some 50 ms. The
        tables have to be there: open the store, or use the queue, before.

        Args:
            connection: SQLAlchemy's; of a session, ``session.connection()``.
            *messages: See ``send``.

        Raises:
            NotSupported: See ``Queue.send``.
            MessageTooLarge: See ``Queue.send``.
        """
        self.capabilities.admit(messages, where=self._where)
        if not messages:
            return
        dialect = dialect_of(connection)
        clock = self._clock or (None if dialect.locks else lanes.wall_clock)
        desk = Desk(connection, None if clock is None else clock())
        desk.send([row_of(self.name, message) for message in messages], self._window)
        if dialect.locks:
            connection.execute(text(_NOTIFY), {"queue": self.name})

    # --- receiving ----------------------------------------------------------------------------------------------

    async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
        """See ``Queue.receive``."""
        if limit < 1:
            raise ValueError(f"receive(limit={limit}): at least one message")
        self._check_open()
        take = Take(
            post_here(), queue=self.name, limit=min(limit, self.capabilities.max_batch), patient=wait > 0,
            visibility=self.visibility, max_deliveries=self.max_deliveries, owner=self,
        )  # fmt: skip
        self._lane.submit(take)
        try:
            await self._found(take, wait)
        except BaseException:
            self._lane.abandon(take)
            raise
        self._check(take)
        return list(take.found)

    async def _found(self, take: Take, wait: float) -> None:
        """Waits until there is something, or the time is over."""
        if take.patient:
            with anyio.move_on_after(wait):
                await take.done.wait()
                return
            if self._lane.withdraw(take):
                return
        await take.done.wait()

    async def ack(self, *deliveries: Delivery) -> None:
        """See ``Queue.ack``."""
        self._check_open()
        if not deliveries:
            return
        grouped = (self.name,) if any(delivery.message.group is not None for delivery in deliveries) else ()
        places = [place_of(delivery) for delivery in deliveries]
        ack = await self._done(Ack(post_here(), places=places, grouped=grouped))
        if ack.late:
            self._late(ack.late[0])

    async def nack(self, delivery: Delivery, *, delay: float = 0.0, reason: str = "") -> None:
        """See ``Queue.nack``."""
        self._check_open()
        place = place_of(delivery)
        nack = Nack(
            post_here(), queue=self.name, place=place, delay=delay, last=place[1] >= self.max_deliveries,
            reason=reason or "given back, and nobody said why",
        )  # fmt: skip
        if not (await self._done(nack)).held:
            self._late(place)

    async def extend(self, delivery: Delivery, seconds: float) -> None:
        """See ``Queue.extend``."""
        self._check_open()
        place = place_of(delivery)
        if not (await self._done(Extend(post_here(), place=place, seconds=seconds))).held:
            self._late(place)

    def _late(self, place: tuple[int, int]) -> None:
        """Refuses what comes when a delivery is over.

        Raises:
            DeliveryExpired: Always.
        """
        raise DeliveryExpired(
            f"{self._where}: delivery {place[0]}.{place[1]} was not acknowledged within {self.visibility:g} s, or was "
            "given back, so the message is delivered to others. Nothing was changed. Extend deliveries that take longer"
        )

    # --- dead letters -------------------------------------------------------------------------------------------

    async def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        """See ``Queue.dead_letters``."""

        def read(desk: Desk) -> Sequence[DeadLetter]:
            self._sweep(desk)
            return desk.dead_letters(self.name, limit)

        return cast("Sequence[DeadLetter]", await self._call(read))

    async def redrive(self, ids: Collection[str] | None = None) -> int:
        """See ``Queue.redrive``."""
        numbers = None if ids is None else [int(one) for one in ids if one.isdecimal() and len(one) <= _DIGITS]

        def send_back(desk: Desk) -> int:
            self._sweep(desk)
            return desk.redrive(self.name, numbers)

        return cast("int", await self._call(send_back))

    def _sweep(self, desk: Desk) -> None:
        """Brings the dead letters up to date."""
        desk.sweep(self.name, self.max_deliveries, f"not acknowledged within {self.visibility:g} s")

    async def _call(self, function: Any) -> object:
        """Has a function called in a transaction."""
        self._check_open()
        return (await self._done(Call(post_here(), queue=self.name, function=function))).result

    # --- all of it ----------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """See ``Queue.close``."""
        if self._closed:
            return
        self._closed = True
        self._lane.forsake(self, TransportClosed(f"{self._where} is closed"))
        lane: Lane | None = lanes.leave(self._key)
        if lane is not None:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lane.stop)

    async def _done(self, request: R) -> R:
        """Has something done, and waits until it is durable."""
        self._lane.submit(request)
        await request.done.wait()
        self._check(request)
        return request

    def _check(self, request: Request) -> None:
        """Passes on what went wrong.

        Raises:
            TransportClosed: The connection was closed meanwhile.
            TransportError: The database failed; what was asked for may have been done.
        """
        error = request.error
        if error is None:
            return
        if isinstance(error, TransportClosed):
            raise TransportClosed(str(error)) from error
        what = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        raise TransportError(f"{self._where}: {what}") from error

    @property
    def _where(self) -> str:
        """Names it in messages."""
        return f"queue {self.name}"

    def _check_open(self) -> None:
        """Refuses to go on.

        Raises:
            TransportClosed: It is closed.
        """
        if self._closed:
            raise TransportClosed(f"{self._where} is closed")


def open_queue(url: str, *, queue: str, visibility: float, max_deliveries: int) -> SqlQueue:
    """Makes the queue of a URL; see ``sagas.transport.open_queue``.

    Besides what the database understands, the URL's query may hold ``dedup_window=`` in seconds and ``max_bytes=``,
    ``0`` for no limit.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:  # with a password in it, perhaps
        raise TransportError(f"{public_url(url)} is no URL of a database") from None
    options: dict[str, Any] = {}
    if "dedup_window" in parsed.query:
        options["dedup_window"] = float(str(parsed.query["dedup_window"]))
    if "max_bytes" in parsed.query:
        options["max_bytes"] = int(str(parsed.query["max_bytes"])) or None
    database = parsed.difference_update_query(["dedup_window", "max_bytes"]).render_as_string(hide_password=False)
    return SqlQueue(database, queue, visibility=visibility, max_deliveries=max_deliveries, **options)
