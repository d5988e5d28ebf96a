"""A queue on Kafka: a topic, read by a consumer group, with its dead letters in another topic.

Kafka gives each consumer of a group some partitions, and knows only how far it has come in each. So the rest happens
here: a consumer gives its own partitions' messages again when their time is over, and commits, beside the offset of the
first message that is not dealt with, what it knows of those behind it. Whoever gets the partition next reads that.
"""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from sagas.errors import MessageTooLarge, TransportError
from sagas.transport.aside import Aside, is_cut_off
from sagas.transport.broker_queue import AsyncioQueue
from sagas.transport.clients import UrlSettings, need_library
from sagas.transport.holds import Settled
from sagas.transport.opening import public_url
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from types import ModuleType

__all__ = ["KafkaQueue", "open_queue"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_SERVERS = re.compile(r"((^|,)([^:,\[\]]+|\[[^,\[\]]+\])(:\d+)?)+")
_COUNT, _REASON, _REDRIVEN = "sagas-count", "sagas-reason", "sagas-redriven"
_WINDOW = 500  # messages of a partition in hand: what is committed beside an offset has at most 4096 bytes
_NOTHING: Mapping[str, str] = {}
_DONE = 0  # instead of a count
_TRIES = 3  # to join the group
_PARTING = 5.0  # seconds for each of the last words
_FIRST = 5.0  # seconds that even an impatient receive waits for the first answer of the brokers
_SLICE = 0.2  # seconds after which a wait looks at what was given back meanwhile
_PER_HEADER = 20  # bytes beside a header's name and value
_NO_POLLS = 2**31 - 1  # milliseconds; whoever holds deliveries need not ask for more of them


def open_queue(url: str, *, queue: str, visibility: float, max_deliveries: int) -> KafkaQueue:
    """Makes a queue; see ``sagas.transport.QueueFactory``.

    The URL is ``kafka://host:9092,host:9092``. In its query may stand ``partitions=``, ``max_bytes=``, ``session=``,
    ``group=``, ``timeout=``, and, for users with a password, ``security_protocol=`` and ``sasl_mechanism=``.
    """
    given = UrlSettings.of(url, partitions=int, max_bytes=int, session=float, group=str, timeout=float)
    parts = urlsplit(url)
    options: dict[str, Any] = dict(given.rest)
    if parts.username is not None:
        options.setdefault("security_protocol", "SASL_SSL")
        options.update(sasl_plain_username=unquote(parts.username), sasl_plain_password=unquote(parts.password or ""))
    servers = parts.netloc.rpartition("@")[2]
    if not _SERVERS.fullmatch(servers):
        raise TransportError(f"{public_url(url)} is no URL of Kafka, such as kafka://host:9092,host:9092")
    return KafkaQueue(
        servers, queue, visibility=visibility, max_deliveries=max_deliveries, options=options, **given.ours
    )


@dataclass(eq=False, slots=True)
class _Entry:
    """A message in this consumer's hands.

    Attributes:
        record: What came.
        ready_at: When it can be delivered (again).
        count: How often it was.
        receipt: Of the delivery that somebody has; ``""`` if nobody does.
        done: Whether it is dealt with.
        reason: Why it was given back.
    """

    record: Any
    ready_at: float = 0.0
    count: int = 0
    receipt: str = ""
    done: bool = False
    reason: str = ""


@dataclass(eq=False, slots=True)
class _Part:
    """A partition that is this consumer's.

    Attributes:
        partition: Which.
        position: The offset behind the last message that came.
        known: What its last consumer knew of messages that have not come yet, by offset.
        entries: By offset; the first one is not done.
        dirty: Whether there is something to commit.
        unsaid: Receipts of what was acknowledged here and is not committed.
        leaving: Whether it is about to be somebody else's, so that nothing more of it is delivered.
    """

    partition: Any
    position: int
    known: dict[int, int]
    entries: dict[int, _Entry] = field(default_factory=dict[int, _Entry])
    dirty: bool = False
    unsaid: set[str] = field(default_factory=set[str])
    leaving: bool = False

    @property
    def has_room(self) -> bool:
        """Whether more of its messages may come."""
        return len(self.entries) < _WINDOW // 2

    def add(self, records: Iterable[Any]) -> None:
        """Takes what came."""
        for record in records:
            self.position = record.offset + 1
            count = self.known.pop(record.offset, None)
            self.entries[record.offset] = _Entry(record, count=count or 0, done=count == _DONE)
        self._forget()

    def finish(self, entry: _Entry) -> None:
        """Notes that a message is dealt with."""
        entry.done, entry.receipt, self.dirty = True, "", True
        self._forget()

    def _forget(self) -> None:
        """Leaves out what is done, up to the first that is not."""
        for offset in list(self.entries):
            if not self.entries[offset].done:
                break
            del self.entries[offset]

    def progress(self) -> tuple[int, str]:
        """Gives what is committed: where the next consumer begins, and what it has to know of the messages there."""
        first = min(self.entries, default=self.position)
        known = {offset: _DONE if each.done else each.count for offset, each in self.entries.items()}
        known.update(self.known)
        told = [f"{offset - first}:{count}" for offset, count in known.items() if self._tells(offset, count, first)]
        return first, ",".join(told)

    def _tells(self, offset: int, count: int, first: int) -> bool:
        """Says whether a next consumer would not find out by itself: it takes all to be new."""
        entry = self.entries.get(offset)
        return offset >= first and (count != 0 or entry is None or entry.done)


class KafkaQueue(AsyncioQueue):
    """A topic on Kafka; it is created when it is first used, if the broker lets us, and so is ``NAME.dead``.

    Args:
        servers: ``host:port``, several with commas between.
        queue: Name of the topic.
        visibility: See ``Queue``.
        max_deliveries: See ``Queue``.
        partitions: How many a new topic gets, which is how many consumers can share it.
        max_bytes: The largest message; no more than the broker's ``message.max.bytes`` less 48 kB.
        session: Seconds after which a consumer that is not heard of is taken for dead.
        group: The consumer group; by default, the queue's name.
        timeout: Seconds after which brokers that do not answer count as lost.
        options: More for aiokafka's clients, such as ``security_protocol`` and ``ssl_context``.
    """

    BROKER = "Kafka"
    OVER = ", or its partition is another consumer's now"

    def __init__(
        self,
        servers: str,
        queue: str,
        *,
        visibility: float = 30.0,
        max_deliveries: int = 5,
        partitions: int = 12,
        max_bytes: int = 1_000_000,
        session: float = 10.0,
        group: str | None = None,
        timeout: float = 20.0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        able = Capabilities(
            system="kafka",
            shared=False, groups=True, nack_delay=True, extend=True, dead_letters=True, max_bytes=max_bytes,
            max_batch=_WINDOW, late="refused",
        )  # fmt: skip
        super().__init__(queue, visibility=visibility, max_deliveries=max_deliveries, capabilities=able)
        self._options = {"bootstrap_servers": servers, **(options or {})}
        self._group, self._session, self._partitions = group or queue, session, partitions
        self._dead, self._timeout = f"{queue}.dead", timeout
        self._starting, self._fetching, self._committing = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._starts: set[asyncio.Future[object]] = set()
        self._admin: Any = None
        self._producer: Any = None
        self._consumer: Any = None
        self._trouble: Exception | None = None
        self._parts: dict[Any, _Part] = {}
        self._held: dict[str, tuple[_Part, _Entry]] = {}
        self._settled = Settled()
        self._aside = Aside()  # if it fails, it is done with the next of its kind

    # --- connecting ---------------------------------------------------------------------------------------------

    def _clients(self) -> dict[str, Any]:
        """Gives the options that all clients share."""
        options: dict[str, Any] = {"client_id": "sagas", "request_timeout_ms": 20_000, **self._options}
        if "SSL" in options.get("security_protocol", "") and "ssl_context" not in options:
            options["ssl_context"] = import_module("aiokafka.helpers").create_ssl_context()
        return options

    async def _have_producer(self) -> Any:
        """Gives what sends; has the topics."""
        async with self._starting:
            self._check_open()
            if self._producer is None:
                library = _library()
                most = (self.capabilities.max_bytes or 0) + 48_000
                if self._admin is None:
                    self._admin = await self._started(_admin()(**self._clients()))
                await self._have_topics()
                self._producer = await self._started(
                    library.AIOKafkaProducer(
                        acks="all", enable_idempotence=True, max_request_size=most, **self._clients()
                    )
                )
            return self._producer

    async def _started(self, client: Any, *, extra: float = 0.0) -> Any:
        """Starts a client; one that does not start, or is closed meanwhile, leaves nothing behind."""
        start: asyncio.Future[object] = asyncio.ensure_future(client.start())
        self._starts.add(start)
        try:
            async with asyncio.timeout(self._timeout + extra):
                await start
        except BaseException as error:
            await self._end(client)
            if is_cut_off(error):
                self._check_open()
            raise
        finally:
            self._starts.discard(start)
        return client

    async def _end(self, client: Any) -> None:
        """Stops a client. While its brokers are away, a producer that drops no message would wait for them for ever."""
        stopping = self._aside.begin(client.close() if hasattr(client, "close") else client.stop())
        seconds = min(_PARTING, self._timeout)
        await asyncio.wait([stopping], timeout=seconds)
        sender = getattr(getattr(client, "_sender", None), "sender_task", None)
        if sender is not None and not stopping.done():
            sender.cancel()
            client._message_accumulator.fail_all(TimeoutError())  # noqa: SLF001 - there is no other way
            await asyncio.wait([stopping], timeout=seconds)
        # Stopping may have failed half-way; closing connections twice does no harm.
        await asyncio.wait([self._aside.begin(_connections(client).close())], timeout=seconds)

    async def _have_topics(self) -> None:
        """Makes the topics, or leaves that to the broker, if it does not let us."""
        new = import_module("aiokafka.admin").NewTopic
        cluster = await self._admin.describe_cluster()
        if cluster["controller_id"] not in {broker["node_id"] for broker in cluster["brokers"]}:
            return  # there is nobody who could
        replicas = min(3, len(cluster["brokers"]))
        topics = [
            new(self.name, self._partitions, replicas),
            new(self._dead, 1, replicas, topic_configs={"retention.ms": "-1"}),
        ]
        for topic in topics:
            with suppress(_library().errors.KafkaError):  # it exists already, or is made when it is first used
                await self._admin.create_topics([topic])

    async def _have_consumer(self) -> Any:
        """Gives what receives; joins the group."""
        await self._have_producer()
        async with self._starting:
            self._check_open()
            if self._consumer is None:
                library = _library()
                consumer = library.AIOKafkaConsumer(
                    group_id=self._group, enable_auto_commit=False, auto_offset_reset="earliest",
                    session_timeout_ms=int(self._session * 1000), heartbeat_interval_ms=int(self._session * 100),
                    rebalance_timeout_ms=int((self.visibility + self._session) * 1000),
                    max_poll_interval_ms=_NO_POLLS, fetch_max_wait_ms=int(_SLICE * 1000), **self._clients(),
                )  # fmt: skip
                consumer.subscribe([self.name], listener=self._listener(library))
                self._consumer = consumer
                try:
                    await self._started(consumer, extra=self.visibility + self._session)  # others may leave slowly
                except BaseException:
                    self._consumer = None
                    raise
            return self._consumer

    def _listener(self, library: ModuleType) -> Any:
        """Makes what aiokafka tells of partitions that come and go."""
        queue = self

        class Listener(library.ConsumerRebalanceListener):  # type: ignore[name-defined,misc]  # a module's attribute
            async def on_partitions_revoked(self, revoked: Any) -> None:
                await queue._leave(revoked)

            async def on_partitions_assigned(self, assigned: Any) -> None:
                try:
                    await queue._enter(assigned)
                except Exception as error:  # noqa: BLE001 - aiokafka would only log it, and go on without
                    queue._trouble = error

        return Listener()

    async def _leave(self, revoked: Collection[Any]) -> None:
        """Gives partitions up: when what is held of them is dealt with, or its time is over."""
        parts = [self._parts[each] for each in revoked if each in self._parts]
        until = time.monotonic() + self.visibility
        for part in parts:
            part.leaving = True
        while (  # noqa: ASYNC110 - a delivery also ends by the clock
            not self._closed and time.monotonic() < until and any(self._holds(part) for part in parts)
        ):
            await asyncio.sleep(_SLICE / 10)
        with suppress(Exception):  # then the next consumer knows less, and gets more of them again
            await self._commit()
        for part in parts:
            self._parts.pop(part.partition, None)
        self._held = {name: held for name, held in self._held.items() if held[0].partition in self._parts}

    def _holds(self, part: _Part) -> bool:
        """Says whether somebody has a delivery of a partition."""
        now = time.monotonic()
        return any(entry.receipt and entry.ready_at > now for entry in part.entries.values())

    async def _enter(self, assigned: Collection[Any]) -> None:
        """Takes partitions up, with what their last consumer knew."""
        found = await self._admin.list_consumer_group_offsets(self._group, partitions=list(assigned))
        for partition in assigned:
            first, text = found.get(partition, (-1, ""))
            told = [pair.split(":") for pair in (text or "").split(",") if pair and first >= 0]
            known = {first + int(delta): int(count) for delta, count in told}
            self._parts[partition] = _Part(partition, max(0, first), known)

    async def _drop_consumer(self) -> None:
        """Lets go of a consumer that has failed; its partitions go to others."""
        async with self._starting:
            consumer, self._consumer, self._trouble = self._consumer, None, None
            self._parts.clear()
            self._held.clear()
            if consumer is not None:
                await self._end(consumer)

    async def _disconnect(self) -> None:
        """Disconnects; after what was begun."""
        for start in self._starts:
            start.cancel()
        async with self._starting:
            await self._aside.ended(within=_PARTING)
            with suppress(Exception):
                await self._commit()
            for client in (self._consumer, self._producer, self._admin):
                if client is not None:
                    await self._end(client)

    # --- sending ------------------------------------------------------------------------------------------------

    async def _send(self, messages: Sequence[Message]) -> None:
        """Sends messages."""
        await self._publish(self.name, [(message, _NOTHING) for message in messages])

    async def _publish(self, topic: str, messages: Sequence[tuple[Message, Mapping[str, str]]]) -> None:
        """Sends, side by side; returns when all replicas in sync have them."""
        producer, sent = await self._have_producer(), list[Any]()
        try:
            async with asyncio.timeout(self._timeout):  # the producer itself would try for ever
                for message, added in messages:
                    sent.append(await producer.send(topic, **_record(message, added)))
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
            for failure in outcomes:
                if isinstance(failure, BaseException):
                    raise failure
        except _library().errors.KafkaError as error:
            if _is_fatal(error) and self._producer is producer:
                self._producer = None  # it refuses all that follows, too
                self._aside.spawn(self._end(producer))
            raise
        finally:
            for future in sent:
                future.cancel()  # whose outcome nobody will look at

    def _admit(self, messages: Sequence[Message]) -> None:
        """Refuses what could not be sent, before anything is."""
        super()._admit(messages)
        for message in messages:
            self._check_size(message)

    def _check_size(self, message: Message) -> None:
        """Refuses what Kafka would refuse.

        Raises:
            MessageTooLarge: It has too many bytes.
        """
        size = message.size + _PER_HEADER * max(0, len(message.headers) - 100)
        if size > (self.capabilities.max_bytes or 0):
            raise MessageTooLarge(
                f"{self._where} takes at most {self.capabilities.max_bytes} bytes a message, and this one has {size} "
                "with its many headers; nothing was sent. Put them into the body"
            )

    # --- receiving ----------------------------------------------------------------------------------------------

    async def _receive(self, limit: int, wait: float) -> list[Delivery]:
        """Takes messages; joins the group, which takes some seconds, and again when its consumer has failed."""
        failures = _library().errors.KafkaError
        until = time.monotonic() + wait
        for left in reversed(range(_TRIES)):
            try:
                return await self._take(limit, until)
            except failures:
                self._check_open()
                await self._drop_consumer()
                if not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _take(self, limit: int, until: float) -> list[Delivery]:
        """Takes messages, and buries those that were delivered too often."""
        consumer = await self._have_consumer()
        seconds, patient = 0.0, time.monotonic() + _FIRST
        while True:
            if self._trouble is not None:
                raise _library().errors.KafkaError(str(self._trouble)) from self._trouble
            await self._fetch(consumer, limit, seconds)
            await self._bury_all()
            if found := [self._deliver(*each) for each in islice(self._free(), limit)]:
                self._aside.spawn(self._commit())  # how often they were delivered
                return found
            now = time.monotonic()
            if now >= until and (now >= patient or not self._is_behind(consumer)):
                return []
            seconds = min(max(until - now, _SLICE / 10), _SLICE)
            self._check_open()

    def _is_behind(self, consumer: Any) -> bool:
        """Says whether there are messages that did not come yet, or nobody knows yet."""
        return not self._parts or any(
            (consumer.highwater(part.partition) or 0) > part.position or consumer.highwater(part.partition) is None
            for part in self._parts.values()
            if part.has_room
        )

    async def _fetch(self, consumer: Any, limit: int, seconds: float) -> None:
        """Gets more messages, of partitions with room for them."""
        async with self._fetching:
            more = limit - sum(1 for _ in islice(self._free(), limit))
            parts = [each.partition for each in self._parts.values() if each.has_room]
            if not more:
                return
            if not parts:
                await asyncio.sleep(seconds)
                return
            found = await consumer.getmany(*parts, timeout_ms=int(seconds * 1000), max_records=min(more, _WINDOW // 2))
            for partition, records in found.items():
                if partition in self._parts:
                    self._parts[partition].add(records)

    def _free(self) -> Iterator[tuple[_Part, _Entry]]:
        """Gives what can be delivered now."""
        for part in list(self._parts.values()):
            blocked: set[bytes | None] = set()
            for entry in list(part.entries.values()):
                key = entry.record.key
                if not part.leaving and _is_ready(entry) and key not in blocked:
                    yield part, entry
                if key is not None and not entry.done:
                    blocked.add(key)  # whoever is first in a group keeps away all that are behind

    def _deliver(self, part: _Part, entry: _Entry) -> Delivery:
        """Gives a message to a consumer."""
        self._held.pop(entry.receipt, None)
        entry.count += 1
        entry.ready_at = time.monotonic() + self.visibility
        entry.receipt, entry.reason, part.dirty = uuid4().hex, "", True
        self._held[entry.receipt] = part, entry
        return Delivery(message=_read(entry.record), receipt=entry.receipt, count=entry.count)

    async def _bury_all(self) -> None:
        """Puts away what has been delivered too often."""
        for part in list(self._parts.values()):
            for entry in list(part.entries.values()):
                if _is_ready(entry) and entry.count >= self.max_deliveries and not part.leaving:
                    await self._bury(part, entry, entry.reason or self._unheard)

    async def _bury(self, part: _Part, entry: _Entry, reason: str) -> None:
        """Puts a message to the dead letters; a crash in between leaves both."""
        entry.ready_at = time.monotonic() + self.visibility  # others leave it alone meanwhile
        self._held.pop(entry.receipt, None)
        entry.receipt, entry.reason = "", reason
        await self._publish(self._dead, [(_read(entry.record), {_COUNT: str(entry.count), _REASON: reason})])
        part.finish(entry)
        await self._commit()

    # --- what becomes of a delivery -----------------------------------------------------------------------------

    def _find(self, receipt: str) -> tuple[_Part, _Entry] | None:
        """Finds the message of a delivery, if it is still its consumer's."""
        part, entry = self._held.get(receipt, (None, None))
        if part is None or entry is None or entry.receipt != receipt or entry.ready_at <= time.monotonic():
            return None
        return part, entry

    async def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledges; commits how far that brings its partitions. What was not committed is not acknowledged."""
        receipts = [delivery.receipt for delivery in deliveries]
        for receipt in receipts:
            part, entry = self._find(receipt) or (None, None)
            if part is not None and entry is not None:
                part.finish(entry)
                part.unsaid.add(receipt)
                del self._held[receipt]
        await self._commit()
        for receipt in receipts:
            if receipt not in self._settled:
                raise self._expired(receipt)

    async def _nack(self, delivery: Delivery, delay: float, reason: str) -> None:
        """Gives a message back. If this consumer is lost before the delay is over, the message comes earlier."""
        part, entry = self._find(delivery.receipt) or (None, None)
        if part is None or entry is None:
            raise self._expired(delivery.receipt)
        if entry.count >= self.max_deliveries:
            return await self._bury(part, entry, reason)
        del self._held[delivery.receipt]
        entry.receipt, entry.reason = "", reason
        entry.ready_at = time.monotonic() + delay
        return None

    async def _extend(self, delivery: Delivery, seconds: float) -> None:
        """Keeps a message for longer."""
        _, entry = self._find(delivery.receipt) or (None, None)
        if entry is None:
            raise self._expired(delivery.receipt)
        entry.ready_at = time.monotonic() + seconds

    async def _commit(self) -> None:
        """Has Kafka keep how far this consumer has come."""
        async with self._committing:
            dirty = [part for part in self._parts.values() if part.dirty]
            if not dirty or self._consumer is None:
                return
            unsaid = [(part, frozenset(part.unsaid)) for part in dirty]
            for part in dirty:
                part.dirty = False
            try:
                async with asyncio.timeout(self._timeout):
                    await self._consumer.commit({part.partition: part.progress() for part in dirty})
            except BaseException:
                for part in dirty:
                    part.dirty = True
                raise
            for part, said in unsaid:
                part.unsaid -= said
                self._settled.add(said)

    # --- dead letters -------------------------------------------------------------------------------------------

    async def _dead_letters(self, limit: int) -> list[DeadLetter]:
        """Reads the whole topic of them."""
        dead = await self._scan()
        return [self._letter(name, record) for name, record in list(dead.items())[:limit]]

    async def _scan(self) -> dict[str, Any]:
        """Reads the dead letters that were not redriven, by name."""
        producer, library = await self._have_producer(), _library()
        numbers = await producer.partitions_for(self._dead)
        partitions = [library.TopicPartition(self._dead, number) for number in sorted(numbers)]
        consumer = await self._started(
            library.AIOKafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **self._clients())
        )
        try:
            consumer.assign(partitions)
            async with asyncio.timeout(self._timeout):
                ends = await consumer.end_offsets(partitions)
            found = await self._until(consumer, ends)
        finally:
            await self._end(consumer)
        gone = {_headers(record).get(_REDRIVEN) for record in found}
        letters = [record for record in found if _REDRIVEN not in _headers(record)]
        named = {f"{record.partition}-{record.offset}": record for record in sorted(letters, key=_age)}
        return {name: record for name, record in named.items() if name not in gone}

    async def _until(self, consumer: Any, ends: Mapping[Any, int]) -> list[Any]:
        """Reads partitions from the beginning to an end; gives up when nothing comes."""
        read: list[Any] = []
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._timeout) as patience:
            await consumer.seek_to_beginning(*ends)
            while behind := [each for each, end in ends.items() if await consumer.position(each) < end]:
                found = await consumer.getmany(*behind, timeout_ms=1000)
                read += [record for records in found.values() for record in records]
                if found:
                    patience.reschedule(loop.time() + self._timeout)
        return read

    async def _redrive(self, ids: Collection[str] | None) -> int:
        """Sends dead letters again, and marks them. Two at the same time may send a message twice."""
        dead = await self._scan()
        chosen = {name: record for name, record in dead.items() if ids is None or name in ids}
        for name, record in chosen.items():
            await self._send([_read(record)])
            await self._publish(self._dead, [(Message(body=b""), {_REDRIVEN: name})])
        return len(chosen)

    def _letter(self, name: str, record: Any) -> DeadLetter:
        """Makes a dead letter."""
        headers = _headers(record)
        count = int(headers.get(_COUNT, self.max_deliveries))
        return DeadLetter(id=name, message=_read(record), count=count, reason=headers.get(_REASON, "nobody said why"))


def _library() -> ModuleType:
    """Gives aiokafka.

    Raises:
        TransportError: It is not installed.
    """
    return need_library("aiokafka", broker="Kafka", package="aiokafka", extra="kafka")


def _admin() -> Any:
    """Gives its client for topics and groups."""
    _library()
    return import_module("aiokafka.admin").AIOKafkaAdminClient


def _connections(client: Any) -> Any:
    """Gives what a producer, a consumer or an admin talks through."""
    return client.client if hasattr(client, "client") else client._client  # noqa: SLF001 - it is private of some


def _is_fatal(error: Any) -> bool:
    """Says whether a producer may be of no use after an error, as when brokers have forgotten it."""
    return not error.retriable and not isinstance(error, _library().errors.KafkaTimeoutError)


def _is_ready(entry: _Entry) -> bool:
    """Says whether a message could be delivered now."""
    return not entry.done and entry.ready_at <= time.monotonic()


def _record(message: Message, added: Mapping[str, str]) -> dict[str, Any]:
    """Gives a message the form that Kafka wants."""
    headers = [(name, value.encode()) for name, value in {**message.headers, **added}.items()]
    key = None if message.group is None else message.group.encode()
    return {"value": message.body, "key": key, "headers": headers}


def _headers(record: Any) -> dict[str, str]:
    """Gives a record's headers."""
    return {name: value.decode(errors="replace") for name, value in record.headers}


def _read(record: Any) -> Message:
    """Gives what was sent."""
    headers = {name: value for name, value in _headers(record).items() if name not in (_COUNT, _REASON, _REDRIVEN)}
    group = None if record.key is None else bytes(record.key).decode(errors="replace")
    return Message(body=bytes(record.value or b""), headers=headers, group=group)


def _age(record: Any) -> tuple[int, int]:
    """Orders records of several partitions."""
    return record.timestamp, record.offset
