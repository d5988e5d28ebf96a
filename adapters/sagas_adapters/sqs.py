"""A queue on Amazon SQS, standard or FIFO, with its dead letters in another one.

SQS counts in whole seconds: what is given is rounded up. Its clients are synchronous, so they run in threads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
from anyio import to_thread

from sagas.errors import MessageTooLarge, NotSupported, TransportError
from sagas.transport.broker_queue import BrokerQueue
from sagas.transport.clients import UrlSettings, need_library
from sagas.transport.holds import Holds, Settled
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from types import ModuleType

__all__ = ["SqsQueue", "open_queue"]

T = TypeVar("T")

_BATCH = 10
_ATTRIBUTES = 10
_DELAY_MAX = 900.0
_VISIBILITY_MAX = 43_200.0
_LONGEST = 14 * 86_400  # seconds that SQS keeps a message at most
_LOOK = 30  # seconds for which dead letters are taken to be read
_POLL = 5.0  # seconds that one request waits; a thread that was given up ends no later
_THREADS = 32
_OVERHEAD = 4_096  # bytes of a message for what this module adds
_OWN = "sagas"  # the attribute for what has no place elsewhere
_ALONE = "sagas.alone."  # begins the group of a message that has none, which FIFO queues do not know
_TEXT = re.compile(r"[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_NAME = re.compile(r"(?!AWS\.|Amazon\.|sagas$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", re.IGNORECASE)
_ID = re.compile(r"[A-Za-z0-9!\"#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~-]{1,128}")
_GONE = ("ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue")


def open_queue(url: str, *, queue: str, visibility: float, max_deliveries: int) -> SqsQueue:
    """Makes a queue; see ``sagas.transport.QueueFactory``.

    The URL is ``sqs://REGION``, or ``sqs://`` for the region of the environment; ``endpoint=`` and ``message_bytes=``
    may stand in its query.
    """
    given = UrlSettings.all_of(url, endpoint=str, message_bytes=int)
    region = urlsplit(url).hostname
    return SqsQueue(queue, region=region, visibility=visibility, max_deliveries=max_deliveries, **given.ours)


@dataclass(slots=True)
class _Poll:
    """A request that waits for messages.

    Attributes:
        scope: To end the wait.
        left: Whether nobody waits for it any more.
    """

    scope: anyio.CancelScope
    left: bool = False


class SqsQueue(BrokerQueue):
    """A queue on SQS. It is created when it is first used, if it is not there, and so is the one of its dead letters.

    Args:
        queue: Its name; one that ends in ``.fifo`` keeps the order of groups.
        region: Where it is; by default, what boto3 finds out.
        endpoint: URL of another service that speaks like SQS.
        visibility: See ``Queue``; at most 12 hours.
        max_deliveries: See ``Queue``; an existing queue has to have it in its redrive policy.
        message_bytes: The largest message that SQS takes, as it travels: 262144, or up to 1048576 where the queue's
            ``MaximumMessageSize`` says so.
        client: A boto3 client of your own; it is not closed.
    """

    BROKER = "SQS"
    MESSAGE_BYTES = 262_144

    def __init__(
        self,
        queue: str,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        visibility: float = 30.0,
        max_deliveries: int = 5,
        message_bytes: int = MESSAGE_BYTES,
        client: Any = None,
    ) -> None:
        self._fifo = queue.endswith(".fifo")
        able = Capabilities(
            system="aws_sqs",
            groups=self._fifo, delay=not self._fifo, nack_delay=True, extend=True,
            dedup_window=300.0 if self._fifo else None, dead_letters=True,
            # Bytes that are no text travel as base64.
            max_bytes=(message_bytes - _OVERHEAD) * 3 // 4, max_batch=_BATCH, late="refused",
        )  # fmt: skip
        super().__init__(queue, visibility=visibility, max_deliveries=max_deliveries, capabilities=able)
        self._message_bytes = message_bytes
        self._service: dict[str, Any] = {"region_name": region, "endpoint_url": endpoint}
        self._client: Any = client
        self._is_own = client is None
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._connecting = anyio.Lock()
        self._url = self._dead_url = ""
        self._held: Holds[None] = Holds()
        self._settled = Settled()
        self._waiting: dict[int, _Poll] = {}

    # --- connecting ---------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Finds the queue, or makes it."""
        self._check_open()
        if not self._url:
            async with self._connecting:
                if not self._url:
                    if self._client is None:
                        self._client = await self._thread(self._make_client)
                    self._dead_url, self._url = await self._thread(self._have_queues)

    async def _disconnect(self) -> None:
        """Has nobody wait any more. A thread that still does ends within 5 seconds, and gives back what comes."""
        for poll in self._waiting.values():
            poll.scope.cancel()
        if self._is_own and self._client is not None:
            client, self._client = self._client, None
            await to_thread.run_sync(client.close)

    def _make_client(self) -> Any:
        """Makes a client; in a thread, since it reads files."""
        session = _library()
        config = import_module("botocore.config").Config(
            retries={"mode": "standard", "total_max_attempts": 3}, max_pool_connections=_THREADS, connect_timeout=5,
            read_timeout=_POLL + 20, tcp_keepalive=True,
        )  # fmt: skip
        return session.Session().client("sqs", config=config, **self._service)

    def _have_queues(self) -> tuple[str, str]:
        """Gives the URLs of the dead letters' queue and of this one, which are made if they are not there.

        Raises:
            TransportError: The queue is there, and has another redrive policy.
        """
        try:
            url: str = self._client.get_queue_url(QueueName=self.name)["QueueUrl"]
        except self._client.exceptions.QueueDoesNotExist:
            return self._make_queues()
        names = ["RedrivePolicy"]
        found = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=names).get("Attributes", {})
        policy = json.loads(found.get("RedrivePolicy", "{}"))
        if int(policy.get("maxReceiveCount", 0)) != self.max_deliveries:
            raise TransportError(
                f"{self._where} exists, and its redrive policy is {policy or 'missing'}: give it one with "
                f"maxReceiveCount={self.max_deliveries}, or use the max_deliveries that it has"
            )
        dead = policy["deadLetterTargetArn"].rpartition(":")[2]
        return self._client.get_queue_url(QueueName=dead)["QueueUrl"], url

    def _make_queues(self) -> tuple[str, str]:
        """Makes both; what is in them is kept as long as SQS keeps anything."""
        kind = {"FifoQueue": "true"} if self._fifo else {}
        lasting = {"MessageRetentionPeriod": str(_LONGEST), **kind}
        create = self._client.create_queue
        name = self.name.removesuffix(".fifo") + "-dead" + (".fifo" if self._fifo else "")
        dead: str = create(QueueName=name, Attributes=lasting)["QueueUrl"]
        names = ["QueueArn"]
        arn = self._client.get_queue_attributes(QueueUrl=dead, AttributeNames=names)["Attributes"]["QueueArn"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(self.max_deliveries)})
        return dead, create(QueueName=self.name, Attributes={**lasting, "RedrivePolicy": policy})["QueueUrl"]

    async def _thread(self, function: Callable[[], T], *, abandon: bool = False) -> T:
        """Calls a function in a thread."""
        return await to_thread.run_sync(function, limiter=self._threads, abandon_on_cancel=abandon)

    async def _each(self, calls: Iterable[Callable[[], T]]) -> list[T]:
        """Makes requests side by side, and gives the answers."""
        answers: list[T] = []

        async def call(function: Callable[[], T]) -> None:
            try:
                answers.append(await self._thread(function))
            except Exception as error:  # noqa: BLE001 - raised below, when all have ended
                failures.append(error)

        failures: list[Exception] = []
        async with anyio.create_task_group() as group:
            for function in calls:
                group.start_soon(call, function)
        if failures:
            raise failures[0]
        return answers

    # --- sending ------------------------------------------------------------------------------------------------

    def _admit(self, messages: Sequence[Message]) -> None:
        """Refuses what could not be sent, before anything is."""
        super()._admit(messages)
        for message in messages:
            self._check_seconds(message.delay, _DELAY_MAX)

    async def _send(self, messages: Sequence[Message]) -> None:
        """Sends messages."""
        entries = [self._entry(message) for message in messages]
        await self._connect()
        await self._put(self._url, entries)

    async def _put(self, url: str, entries: Sequence[dict[str, Any]]) -> None:
        """Sends; side by side, unless there is an order to keep.

        Raises:
            TransportError: SQS does not take all of them.
        """
        calls = [
            partial(self._client.send_message_batch, QueueUrl=url, Entries=some) for some in self._batches(entries)
        ]
        answers = [await self._thread(call) for call in calls] if self._fifo else await self._each(calls)
        failed = [each for answer in answers for each in answer.get("Failed", ())]
        if failed:
            raise TransportError(
                f"{self._where}: SQS did not take {len(failed)} of {len(entries)} messages: {failed[0]}"
            )

    def _batches(self, entries: Sequence[dict[str, Any]]) -> Iterable[list[dict[str, Any]]]:
        """Divides what is to be sent: at most 10 at once, which together are no larger than one may be."""
        some, size = list[dict[str, Any]](), 0
        for number, entry in enumerate(entries):
            more = _size(entry)
            if some and (len(some) == _BATCH or size + more > self._message_bytes):
                yield some
                some, size = [], 0
            some.append({"Id": str(number), **entry})
            size += more
        if some:
            yield some

    def _entry(self, message: Message, **own: Any) -> dict[str, Any]:
        """Gives a message the form that SQS wants.

        Raises:
            MessageTooLarge: In that form it has too many bytes.
        """
        body, headers = message.body, message.headers
        text = body.decode(errors="ignore")
        if not body:
            text, own["body"] = "-", "empty"
        elif text.encode() != body or not _TEXT.fullmatch(text):
            text, own["body"] = base64.b64encode(body).decode(), "base64"
        if self._fifo and message.group is not None and not _ID.fullmatch(message.group):
            own["group"] = message.group
        plain = all(value and _NAME.fullmatch(name) and len(name) < 256 for name, value in headers.items())  # noqa: PLR2004
        if not plain or len(headers) + bool(own) > _ATTRIBUTES:
            own["headers"] = dict(headers)
            headers = {}
        attributes = {**headers, **({_OWN: json.dumps(own)} if own else {})}
        entry: dict[str, Any] = {
            "MessageBody": text,
            "MessageAttributes": {
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
            **self._order(message),
        }
        self._check_size(entry)
        return entry

    def _order(self, message: Message) -> dict[str, Any]:
        """Gives what says when a message is delivered, and after which."""
        if self._fifo:
            group = _ALONE + uuid4().hex if message.group is None else _identifier(message.group)
            return {
                "MessageGroupId": group,
                "MessageDeduplicationId": uuid4().hex if message.dedup_id is None else _identifier(message.dedup_id),
            }
        return {"DelaySeconds": math.ceil(message.delay)}

    def _check_size(self, entry: dict[str, Any]) -> None:
        """Refuses what SQS would refuse.

        Raises:
            MessageTooLarge: It has too many bytes.
        """
        if _size(entry) > self._message_bytes:
            raise MessageTooLarge(
                f"{self._where} takes at most {self._message_bytes} bytes as they travel, and a message has "
                f"{_size(entry)} then; nothing was sent. Store the data elsewhere, and send a reference to it"
            )

    # --- receiving ----------------------------------------------------------------------------------------------

    async def _receive(self, limit: int, wait: float) -> list[Delivery]:
        """Takes messages. Without ``wait``, SQS looks at some of its servers only, and may miss what is there."""
        await self._connect()
        until = time.monotonic() + wait
        while True:
            left = until - time.monotonic()
            found = await self._poll(limit, max(0, int(min(left, _POLL))))
            if found or left <= 0:
                return [self._delivery(message) for message in found]
            if left < 1:
                await self._sleep(left)

    async def _poll(self, limit: int, seconds: int) -> list[Any]:
        """Asks for messages, and waits for them; what comes when nobody waits any more goes back."""
        with anyio.CancelScope() as scope:
            poll = _Poll(scope)
            self._waiting[id(poll)] = poll
            try:
                return await self._thread(partial(self._ask, poll, limit, seconds), abandon=True)
            finally:
                poll.left = True
                del self._waiting[id(poll)]
        self._check_open()
        return []

    def _ask(self, poll: _Poll, limit: int, seconds: int) -> list[Any]:
        """Makes one request, in a thread."""
        client = self._client
        found = self._request(client, self._url, limit, seconds, math.ceil(self.visibility))
        if poll.left:
            with suppress(Exception):  # then they are visible again when their time is over
                for message in found:
                    client.change_message_visibility(
                        QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
                    )
        return found

    def _request(self, client: Any, url: str, limit: int, seconds: int, visibility: int) -> list[Any]:
        """Makes one request."""
        answer = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=limit, WaitTimeSeconds=seconds, VisibilityTimeout=visibility,
            MessageAttributeNames=["All"], MessageSystemAttributeNames=["ApproximateReceiveCount", "MessageGroupId"],
        )  # fmt: skip
        found: list[Any] = answer.get("Messages", [])
        return found

    def _delivery(self, message: Any) -> Delivery:
        """Notes that a message is this consumer's."""
        self._held.put(message["ReceiptHandle"], time.monotonic() + self.visibility, None)
        count = int(message["Attributes"]["ApproximateReceiveCount"])
        return Delivery(message=_read(message), receipt=message["ReceiptHandle"], count=count)

    async def _sleep(self, seconds: float) -> None:
        """Waits, unless it is closed."""
        with anyio.CancelScope() as scope:
            poll = _Poll(scope)
            self._waiting[id(poll)] = poll
            try:
                await anyio.sleep(seconds)
            finally:
                del self._waiting[id(poll)]
        self._check_open()

    # --- what becomes of a delivery -----------------------------------------------------------------------------

    async def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Deletes messages."""
        receipts = dict.fromkeys(delivery.receipt for delivery in deliveries)
        held = [receipt for receipt in receipts if receipt in self._held]
        late = [receipt for receipt in receipts if receipt not in held and receipt not in self._settled]
        refused = await self._delete(self._url, held)
        for receipt in held:
            self._held.end(receipt)
        self._settled.add(receipt for receipt in held if receipt not in refused)
        for receipt in (*late, *refused):
            raise self._expired(receipt)

    async def _nack(self, delivery: Delivery, delay: float, reason: str) -> None:
        """Gives a message back, or buries it."""
        self._check_seconds(delay, _VISIBILITY_MAX)
        self._check_held(delivery)
        if delivery.count >= self.max_deliveries:
            await self._bury(delivery, reason)
        else:
            await self._hide(delivery, delay)
        self._held.end(delivery.receipt)

    async def _extend(self, delivery: Delivery, seconds: float) -> None:
        """Keeps a message for longer. SQS lets nobody hold one for longer than 12 hours in all."""
        self._check_seconds(seconds, _VISIBILITY_MAX)
        self._check_held(delivery)
        await self._hide(delivery, seconds)
        self._held.extend(delivery.receipt, time.monotonic() + seconds)

    async def _delete(self, url: str, receipts: Sequence[str]) -> set[str]:
        """Deletes messages; gives those receipts that are over.

        Raises:
            TransportError: SQS refuses for another reason.
        """
        entries = [{"Id": str(number), "ReceiptHandle": receipt} for number, receipt in enumerate(receipts)]
        batches = [entries[start : start + _BATCH] for start in range(0, len(entries), _BATCH)]
        answers = await self._each(
            partial(self._client.delete_message_batch, QueueUrl=url, Entries=batch) for batch in batches
        )
        failed = [each for answer in answers for each in answer.get("Failed", ())]
        for each in failed:
            if each.get("Code") not in _GONE:
                raise TransportError(f"{self._where}: SQS did not delete a message: {each}")
        return {receipts[int(each["Id"])] for each in failed}

    async def _hide(self, delivery: Delivery, seconds: float) -> None:
        """Has a message visible again after so many seconds.

        Raises:
            DeliveryExpired: It is visible already.
        """
        change = partial(
            self._client.change_message_visibility, QueueUrl=self._url, ReceiptHandle=delivery.receipt,
            VisibilityTimeout=math.ceil(seconds),
        )  # fmt: skip
        try:
            await self._thread(change)
        except Exception as error:
            if _code(error) in _GONE:
                self._held.end(delivery.receipt)
                raise self._expired(delivery.receipt) from error
            raise

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        """Puts a message to the dead letters; SQS itself would not keep the reason. A crash in between leaves both."""
        message = replace(delivery.message, group=None)
        own = {"reason": reason, "count": delivery.count}
        if delivery.message.group is not None:  # or it would wait for others of the group to be redriven
            own["group"] = delivery.message.group
        await self._put(self._dead_url, [self._entry(message, **own)])
        await self._delete(self._url, [delivery.receipt])

    # --- dead letters -------------------------------------------------------------------------------------------

    async def _dead_letters(self, limit: int) -> list[DeadLetter]:
        """Takes dead letters, and gives them back. While somebody reads them, others do not see them."""
        await self._connect()
        taken = await self._take_dead(limit)
        await self._give_back(taken)
        return [self._letter(message) for message in taken]

    async def _redrive(self, ids: Collection[str] | None) -> int:
        """Sends the chosen ones, and gives back the others."""
        await self._connect()
        taken, done = list[Any](), 0
        while some := await self._take_dead(_BATCH):
            chosen = [message for message in some if ids is None or message["MessageId"] in ids]
            await self._put(self._url, [self._entry(_read(message)) for message in chosen])
            await self._delete(self._dead_url, [message["ReceiptHandle"] for message in chosen])
            taken.extend(message for message in some if message not in chosen)
            done += len(chosen)
        await self._give_back(taken)
        return done

    async def _take_dead(self, limit: int) -> list[Any]:
        """Takes dead letters for a while."""
        taken = list[Any]()
        while len(taken) < limit:
            most = min(_BATCH, limit - len(taken))
            some = await self._thread(partial(self._request, self._client, self._dead_url, most, 0, _LOOK))
            taken.extend(some)
            if not some:
                break
        return taken

    async def _give_back(self, taken: Iterable[Any]) -> None:
        """Lets others see them."""
        await self._each(
            partial(
                self._client.change_message_visibility, QueueUrl=self._dead_url,
                ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0,
            )
            for message in taken
        )  # fmt: skip

    def _letter(self, message: Any) -> DeadLetter:
        """Makes a dead letter."""
        own = _own(message)
        return DeadLetter(
            id=message["MessageId"], message=_read(message), count=own.get("count", self.max_deliveries),
            reason=own.get("reason") or self._unheard,
        )  # fmt: skip

    # --- what is refused ----------------------------------------------------------------------------------------

    def _check_held(self, delivery: Delivery) -> None:
        """Refuses what is over: SQS itself takes an old receipt, and may act on it.

        Raises:
            DeliveryExpired: It is over.
        """
        if delivery.receipt not in self._held:
            raise self._expired(delivery.receipt)

    def _check_seconds(self, seconds: float, most: float) -> None:
        """Refuses what SQS cannot wait for.

        Raises:
            NotSupported: It is too long.
        """
        if seconds > most:
            raise NotSupported(f"{self._where} waits for {most:g} s at most, not {seconds:g}; nothing was done")


def _library() -> ModuleType:
    """Gives what boto3's clients are made with.

    Raises:
        TransportError: It is not installed.
    """
    return need_library("boto3.session", broker="SQS", package="boto3", extra="sqs")


def _read(message: Any) -> Message:
    """Gives what was sent."""
    own = _own(message)
    attributes: Mapping[str, Any] = message.get("MessageAttributes", {})
    plain = {name: value["StringValue"] for name, value in attributes.items() if "StringValue" in value}
    plain.pop(_OWN, None)
    text: str = message["Body"]
    kind = own.get("body")
    body = b"" if kind == "empty" else base64.b64decode(text) if kind == "base64" else text.encode()
    group = own.get("group", message.get("Attributes", {}).get("MessageGroupId"))
    alone = group is None or group.startswith(_ALONE)
    return Message(body=body, headers=own.get("headers", plain), group=None if alone else group)


def _own(message: Any) -> dict[str, Any]:
    """Gives what this module has added."""
    text = message.get("MessageAttributes", {}).get(_OWN, {}).get("StringValue", "{}")
    own: dict[str, Any] = json.loads(text)
    return own


def _identifier(text: str) -> str:
    """Gives a group or a dedup_id letters that SQS takes."""
    if _ID.fullmatch(text):
        return text
    return hashlib.sha256(text.encode()).hexdigest()


def _size(entry: Mapping[str, Any]) -> int:
    """Gives the bytes that SQS counts."""
    attributes: Mapping[str, Any] = entry["MessageAttributes"]
    texts = [entry["MessageBody"]]
    for name, value in attributes.items():
        texts += [name, value["DataType"], value["StringValue"]]
    return sum(len(text.encode()) for text in texts)


def _code(error: BaseException | None) -> str:
    """Gives the name that SQS gives an error."""
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "")).rpartition(".")[2]
