"""A queue on RabbitMQ: a quorum queue, with its dead letters in another one.

RabbitMQ gives a delivery to a consumer for as long as its connection lasts, so the adapter itself gives back what was
not acknowledged within ``visibility``; what a dead process held is delivered to others at once. Messages are taken by
consumers that last for one ``receive`` and prefetch what it asks for: none lies in a process that did not ask for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast
from uuid import uuid4

from sagas.errors import MessageTooLarge, NotSupported, SagaError, TransportError
from sagas.transport.aside import Aside, all_of, any_of, ended, is_cut_off, whole
from sagas.transport.broker_queue import AsyncioQueue
from sagas.transport.clients import UrlSettings, need_library
from sagas.transport.holds import Settled
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
    from types import ModuleType

    from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage

__all__ = ["RabbitQueue", "open_queue"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_COUNT, _REASON = "x-sagas-count", "x-sagas-reason"
# What RabbitMQ or this module adds to a message's headers.
_ADDED = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count", _COUNT, _REASON)
_HEADERS_MAX = 100_000  # bytes; a message's headers have to fit into one frame, of 131072 by default
_NAME_MAX = 255
_DELAY_MAX = 30 * 86_400.0
_SLACK = 3_600.0  # seconds that a queue of delayed messages outlives the last of them by
_PERSISTENT = 2
_UNLIMITED = 1_000_000_000  # deliveries; RabbitMQ 4 drops after 20 what has no limit
_AT_ONCE = 1_000  # messages on their way to be confirmed
_PATIENCE = 30.0  # seconds for an answer
_LULL = 0.02  # seconds without a message after which no more is expected
_MANY = 4  # messages that are worth a consumer, where otherwise each is asked for


def open_queue(url: str, *, queue: str, visibility: float, max_deliveries: int) -> RabbitQueue:
    """Makes a queue; see ``sagas.transport.QueueFactory``. ``max_bytes=`` in the URL's query is ours."""
    given = UrlSettings.of(url, max_bytes=int)
    return RabbitQueue(given.url, queue, visibility=visibility, max_deliveries=max_deliveries, **given.ours)


@dataclass(eq=False, slots=True)
class _Held:
    """A message that the broker has given to this connection.

    Attributes:
        message: What came.
        receipt: Names it.
        count: How often it was delivered.
        timer: Gives it back.
    """

    message: DeliveredMessage
    receipt: str
    count: int
    timer: asyncio.TimerHandle | None = None

    @property
    def tag(self) -> int:
        """What the broker calls it."""
        return self.message.delivery_tag or 0


@dataclass(eq=False, slots=True)
class _Link:
    """A connection to the broker, and what depends on it.

    Attributes:
        sending: Its channel for what is sent; each message is confirmed.
        taking: Its channel for what is received.
        held: By receipt, in the order in which they came.
        strays: Of those, what came too late for the ``receive`` that it was for.
        floor: What the broker was told of all deliveries up to this number.
        told: Numbers above it of which it was told too.
        waiting: To be woken when the connection is lost.
        leaving: Consumers that have their number, and are being cancelled.
        delays: By name of a queue of delayed messages, until when it can be used.
        failed: Whether something went wrong with it, so that nothing more is to be tried.
    """

    connection: AbstractConnection
    sending: AbstractChannel
    taking: AbstractChannel
    name: str = field(default_factory=lambda: uuid4().hex)
    held: dict[str, _Held] = field(default_factory=dict[str, _Held])
    strays: deque[_Held] = field(default_factory=deque[_Held])
    floor: int = 0
    told: set[int] = field(default_factory=set[int])
    waiting: set[asyncio.Event] = field(default_factory=set[asyncio.Event])
    leaving: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])
    delays: dict[str, float] = field(default_factory=dict[str, float])
    failed: bool = False
    consuming: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def lost(self) -> bool:
        """Whether it is of no use any more."""
        return self.failed or self.connection.is_closed or self.sending.is_closed or self.taking.is_closed

    def reach(self, tags: Collection[int]) -> int:
        """Says up to which delivery all are among these, or were told of: only those can be acknowledged as one."""
        reach = self.floor
        while reach + 1 in tags or reach + 1 in self.told:
            reach += 1
        return reach

    def tell(self, *tags: int) -> None:
        """Notes that the broker is told of deliveries: what is on its way to it now comes before what follows."""
        self.told.update(tags)
        while self.floor + 1 in self.told:
            self.floor += 1
            self.told.discard(self.floor)

    async def left(self) -> None:
        """Waits until no consumer is left that would get another message for one of which the broker is told."""
        if self.leaving:
            await asyncio.wait(self.leaving)

    def wake(self, *_: object) -> None:
        """Has everybody who waits look again."""
        for nudge in self.waiting:
            nudge.set()

    def drop(self) -> None:
        """Forgets what was held: the broker gives it to others."""
        for held in self.held.values():
            if held.timer is not None:
                held.timer.cancel()
        self.held.clear()
        self.strays.clear()
        self.wake()


class RabbitQueue(AsyncioQueue):
    """A quorum queue on RabbitMQ, 3.10 or newer; it is created when it is first used, and so is ``NAME.dead``.

    Args:
        url: ``amqp://user:password@host:5672/vhost``, with aiormq's options in the query, such as ``heartbeat``.
        queue: Its name.
        visibility: See ``Queue``. The broker's ``consumer_timeout`` (30 minutes) ends longer ones.
        max_deliveries: See ``Queue``. It is a property of the queue that exists: to change it, delete that.
        max_bytes: The largest message; no more than the broker's ``max_message_size``.
    """

    BROKER = "RabbitMQ"
    OVER = ", or its connection was lost"
    MAX_BYTES = 16 * 1024 * 1024  # what RabbitMQ 4 takes by default; 3 takes more

    def __init__(
        self, url: str, queue: str, *, visibility: float = 30.0, max_deliveries: int = 5, max_bytes: int = MAX_BYTES
    ) -> None:
        able = Capabilities(
            system="rabbitmq",
            ordered=True, delay=True, nack_delay=True, extend=True, dead_letters=True, max_bytes=max_bytes,
            max_batch=256, late="refused",
        )  # fmt: skip
        super().__init__(queue, visibility=visibility, max_deliveries=max_deliveries, capabilities=able)
        self._url = url
        self._dead = f"{queue}.dead"
        self._connecting = asyncio.Lock()
        self._link: _Link | None = None
        self._settled = Settled()
        self._aside = Aside()  # if it fails, the connection is lost, and the broker does it

    # --- connecting ---------------------------------------------------------------------------------------------

    async def _reach(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Calls a function on asyncio."""
        return await super()._reach(self._guard, partial(function, *args))

    async def _guard(self, act: Callable[[], Awaitable[T]]) -> T:
        """Calls a function; after a failure, nothing more is tried with the same connection.

        Raises:
            ConnectionError: What aiormq also rejects with a cancellation: a lost connection has cut it off.
        """
        try:
            return await act()
        except SagaError:
            raise
        except asyncio.CancelledError as error:
            if not is_cut_off(error):
                raise
            self._mistrust()
            raise ConnectionError("the connection was lost") from error
        except Exception:
            self._mistrust()
            raise

    def _mistrust(self) -> None:
        """Has the next call make another connection."""
        if self._link is not None:
            self._link.failed = True

    async def _linked(self) -> _Link:
        """Gives the connection; a new one, if there is none or it was lost."""
        async with self._connecting:
            self._check_open()
            if self._link is None or self._link.lost:
                await self._unlink()
                self._link = await self._connect()
            return self._link

    async def _connect(self) -> _Link:
        """Connects, and has the queues."""
        library = _library()
        async with asyncio.timeout(_PATIENCE):
            connection: AbstractConnection = await library.connect(_with_heartbeat(self._url))
            try:
                await self._declare(connection)
                sending, taking = await _channel(connection), await _channel(connection, confirms=False)
            except BaseException:
                await connection.close()
                raise
        link = _Link(connection, sending, taking)

        async def stray(message: DeliveredMessage) -> None:
            link.strays.append(self._hold(link, message))

        cast("Any", taking).consumers = _Consumers(stray)
        for channel in (sending, taking):
            closing: asyncio.Future[Any] = cast("Any", channel).closing
            closing.add_done_callback(lambda _: link.drop())
        taking.on_consumer_cancel_callbacks.add(lambda _: self._aside.spawn(connection.close()))
        return link

    async def _declare(self, connection: AbstractConnection) -> None:
        """Has the queues, as they have to be.

        Raises:
            TransportError: They are there, and different.
        """
        channel = await _channel(connection, confirms=False)
        lasting: dict[str, Any] = {"x-queue-type": "quorum"}
        dead: dict[str, Any] = {**lasting, "x-delivery-limit": _UNLIMITED}
        live = {**lasting, **_dead_letters_to(self._dead), "x-delivery-limit": self.max_deliveries - 1}
        try:
            await channel.queue_declare(self._dead, durable=True, arguments=dead)
            await channel.queue_declare(self.name, durable=True, arguments=live)
        except _library().exceptions.ChannelPreconditionFailed as error:
            raise TransportError(
                f"{self._where} exists, and is another kind of queue or has another delivery limit: {error}. Delete "
                f"it, give another name, or use the max_deliveries that it was made with"
            ) from error
        await channel.close()

    async def _disconnect(self) -> None:
        """Disconnects; after what was begun."""
        async with self._connecting:
            await self._aside.ended(within=_PATIENCE)
            await self._unlink()

    async def _unlink(self) -> None:
        """Lets go of the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.drop()
            with suppress(Exception, asyncio.TimeoutError):
                await asyncio.wait_for(link.connection.close(), 5.0)

    # --- sending ------------------------------------------------------------------------------------------------

    async def _send(self, messages: Sequence[Message]) -> None:
        """Sends, some at once."""
        link = await self._linked()
        left = iter(messages)
        while some := list(islice(left, _AT_ONCE)):
            targets = [await self._target(link, message.delay) for message in some]
            await all_of(self._publish(link, *each) for each in zip(targets, some, strict=True))

    async def _publish(self, link: _Link, target: str, message: Message, **added: Any) -> None:
        """Sends a message to a queue; returns when it is confirmed.

        Raises:
            TransportError: The broker does not take it.
        """
        library = _library()
        own = library.spec.Basic.Properties(
            headers={**message.headers, **added}, message_id=uuid4().hex, delivery_mode=_PERSISTENT
        )
        try:
            await link.sending.basic_publish(message.body, routing_key=target, properties=own, mandatory=True)
        except library.exceptions.DeliveryError as error:
            if isinstance(error, library.exceptions.PublishError):
                link.failed = True  # somebody has deleted the queue: the next connection makes it anew
            raise TransportError(f"{self._where}: the broker does not take a message for {target}: {error}") from error

    async def _target(self, link: _Link, delay: float) -> str:
        """Names the queue by which a message comes after a delay."""
        if delay <= 0:
            return self.name
        milliseconds = _rounded(delay)
        name, now = f"{self.name}.delay.{milliseconds}", time.monotonic()
        if link.delays.get(name, 0.0) <= now:
            arguments = {
                **_dead_letters_to(self.name), "x-queue-type": "quorum", "x-message-ttl": milliseconds,
                "x-expires": milliseconds + int(_SLACK * 1000),
            }  # fmt: skip
            channel = await _channel(link.connection, confirms=False)
            await channel.queue_declare(name, durable=True, arguments=arguments)
            await channel.close()
            link.delays[name] = now + _SLACK / 4
        return name

    def _admit(self, messages: Sequence[Message]) -> None:
        """Refuses what could not be sent, before anything is."""
        super()._admit(messages)
        for message in messages:
            self._check_headers(message)

    def _check_headers(self, message: Message) -> None:
        """Refuses what would not fit into a frame.

        Raises:
            MessageTooLarge: The headers do not.
        """
        self._check_delay(message.delay)
        lengths = [len(text.encode()) + 8 for pair in message.headers.items() for text in pair]
        if sum(lengths) > _HEADERS_MAX or any(len(name.encode()) > _NAME_MAX for name in message.headers):
            raise MessageTooLarge(
                f"{self._where} takes at most {_HEADERS_MAX} bytes of headers, and {_NAME_MAX} in a name of one; "
                "nothing was sent. Put them into the body"
            )

    def _check_delay(self, delay: float) -> None:
        """Refuses what a queue cannot wait for.

        Raises:
            NotSupported: The delay is too long.
        """
        if delay > _DELAY_MAX:
            raise NotSupported(f"{self._where} delays for {_DELAY_MAX:g} s at most, not {delay:g}; nothing was done")

    # --- receiving ----------------------------------------------------------------------------------------------

    async def _receive(self, limit: int, wait: float) -> list[Delivery]:
        """Takes messages; if it is cancelled, those that it has taken go back."""
        stop = asyncio.Event()
        task = asyncio.ensure_future(self._take(limit, wait, stop))
        try:
            found = await asyncio.shield(task)
        except asyncio.CancelledError:
            stop.set()
            await ended(task)
            if not task.cancelled() and task.exception() is None:
                for held in task.result():
                    self._lapse(held)
            raise
        return [Delivery(message=_read(held.message), receipt=held.receipt, count=held.count) for held in found]

    async def _take(self, limit: int, wait: float, stop: asyncio.Event) -> list[_Held]:
        """Takes messages, and buries those that were delivered too often."""
        until = time.monotonic() + wait
        while True:
            link = await self._linked()
            came = list(self._strays(link, limit)) or await self._pull(link, limit, until, stop)
            found = [held for held in came if held.count <= self.max_deliveries]
            await all_of(self._return(link, held, 0.0, self._unheard) for held in came if held not in found)
            if found or stop.is_set() or time.monotonic() >= until:
                return found

    def _strays(self, link: _Link, limit: int) -> Iterator[_Held]:
        """Gives what came too late before."""
        while link.strays and limit > 0:
            held = link.strays.popleft()
            if held.receipt in link.held:
                limit -= 1
                yield held

    async def _pull(self, link: _Link, limit: int, until: float, stop: asyncio.Event) -> list[_Held]:
        """Takes messages from the broker: what is there, or the first that comes, at once."""
        came = await self._pull_waiting(link, limit)
        if not came and time.monotonic() < until and not stop.is_set():
            came = await self._consume(link, 1, until, stop)
        return came

    async def _pull_waiting(self, link: _Link, limit: int) -> list[_Held]:
        """Takes what is there: one by one, or all at once if that is many."""
        came: list[_Held] = []
        while len(came) < limit:
            message = await link.taking.basic_get(self.name, timeout=_PATIENCE)
            if message.delivery_tag is None:
                break
            came.append(self._hold(link, message))
            more = min(limit - len(came), message.message_count or 0)
            if more >= _MANY:
                came += await self._consume(link, more, None, asyncio.Event())
        return came

    async def _consume(self, link: _Link, limit: int, until: float | None, stop: asyncio.Event) -> list[_Held]:
        """Has the broker send so many messages; gives up at a time, or when none has come for a little while.

        The broker counts as delivered what it was sending to a consumer that is cancelled meanwhile. One that has its
        number gets nothing more, so nothing is on the way, and it is cancelled aside, before anything is acknowledged;
        the others are cancelled when nothing moves.
        """
        came: list[_Held] = []
        nudge = asyncio.Event()
        tag = uuid4().hex  # a new one: what is held counts against the limit of a consumer of the same name

        async def arrive(message: DeliveredMessage) -> None:
            came.append(self._hold(link, message))
            nudge.set()

        link.waiting.add(nudge)
        try:
            async with link.consuming:  # the limit holds for the consumer that follows it
                await link.taking.basic_qos(prefetch_count=limit, timeout=_PATIENCE)
                await link.taking.basic_consume(self.name, arrive, consumer_tag=tag, timeout=_PATIENCE)
            while len(came) < limit and not stop.is_set() and not link.lost:
                nudge.clear()
                before = len(came)
                await any_of(nudge, stop, seconds=_LULL if until is None else until - time.monotonic())
                if len(came) == before:
                    break
            leaving = self._aside.begin(link.taking.basic_cancel(tag, timeout=_PATIENCE))
            link.leaving.add(leaving)
            leaving.add_done_callback(link.leaving.discard)
            if len(came) < limit:
                await asyncio.wait([leaving])
        finally:
            link.waiting.discard(nudge)
        return came

    def _hold(self, link: _Link, message: DeliveredMessage) -> _Held:
        """Notes that a message is this consumer's."""
        headers = message.header.properties.headers or {}
        # From 4.3 on, RabbitMQ counts those whose connection was lost apart.
        returned = max(_number(headers.get("x-delivery-count")), _number(headers.get("x-acquired-count")))
        count = 1 + _number(headers.get(_COUNT)) + returned
        held = _Held(message, f"{link.name}.{message.delivery_tag}", count)
        link.held[held.receipt] = held
        self._time(held, self.visibility)
        return held

    def _time(self, held: _Held, seconds: float) -> None:
        """Has a message given back when its time is over."""
        if held.timer is not None:
            held.timer.cancel()
        held.timer = asyncio.get_running_loop().call_later(seconds, self._lapse, held, self._unheard)

    # --- what becomes of a delivery -----------------------------------------------------------------------------

    def _lapse(self, held: _Held, reason: str | None = None) -> None:
        """Gives a message back that nobody acknowledged, or that nobody saw."""
        link = self._link
        if link is not None and self._claim(link, held.receipt) is not None:
            if reason is None:
                # RabbitMQ counts that before 4.3 only.
                self._aside.spawn(self._tell(link, link.taking.basic_nack, held))
            else:
                self._aside.spawn(self._return(link, held, 0.0, reason))

    def _claim(self, link: _Link, receipt: str) -> _Held | None:
        """Takes a delivery out of what is held: from now on, it is dealt with."""
        held = link.held.pop(receipt, None)
        if held is not None and held.timer is not None:
            held.timer.cancel()
        return held

    async def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges those that are this consumer's; all of it, once it was begun."""
        await whole(self._acknowledge, deliveries)

    async def _acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Does it."""
        link, receipts = self._link, {delivery.receipt for delivery in deliveries}
        late = [receipt for receipt in receipts if not (link and receipt in link.held) and receipt not in self._settled]
        if link is not None:
            claimed = [self._claim(link, receipt) for receipt in receipts]
            tags = {held.tag for held in claimed if held is not None}
            await self._ack_tags(link, tags)
            self._settled.add(held.receipt for held in claimed if held is not None)
        if late:
            raise self._expired(late[0])

    async def _ack_tags(self, link: _Link, tags: Collection[int]) -> None:
        """Tells the broker of all of them; in one word, as far as nothing else is among them."""
        await link.left()
        reach = link.reach(tags)
        if reach > link.floor:
            await link.taking.basic_ack(reach, multiple=True)
            link.tell(*range(link.floor + 1, reach + 1))
        for tag in tags:
            if tag > reach:
                await link.taking.basic_ack(tag, wait=False)
                link.tell(tag)

    async def _nack(self, delivery: Delivery, delay: float, reason: str) -> None:
        """Gives a message back; to the end, once it was begun."""
        self._check_delay(delay)
        await whole(self._give_back, delivery, delay, reason)

    async def _give_back(self, delivery: Delivery, delay: float, reason: str) -> None:
        """Does it."""
        link = self._link
        held = self._claim(link, delivery.receipt) if link is not None else None
        if link is None or held is None:
            raise self._expired(delivery.receipt)
        await self._return(link, held, delay, reason)

    async def _return(self, link: _Link, held: _Held, delay: float, reason: str) -> None:
        """Has a message delivered again, or buries it."""
        try:
            if held.count >= self.max_deliveries:
                await self._bury(link, held, reason)
            elif delay > 0:
                await self._move(link, held, await self._target(link, delay))
            else:
                await self._tell(link, link.taking.basic_reject, held)
        except BaseException:
            self._hold_on(link, held)
            raise

    def _hold_on(self, link: _Link, held: _Held) -> None:
        """Keeps what could not be put elsewhere: it is tried again later, or the broker does it if we are lost."""
        if not link.lost:
            link.held[held.receipt] = held
            self._time(held, self.visibility)

    async def _bury(self, link: _Link, held: _Held, reason: str) -> None:
        """Puts a message to the dead letters; the broker itself would not keep the reason."""
        self._claim(link, held.receipt)
        held.count = min(held.count, self.max_deliveries)
        await self._move(link, held, self._dead, **{_REASON: reason})

    async def _move(self, link: _Link, held: _Held, target: str, **added: Any) -> None:
        """Puts a message elsewhere: a crash in between leaves both."""
        await self._publish(link, target, _read(held.message), **{_COUNT: held.count, **added})
        await self._tell(link, link.taking.basic_ack, held)

    async def _tell(self, link: _Link, what: Callable[[int], Awaitable[None]], held: _Held) -> None:
        """Says to the broker what becomes of a message."""
        await link.left()
        await what(held.tag)
        link.tell(held.tag)

    async def _extend(self, delivery: Delivery, seconds: float) -> None:
        """Has it given back later."""
        held = None if self._link is None else self._link.held.get(delivery.receipt)
        if held is None:
            raise self._expired(delivery.receipt)
        self._time(held, seconds)

    # --- dead letters -------------------------------------------------------------------------------------------

    async def _dead_letters(self, limit: int) -> list[DeadLetter]:
        """Takes dead letters, and gives them back. While somebody reads them, others do not see them."""
        link = await self._linked()
        channel = await _channel(link.connection, confirms=False)
        try:
            return [self._letter(message) async for message in _taken(channel, self._dead, limit)]
        finally:
            await ended(asyncio.ensure_future(channel.close()))

    async def _redrive(self, ids: Collection[str] | None) -> int:
        """Sends the chosen ones, and gives back the others."""
        link = await self._linked()
        channel = await _channel(link.connection, confirms=False)
        done = 0
        try:
            async for message in _taken(channel, self._dead, None):
                if ids is None or _id(message) in ids:
                    await self._publish(link, self.name, _read(message))
                    await channel.basic_ack(message.delivery_tag or 0)
                    done += 1
        finally:
            await ended(asyncio.ensure_future(channel.close()))
        return done

    def _letter(self, message: DeliveredMessage) -> DeadLetter:
        """Makes a dead letter."""
        headers = message.header.properties.headers or {}
        count = _number(headers.get(_COUNT)) or self.max_deliveries
        reason = str(headers.get(_REASON) or "its consumers were lost, or closed, before they acknowledged it")
        return DeadLetter(id=_id(message), message=_read(message), count=count, reason=reason)


class _Consumers(dict[str, Any]):
    """Aiormq's consumers, by name. It drops what comes for one that is gone; the broker would wait for its end."""

    def __init__(self, stray: Callable[[DeliveredMessage], Awaitable[None]]) -> None:
        super().__init__()
        self._stray = stray

    def get(self, key: str, default: object = None) -> Any:
        return super().get(key, default or self._stray)


def _library() -> ModuleType:
    """Gives aiormq, which is what aio-pika stands on.

    Aio-pika itself reconnects behind our back, and leaves tasks behind.

    Raises:
        TransportError: It is not installed.
    """
    return need_library("aiormq", broker="RabbitMQ", package="aio-pika", extra="rabbitmq")


async def _channel(connection: AbstractConnection, *, confirms: bool = True) -> AbstractChannel:
    """Opens a channel."""
    return await connection.channel(publisher_confirms=confirms, timeout=_PATIENCE)


def _with_heartbeat(url: str) -> str:
    """Has a lost connection noticed within half a minute, unless the URL says otherwise."""
    given = UrlSettings.of(url)
    return given._replace(rest={"heartbeat": "10", **given.rest}).url


def _dead_letters_to(queue: str) -> dict[str, Any]:
    """Where a queue's messages go in the end; none is lost on the way."""
    return {
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue, "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }  # fmt: skip


def _rounded(delay: float) -> int:
    """Rounds up to two digits of milliseconds: each delay has a queue of its own, and there must not be too many."""
    milliseconds = max(1, math.ceil(delay * 1000 - 1e-6))
    unit = int("1".ljust(len(str(milliseconds)) - 1, "0"))
    return -(-milliseconds // unit) * unit


def _read(message: DeliveredMessage) -> Message:
    """Gives what was sent."""
    headers = cast("Mapping[str, object]", message.header.properties.headers or {})
    return Message(
        body=bytes(message.body),
        headers={name: _text(value) for name, value in headers.items() if not name.startswith(_ADDED)},
    )


def _text(value: object) -> str:
    """Gives a header's value, whoever sent it."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _number(value: object) -> int:
    """Gives a header's value that is a number."""
    return value if isinstance(value, int) else 0


def _id(message: DeliveredMessage) -> str:
    """Names a message: by what its sender named it, or by what it is."""
    return message.header.properties.message_id or hashlib.sha256(message.body).hexdigest()


async def _taken(channel: AbstractChannel, queue: str, limit: int | None) -> AsyncIterator[DeliveredMessage]:
    """Takes what is in a queue now; what is not acknowledged goes back when the channel is closed."""
    for number in count(1):
        message = await channel.basic_get(queue, timeout=_PATIENCE)
        if message.delivery_tag is None:
            return
        yield message
        if number == limit or not message.message_count:
            return
