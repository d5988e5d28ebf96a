"""A queue on NATS JetStream: a work-queue stream, one durable pull consumer, and a stream of dead letters.

    pip install "sagakit[nats]"

Of a queue ``payments`` the stream is ``sagas_payments``. Its messages are published to ``sagas.queue.payments``, those
that come later wait as the server's scheduled messages under ``sagas.later.payments.>``, and dead letters are kept in
the stream ``sagas_payments_dead``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, TypeVarTuple, cast
from urllib.parse import quote, unquote, urlsplit

import anyio

from sagas.errors import MessageTooLarge, NotSupported, TransportError
from sagas.transport.broker_queue import AsyncioQueue
from sagas.transport.clients import UrlSettings, need_library
from sagas.transport.holds import Holds
from sagas.transport.opening import public_url
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription
    from nats.js.api import RawStreamMsg, StreamConfig

__all__ = ["NatsQueue", "open_queue"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_CONSUMER = "sagas"
# Bytes that are kept free of a server's largest payload, for the names of headers and what is added to them.
_RESERVE = 16_384
# Seconds between signs of life; a connection is given up after two that were not answered.
_PING = 10
# How many messages are under way to the server before the first of them has to be confirmed.
_AT_ONCE = 500
# Seconds after which whoever waits asks again: the server does not take any number.
_NAP = 60.0
_LONGEST_REASON = 1000
_PLAIN = re.compile(r"(?:[!-$&-~](?:[ -$&-~]*[!-$&-~])?)?")
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DEDUP, _OWN_DEDUP, _COUNT, _REASON = "Nats-Msg-Id", "Sagas-Dedup-Id", "Sagas-Count", "Sagas-Reason"
_OURS = ("Nats-", "Sagas-")
_GONE = 404
_NOBODY = "503"
_WRONG_STREAM = 10058


class _Post(NamedTuple):
    """What is published, and answered by the server."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None


class NatsQueue(AsyncioQueue):
    """A queue on NATS JetStream.

    What was sent is in the server's file store when ``send`` returns. The server writes that to its disk at once only
    if it is told so (``sync_interval: always``) or if there are ``replicas``.

    Args:
        url: ``nats://user:password@host:4222``, or ``tls://…``; several hosts with commas in between.
        queue: Its name.
        visibility: See ``Queue``; the same for all that use the queue, since the server keeps it.
        max_deliveries: See ``Queue``.
        dedup_window: Seconds for which the server remembers a ``dedup_id``; heeded when the stream is made.
        replicas: On how many servers of a cluster each message is kept; heeded when the stream is made.
        max_bytes: The largest message; less where the server takes less.
        timeout: Seconds after which a server that does not answer counts as lost.
        options: More for ``nats.connect``, such as ``user_credentials`` or ``tls``.

    Raises:
        TransportError: The library ``nats-py`` is not installed.
    """

    BROKER = "NATS"
    ABLE = Capabilities(
        system="nats",
        ordered=True, groups=False, delay=True, nack_delay=True, extend=True, dedup_window=120.0, dead_letters=True,
        max_bytes=1_000_000, max_batch=100, late="refused",
    )  # fmt: skip

    def __init__(
        self,
        url: str = "nats://localhost:4222",
        *,
        queue: str,
        visibility: float = 30.0,
        max_deliveries: int = 5,
        dedup_window: float = 120.0,
        replicas: int = 1,
        max_bytes: int = 1_000_000,
        timeout: float = 10.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        need_library("nats", broker="NATS", package="nats-py", extra="nats")
        super().__init__(
            queue, visibility=visibility, max_deliveries=max_deliveries, place=public_url(url),
            capabilities=replace(self.ABLE, dedup_window=dedup_window, max_bytes=max_bytes),
        )  # fmt: skip
        self._names = _Names.of(queue)
        self._dedup_window = dedup_window
        self._max_bytes = max_bytes
        self._replicas = replicas
        self._timeout = timeout
        self._options = {"servers": _servers(url), "name": "sagas", **(options or {})}
        self._opening: asyncio.Task[_Link] | None = None
        self._link: _Link | None = None
        self._ahead = 0.0
        self._held: Holds[_Link] = Holds()  # with the connection by which each came

    async def _disconnect(self) -> None:
        """Closes the connection, or has nobody open it."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._link is not None:
            await self._link.close()

    def _admit(self, messages: Sequence[Message]) -> None:
        """Waits with that until the server has said what it takes."""

    # --- sending ------------------------------------------------------------------------------------------------

    async def _send(self, messages: Sequence[Message]) -> None:
        """Publishes messages, and waits until all are stored."""
        link = await self._connect()
        self.capabilities.admit(messages, where=self._where)
        posts = [self._post(message) for message in messages]
        for post in posts:
            self._check_size(post, link.client.max_payload)
        for first in range(0, len(posts), _AT_ONCE):
            for answer in await link.ask(posts[first : first + _AT_ONCE]):
                self._check_answer(answer)

    def _post(self, message: Message) -> _Post:
        """Makes what is published of a message."""
        headers = self._headers(message)
        if message.dedup_id is not None:
            headers[_DEDUP] = _quoted(message.dedup_id)
        if message.delay <= 0:
            return _Post(self._names.subject, message.body, headers or None)
        if message.dedup_id is not None:
            headers[_OWN_DEDUP] = headers[_DEDUP]  # the server keeps the other one to itself
        at = datetime.fromtimestamp(time.time() + self._ahead + message.delay, UTC)
        headers |= {"Nats-Schedule": f"@at {at:%Y-%m-%dT%H:%M:%S.%fZ}", "Nats-Schedule-Target": self._names.subject}
        assert self._link is not None, "it was connected before"
        return _Post(f"{self._names.later}.{self._link.token()}", message.body, headers)

    def _headers(self, message: Message) -> dict[str, str]:
        """Makes headers as NATS has them.

        Raises:
            NotSupported: A name cannot be one.
        """
        for name in message.headers:
            if not _HEADER_NAME.fullmatch(name):
                raise NotSupported(f"{self._where} cannot carry a header called {name!r}; nothing was sent")
        return {name: _quoted(value) for name, value in message.headers.items()}

    def _check_size(self, post: _Post, largest: int) -> None:
        """Refuses what the server would, who counts more than ``Message.size`` where there are many headers.

        Raises:
            MessageTooLarge: It is.
        """
        headers = post.headers or {}
        size = len(post.payload) + 12 + sum(len(name) + len(value) + 4 for name, value in headers.items())
        if size > largest:
            raise MessageTooLarge(
                f"{self._where}: the server takes at most {largest} bytes, and this message has {size} with all its "
                "headers; nothing was sent. Store the data elsewhere, and send a reference to it"
            )

    def _check_answer(self, answer: Msg) -> dict[str, Any]:
        """Reads what JetStream says.

        Raises:
            TransportError: It has refused.
        """
        found: dict[str, Any] = json.loads(answer.data)
        if "error" in found:
            raise TransportError(f"{self._where}: the server refused: {found['error'].get('description', found)}")
        return found

    # --- receiving ----------------------------------------------------------------------------------------------

    async def _receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Pulls messages; what was delivered too often is not given to anybody."""
        until = time.monotonic() + wait
        while True:
            link = await self._connect()
            arrived = await link.pull(limit, min(_NAP, until - time.monotonic()))
            found = [self._delivery(msg, link) for msg in arrived]
            spent = [delivery for delivery in found if delivery.count > self.max_deliveries]
            for delivery in spent:
                await self._bury(delivery, self._unheard)
            if spent:
                found = [delivery for delivery in found if delivery.count <= self.max_deliveries]
            if found or (not arrived and time.monotonic() >= until):
                return found

    def _delivery(self, msg: Msg, link: _Link) -> Delivery:
        """Makes a delivery, and notes until when it is ours."""
        self._held.put(msg.reply, time.monotonic() + self.visibility, link)
        return Delivery(message=_message(msg.data, msg.headers), receipt=msg.reply, count=_Place.of(msg.reply).times)

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        """Moves a message to the dead letters; twice is once, since it has a subject of its own there."""
        link = await self._connect()
        headers = self._headers(delivery.message)
        if delivery.message.dedup_id is not None:
            headers[_OWN_DEDUP] = _quoted(delivery.message.dedup_id)
        headers |= {
            _COUNT: str(min(delivery.count, self.max_deliveries)),
            _REASON: _quoted(reason[:_LONGEST_REASON]),
        }
        subject = self._names.dead_subject(_Place.of(delivery.receipt).number)
        (answer,) = await link.ask([_Post(subject, delivery.message.body, headers)])
        self._check_answer(answer)
        await self._finish(link, [delivery.receipt])

    # --- what becomes of a delivery -----------------------------------------------------------------------------

    async def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Confirms messages; all in one go."""
        link = await self._connect()
        held = {delivery.receipt for delivery in deliveries if delivery.receipt in self._held}
        late = [delivery for delivery in deliveries if delivery.receipt not in held]
        await self._finish(link, list(held))
        for delivery in late:
            if await self._is_left(link, delivery):
                raise self._expired(delivery.receipt)

    async def _finish(self, link: _Link, receipts: Sequence[str]) -> None:
        """Ends deliveries.

        A server that was restarted may have forgotten a delivery, and then hears no answer to it; but it knows the
        message.
        """
        posts: list[_Post] = []
        for receipt in receipts:
            if self._held.note(receipt) in (link, None):  # it may have ended otherwise meanwhile
                posts.append(_Post(receipt, b"+ACK"))
            else:
                asked = json.dumps({"seq": _Place.of(receipt).number, "no_erase": True}).encode()
                posts.append(_Post(f"$JS.API.STREAM.MSG.DELETE.{self._names.stream}", asked))
        for receipt, answer in zip(receipts, await link.ask(posts), strict=True):
            if b'"error"' in answer.data and await self._is_here(link, receipt):
                self._check_answer(answer)
        for receipt in receipts:
            self._held.end(receipt)

    async def _is_here(self, link: _Link, receipt: str) -> bool:
        """Says whether a message is there still, and not dead."""
        asked = json.dumps({"seq": _Place.of(receipt).number}).encode()
        (answer,) = await link.ask([_Post(f"$JS.API.STREAM.MSG.GET.{self._names.stream}", asked)])
        return _is_there(answer)

    async def _nack(self, delivery: Delivery, delay: float, reason: str) -> None:
        """Gives a message back, or buries it."""
        link = await self._connect()
        self._need_held(delivery)
        if delivery.count >= self.max_deliveries:
            await self._bury(delivery, reason)
        elif await self._is_known(link, delivery):
            await link.ask([_Post(delivery.receipt, _put_off(delay) if delay > 0 else b"-NAK")])
        self._held.end(delivery.receipt)

    async def _extend(self, delivery: Delivery, seconds: float) -> None:
        """Says when the message is due again.

        The server's own sign of life holds it for ``visibility``, neither more nor less. Giving it back with a delay
        says how long: until then nobody else gets it, and it can still be acknowledged.
        """
        link = await self._connect()
        self._need_held(delivery)
        if not await self._is_known(link, delivery):
            self._held.end(delivery.receipt)
            raise self._expired(delivery.receipt)
        began = time.monotonic()
        await link.ask([_Post(delivery.receipt, b"+WPI" if seconds == self.visibility else _put_off(seconds))])
        self._held.extend(delivery.receipt, began + seconds)

    async def _is_known(self, link: _Link, delivery: Delivery) -> bool:
        """Says whether the server remembers a delivery; one that was restarted may not, and delivers it anew."""
        came_by = self._held.note(delivery.receipt)
        if came_by in (link, None):
            return came_by is not None
        (answer,) = await link.ask([_Post(f"$JS.API.CONSUMER.INFO.{self._names.stream}.{_CONSUMER}")])
        last = self._check_answer(answer)["delivered"]["stream_seq"]
        return bool(last >= _Place.of(delivery.receipt).number)

    def _need_held(self, delivery: Delivery) -> None:
        """Refuses to touch what is somebody else's. The server would take an answer from anybody, at any time.

        Raises:
            DeliveryExpired: It is.
        """
        if delivery.receipt not in self._held:
            raise self._expired(delivery.receipt)

    async def _is_left(self, link: _Link, delivery: Delivery) -> bool:
        """Says whether a message that is not ours is there still, alive or dead, so that it is not dealt with."""
        number = _Place.of(delivery.receipt).number
        here, dead = await link.ask(
            [
                _Post(f"$JS.API.STREAM.MSG.GET.{self._names.stream}", json.dumps({"seq": number}).encode()),
                _Post(
                    f"$JS.API.STREAM.MSG.GET.{self._names.dead}",
                    json.dumps({"last_by_subj": self._names.dead_subject(number)}).encode(),
                ),
            ]
        )
        return _is_there(here) or _is_there(dead)

    # --- dead letters -------------------------------------------------------------------------------------------

    async def _dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """Reads the stream of dead letters from its beginning."""
        return [_dead_letter(number, msg) async for number, msg in self._graves(limit)]

    async def _graves(self, limit: int | None) -> AsyncIterator[tuple[int, RawStreamMsg]]:
        """Goes through the dead letters."""
        from nats.js.errors import NotFoundError

        link = await self._connect()
        number, seen = 1, 0
        while limit is None or seen < limit:
            try:
                msg = await link.jetstream.get_msg(self._names.dead, seq=number, subject=">", next=True, direct=True)
            except NotFoundError:
                return
            assert msg.seq is not None, "the server has found it"
            yield msg.seq, msg
            number, seen = msg.seq + 1, seen + 1

    async def _redrive(self, ids: Collection[str] | None) -> int:
        """Publishes dead letters anew, and then deletes them."""
        done = 0
        link = await self._connect()
        async for number, msg in self._graves(None):
            letter = _dead_letter(number, msg)
            if ids is not None and letter.id not in ids:
                continue
            headers = self._headers(letter.message)
            if letter.message.dedup_id is not None:
                headers[_OWN_DEDUP] = _quoted(letter.message.dedup_id)
            headers[_DEDUP] = f"redriven {self._names.dead} {number}"  # if the next call fails, and this comes again
            (answer,) = await link.ask([_Post(self._names.subject, letter.message.body, headers)])
            self._check_answer(answer)
            await link.jetstream.delete_msg(self._names.dead, number)
            done += 1
        return done

    # --- the connection -----------------------------------------------------------------------------------------

    async def _connect(self) -> _Link:
        """Gives the connection; makes a new one if there is none, or it was lost.

        That has a task of its own: all who need it wait for the same, and the library loses cancellations meanwhile.
        """
        if self._link is not None and not self._link.lost:
            return self._link
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> _Link:
        """Makes a connection."""
        link = _Link(self._names, self._timeout)
        try:
            await link.open(self._options)
            self._learn(link, await link.prepare(self._stream(), self.visibility))
            self._check_open()
        except BaseException:
            await link.close()
            raise
        self._link = link
        return link

    def _stream(self) -> StreamConfig:
        """Says what the stream has to be like."""
        from nats.js.api import RetentionPolicy, StorageType, StreamConfig

        return StreamConfig(
            name=self._names.stream,
            subjects=[self._names.subject, f"{self._names.later}.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            duplicate_window=self._dedup_window,
        )

    def _learn(self, link: _Link, found: _Found) -> None:
        """Declares what this server and this stream can do."""
        self.capabilities = replace(
            self.capabilities,
            max_bytes=min(self._max_bytes, link.client.max_payload - _RESERVE),
            dedup_window=found.stream.duplicate_window or None,
            delay=bool(found.stream.allow_msg_schedules),
        )
        self._ahead = found.ahead


# --- the connection ---------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    """What the server has: the stream, and by how many seconds its clock is ahead of ours."""

    stream: StreamConfig
    ahead: float


@dataclass(slots=True, eq=False)
class _Call:
    """Answers that somebody waits for: so many, or until the server says that these are all."""

    wanted: int
    ended: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    answers: dict[int, Msg] = field(default_factory=dict[int, "Msg"])
    refusal: Mapping[str, str] = field(default_factory=dict[str, str])

    def take(self, number: int, msg: Msg) -> None:
        """Adds one."""
        self.answers[number] = msg
        if len(self.answers) == self.wanted:
            self.end()

    def end(self, error: Exception | None = None) -> None:
        """Ends the wait."""
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
            self.ended.exception()  # whoever waited may have left


class _Inlet:
    """Where messages arrive that one pull at a time has asked for."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.subscription: Subscription | None = None
        self.call: _Call | None = None
        self.number = 0

    async def heard(self, msg: Msg) -> None:
        """Takes a message, or the news that there is none."""
        if self.call is None:
            return
        if msg.reply:
            self.call.take(len(self.call.answers), msg)
            return
        if msg.subject.rpartition(".")[2] != str(self.number):
            return  # of a pull before this one, which had all that it wanted
        headers = dict(msg.headers or {})
        status = headers.get("Status", "")
        if self.call.answers or status in ("404", "408", _NOBODY):
            self.call.refusal = headers
            self.call.end()
        else:
            self.call.end(ConnectionError(f"it says {status} {headers.get('Description', '')}".rstrip()))


class _Link:
    """One connection. When it is lost, all that is under way fails, and another one is made for the next call."""

    def __init__(self, names: _Names, timeout: float) -> None:
        from nats.aio.client import Client

        self.client: Any = Client()  # whose types are there in part only
        self.jetstream: Any = None
        self.lost = False
        self._names = names
        self._timeout = timeout
        self._numbers = count(1)
        self._calls: dict[str, _Call] = {}
        self._inlets: list[_Inlet] = []  # those that nobody uses
        self._pulls: set[_Call] = set()
        self._root = ""
        self._trouble: Exception | None = None

    async def open(self, options: Mapping[str, Any]) -> None:
        """Connects."""
        async with asyncio.timeout(self._timeout):
            await self.client.connect(
                **{"connect_timeout": self._timeout, "ping_interval": _PING, "max_reconnect_attempts": 1,
                   "reconnect_time_wait": 0, **options},
                allow_reconnect=False, error_cb=self._note, closed_cb=self._fail,
            )  # fmt: skip
        self.jetstream = self.client.jetstream(timeout=self._timeout)
        self._root = self.client.new_inbox()
        await self._listen(f"{self._root}.a.*.*", self._answered)

    async def prepare(self, wanted: StreamConfig, visibility: float) -> _Found:
        """Makes the streams and the consumer, where they are not there."""
        from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

        stream = await self._ensure(self._with_schedules(wanted))
        await self._ensure(
            StreamConfig(
                name=self._names.dead, subjects=[self._names.dead_subject("*")], storage=StorageType.FILE,
                num_replicas=wanted.num_replicas, max_msgs_per_subject=1, allow_direct=True,
            )
        )  # fmt: skip
        await self.jetstream.add_consumer(
            self._names.stream,
            ConsumerConfig(
                durable_name=_CONSUMER, ack_policy=AckPolicy.EXPLICIT, ack_wait=visibility, max_deliver=-1,
                max_ack_pending=-1, max_waiting=4096, filter_subject=self._names.subject,
            ),
        )  # fmt: skip
        return _Found(stream, await self._ahead())

    def _with_schedules(self, wanted: StreamConfig) -> StreamConfig:
        """Asks for scheduled messages, of servers that know them."""
        version = self.client.connected_server_version
        wanted.allow_msg_schedules = True if (version.major, version.minor) >= (2, 12) else None
        return wanted

    async def _ensure(self, wanted: StreamConfig) -> StreamConfig:
        """Makes a stream; one that is there already stays as it is."""
        from nats.js.errors import BadRequestError

        try:
            return cast("StreamConfig", (await self.jetstream.add_stream(wanted)).config)
        except BadRequestError as error:
            if error.err_code != _WRONG_STREAM:
                raise
        assert wanted.name is not None, "we have named it"
        found = cast("StreamConfig", (await self.jetstream.stream_info(wanted.name)).config)
        if found.retention != (wanted.retention or "limits"):
            raise TransportError(f"the stream {wanted.name} is none of ours: its retention is {found.retention}")
        return found

    async def _ahead(self) -> float:
        """Reads the server's clock, since it is the server who sends what is scheduled."""
        (answer,) = await self.ask([_Post(f"$JS.API.STREAM.INFO.{self._names.stream}")])
        said = json.loads(answer.data).get("ts", "")
        try:
            return datetime.fromisoformat(said).timestamp() - time.time()
        except ValueError:
            return 0.0

    def token(self) -> str:
        """Gives what no other connection has for a subject."""
        return f"{self._root.rpartition('.')[2]}{next(self._numbers)}"

    # --- questions ----------------------------------------------------------------------------------------------

    async def ask(self, posts: Sequence[_Post]) -> list[Msg]:
        """Publishes, in order and in one go, and waits until all is answered.

        Raises:
            TransportError: The connection was lost, or there was no answer in time.
        """
        if not posts:
            return []
        call, number = _Call(len(posts)), str(next(self._numbers))
        self._calls[number] = call
        try:
            for index, post in enumerate(posts):
                await self._publish(post, f"{self._root}.a.{number}.{index}")
            await self._wait(call, self._timeout)
        finally:
            del self._calls[number]
        for answer in call.answers.values():
            await self._need_anybody(answer.headers or {})
        return [call.answers[index] for index in range(len(posts))]

    async def _need_anybody(self, headers: Mapping[str, str]) -> None:
        """Gives the connection up when nobody hears us: the next one makes anew what somebody has deleted.

        Raises:
            ConnectionError: Nobody does.
        """
        if headers.get("Status") == _NOBODY:
            await self.close()
            raise ConnectionError(f"nobody keeps the stream {self._names.stream}, or its consumer, at the moment")

    async def _publish(self, post: _Post, reply: str) -> None:
        """Publishes one."""
        self._check()
        await self.client.publish(post.subject, post.payload, reply=reply, headers=post.headers)

    async def _wait(self, call: _Call, seconds: float) -> None:
        """Waits; a server that does not answer is no better than one that is gone."""
        self._check()
        try:
            async with asyncio.timeout(seconds):
                await call.ended
        except TimeoutError:
            await self.close()
            raise TimeoutError(f"no answer within {seconds:g} s") from None

    async def _answered(self, msg: Msg) -> None:
        """Hands an answer to whoever asked."""
        number, _, index = msg.subject[len(self._root) + 3 :].partition(".")
        call = self._calls.get(number)
        if call is not None:
            call.take(int(index), msg)

    # --- messages -----------------------------------------------------------------------------------------------

    async def pull(self, limit: int, wait: float) -> list[Msg]:
        """Asks for what is there or, if there is nothing, for the first that comes."""
        self._check()
        inlet = self._inlets.pop() if self._inlets else await self._open_inlet()
        call = inlet.call = _Call(limit)
        inlet.number = next(self._numbers)
        self._pulls.add(call)
        asked: dict[str, Any] = {"batch": limit, "no_wait": True}
        if wait > 0:
            asked["expires"] = max(1_000_000, int(wait * 1e9))
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._names.stream}.{_CONSUMER}"
        try:
            await self._publish(_Post(subject, json.dumps(asked).encode()), f"{inlet.subject}.{inlet.number}")
            await self._wait(call, max(0.0, wait) + self._timeout)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._abandon(inlet)
            raise
        finally:
            self._pulls.discard(call)
        found, inlet.call = list(call.answers.values()), None
        self._inlets.append(inlet)
        await self._need_anybody(call.refusal)
        return found

    async def _open_inlet(self) -> _Inlet:
        """Makes another place for messages."""
        inlet = _Inlet(f"{self._root}.m.{next(self._numbers)}")
        inlet.subscription = await self._listen(f"{inlet.subject}.*", inlet.heard)
        return inlet

    async def _abandon(self, inlet: _Inlet) -> None:
        """Leaves a pull: the server sees it, and keeps what comes for others. What came already is given back."""
        call, inlet.call = inlet.call, None
        if self.lost or inlet.subscription is None or call is None:
            return
        await inlet.subscription.unsubscribe()
        for msg in call.answers.values():
            await self.client.publish(msg.reply, b"-NAK")

    async def _listen(self, subject: str, heard: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Subscribes; nothing is dropped, since we ask for no more than we want."""
        opened = await self.client.subscribe(subject, cb=heard, pending_msgs_limit=0, pending_bytes_limit=0)
        return cast("Subscription", opened)

    # --- the end ------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Refuses to use a connection that is lost.

        Raises:
            TransportError: It is.
        """
        if self.lost:
            raise self._lost()

    def _lost(self) -> ConnectionError:
        """Says so."""
        return ConnectionError(f"the connection was lost: {self._trouble}")

    async def _note(self, error: Exception) -> None:
        """Remembers what went wrong."""
        self._trouble = error

    async def _fail(self) -> None:
        """Ends all that is under way."""
        self.lost = True
        self._trouble = self.client.last_error or self._trouble
        for call in [*self._calls.values(), *self._pulls]:
            call.end(self._lost())

    async def close(self) -> None:
        """Disconnects."""
        with contextlib.suppress(AssertionError):  # of the library, if it has never begun to connect
            await self.client.close()
        await self._fail()


# --- names and messages -----------------------------------------------------------------------------------------


class _Names(NamedTuple):
    """What belongs to a queue on the server."""

    stream: str
    subject: str
    later: str
    dead: str

    @classmethod
    def of(cls, queue: str) -> _Names:
        """Makes them; a dot, a space or a wildcard in a queue's name means nothing to the server."""
        name = quote(queue, safe="").replace(".", "%2E")
        return cls(f"sagas_{name}", f"sagas.queue.{name}", f"sagas.later.{name}", f"sagas_{name}_dead")

    def dead_subject(self, number: int | str) -> str:
        """Gives the subject of a dead letter, which was the message of this number."""
        return f"sagas.dead.{self.subject.rpartition('.')[2]}.{number}"


class _Place(NamedTuple):
    """What the subject says to which a delivery is answered: the message's number, and how often it was delivered."""

    number: int
    times: int

    @classmethod
    def of(cls, reply: str) -> _Place:
        """Reads it: ``$JS.ACK.stream.consumer.count.number…``, perhaps with a domain and an account before these."""
        tokens = reply.split(".")
        first = 4 if len(tokens) == 9 else 6  # noqa: PLR2004 - as JetStream has it
        return cls(int(tokens[first + 1]), int(tokens[first]))


def _message(body: bytes | None, headers: Mapping[str, str] | None) -> Message:
    """Makes a message of what the server has."""
    found = headers or {}
    dedup = found.get(_OWN_DEDUP, found.get(_DEDUP))
    return Message(
        body=bytes(body or b""),
        headers={
            name.lower(): unquote(value) if "%" in value else value
            for name, value in found.items()
            if not name.startswith(_OURS)
        },
        dedup_id=None if dedup is None else unquote(dedup),
    )


def _is_there(answer: Msg) -> bool:
    """Says whether a message was found, or may be there."""
    return bool(json.loads(answer.data).get("error", {}).get("code") != _GONE)


def _dead_letter(number: int, msg: RawStreamMsg) -> DeadLetter:
    """Makes a dead letter of what the server has."""
    headers = cast("Mapping[str, str]", msg.headers or {})  # pyright: ignore[reportUnknownMemberType]  # untyped there
    return DeadLetter(
        id=str(number),
        message=_message(msg.data, headers),
        count=int(headers.get(_COUNT, "0")),
        reason=unquote(headers.get(_REASON, "")),
    )


def _quoted(value: str) -> str:
    """Writes a value so that it arrives as it is: clients strip headers, and CloudEvents quotes them like this."""
    if _PLAIN.fullmatch(value):
        return value
    text = quote(value, safe=_PRINTABLE)
    inner = text.strip(" ")
    left = len(text) - len(text.lstrip(" "))
    return "%20" * left + inner + "%20" * (len(text) - left - len(inner))


def _put_off(seconds: float) -> bytes:
    """Says when a message is due again."""
    return b"-NAK " + json.dumps({"delay": max(1, int(seconds * 1e9))}).encode()


# --- the library, and URLs --------------------------------------------------------------------------------------


def open_queue(url: str, *, queue: str, visibility: float, max_deliveries: int) -> NatsQueue:
    """Makes the queue that a URL names: see ``sagas.transport.open_queue``.

    In the URL's query there may be ``dedup_window``, ``replicas``, ``max_bytes``, ``timeout``, and ``credentials``,
    the file of a user's credentials.

    Raises:
        TransportError: ``nats-py`` is not installed, or the query says what nobody knows.
    """
    given = UrlSettings.all_of(url, dedup_window=float, replicas=int, max_bytes=int, timeout=float, credentials=str)
    settings = given.ours
    options = {"user_credentials": settings.pop("credentials")} if "credentials" in settings else {}
    return NatsQueue(
        given.plain, queue=queue, visibility=visibility, max_deliveries=max_deliveries, options=options, **settings
    )


def _servers(url: str) -> list[str]:
    """Splits ``nats://user@one:4222,two:4222``."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [f"{parts.scheme}://{user}{at}{host}" for host in hosts.split(",")]
