"""A queue on Redis Streams: a stream, whose consumer group's pending entries are what is delivered.

    pip install "sagakit[redis]"

Whatever changes more than one key is a script, which Redis runs as one. Of a queue ``payments``, all keys begin with
``sagas:{payments}``:

=========== ======================================================================================================
``:stream`` the messages, until they are dealt with. Its group ``sagas`` has three consumers, and these say what is
            with a message that was delivered: somebody has it (``held``), it was given back (``free``), or it is
            ``dead``
``:due``    when each message that is held or free is delivered again
``:later``  messages whose delay is not over
``:dead``   which of the messages are dead letters, and since when; ``:reasons`` says why
``:lines``  by group, how many of its messages are there; all but one of them wait in ``:line:<group>``
``:seen:…`` a ``dedup_id``, until it is forgotten
``:bell``   a stream of one entry, replaced whenever somebody who waits should look again
=========== ======================================================================================================
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio

from sagas.errors import TransportError
from sagas.transport.broker_queue import AsyncioQueue
from sagas.transport.clients import UrlSettings, need_library
from sagas.transport.opening import public_url
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import AbstractConnection

__all__ = ["RedisQueue", "open_queue"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_Arg = str | bytes | int

# How many calls go to the server together at most, and how many messages in one of them.
_AT_ONCE = 200
# Seconds after which whoever waits asks again, since a server that is gone without a word says nothing either.
_NAP = 30.0


class _Script:
    """A script, and the name by which the server knows it."""

    def __init__(self, text: str) -> None:
        self.text = _COMMON + text
        self.sha = hashlib.sha1(self.text.encode()).hexdigest()  # noqa: S324 - it is how Redis names them


# What the scripts have in common. An entry's fields are b(ody), h(eaders), g(roup) and d(edup_id).
_COMMON = """
local root = KEYS[1]
local stream, due, later, dead = root .. ':stream', root .. ':due', root .. ':later', root .. ':dead'
local reasons, lines, bell = root .. ':reasons', root .. ':lines', root .. ':bell'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if redis.call('EXISTS', stream) == 0 then redis.call('XGROUP', 'CREATE', stream, 'sagas', '0', 'MKSTREAM') end

local function ring() redis.call('XADD', bell, 'MAXLEN', 1, '*', 'r', '1') end

local function field(fields, name)
  for i = 1, #fields, 2 do if fields[i] == name then return fields[i + 1] end end
end

local function place(fields, at)
  if at <= now then
    redis.call('XADD', stream, '*', unpack(fields))
  else
    redis.call('ZADD', later, at, cmsgpack.pack({redis.call('INCR', root .. ':number'), fields}))
  end
end

local function put(fields, at)
  local group = field(fields, 'g')
  if group and redis.call('HINCRBY', lines, group, 1) > 1 then
    redis.call('RPUSH', root .. ':line:' .. group, cmsgpack.pack({at, fields}))
  else
    place(fields, at)
  end
end

local function step_up(group)
  if redis.call('HINCRBY', lines, group, -1) <= 0 then return redis.call('HDEL', lines, group) end
  local first = redis.call('LPOP', root .. ':line:' .. group)
  if first then
    local entry = cmsgpack.unpack(first)
    place(entry[2], entry[1])
    ring()
  end
end

local function read(id)
  local found = redis.call('XRANGE', stream, id, id)
  return found[1] and found[1][2]
end

local function pending(id)
  local found = redis.call('XPENDING', stream, 'sagas', id, id, 1)
  if found[1] then return found[1][2], found[1][4] end
end

local function is_held(id, count)
  local consumer, delivered = pending(id)
  local at = redis.call('ZSCORE', due, id)
  return consumer == 'held' and delivered == tonumber(count) and at and tonumber(at) > now, consumer
end

local function forget(id)
  redis.call('XACK', stream, 'sagas', id)
  redis.call('XDEL', stream, id)
  redis.call('ZREM', due, id)
end

local function bury(id, fields, reason)
  redis.call('XCLAIM', stream, 'sagas', 'dead', 0, id, 'JUSTID')
  redis.call('ZREM', due, id)
  redis.call('ZADD', dead, now, id)
  redis.call('HSET', reasons, id, reason)
  local group = field(fields, 'g')
  if group then step_up(group) end
end

local function bury_silent(limit, most, reason)
  local found = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, limit)) do
    local _, count = pending(id)
    local fields = read(id)
    if not count or not fields then forget(id)
    elseif count >= most then bury(id, fields, reason)
    else found[#found + 1] = {id, fields, count + 1} end
  end
  return found
end
"""

# Arguments: for each message `window` in ms, `delay` in ms, how many fields, and these.
_SEND = _Script("""
local at = 1
while at <= #ARGV do
  local window, delay, size = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local fields = {unpack(ARGV, at + 3, at + 2 + size)}
  at = at + 3 + size
  local id = field(fields, 'd')
  if not id or redis.call('SET', root .. ':seen:' .. id, '1', 'NX', 'PX', window) then put(fields, now + delay) end
end
ring()
""")

# Arguments: `limit`, `visibility` in ms, `max_deliveries`, the reason if nobody says anything.
# Gives the deliveries, or the milliseconds until there may be some (-1: unknown) and the bell's last ring.
_TAKE = _Script("""
local limit, visibility, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
for _, packed in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', later, packed)
  place(cmsgpack.unpack(packed)[2], now)
end
local found = {}
repeat
  local left = redis.call('ZCOUNT', due, '-inf', now)
  found = bury_silent(limit, most, ARGV[4])
until #found > 0 or left <= limit
for _, each in ipairs(found) do
  redis.call('XCLAIM', stream, 'sagas', 'held', 0, each[1])
  redis.call('ZADD', due, now + visibility, each[1])
end
if #found < limit then
  local fresh = redis.call('XREADGROUP', 'GROUP', 'sagas', 'held', 'COUNT', limit - #found, 'STREAMS', stream, '>')
  if fresh then
    for _, each in ipairs(fresh[1][2]) do
      redis.call('ZADD', due, now + visibility, each[1])
      found[#found + 1] = {each[1], each[2], 1}
    end
  end
end
if #found > 0 then return {found} end
local soonest = -1
for _, key in ipairs({due, later}) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[2] and (soonest < 0 or first[2] - now < soonest) then soonest = math.max(1, first[2] - now) end
end
local rung = redis.call('XREVRANGE', bell, '+', '-', 'COUNT', 1)
return {found, soonest, rung[1] and rung[1][1] or '0-0'}
""")

# Arguments: for each delivery its `id`, its `count`, and its message's group, empty if it has none.
# Gives those that are not theirs who ask, and not dealt with.
_ACK = _Script("""
local late = {}
for i = 1, #ARGV, 3 do
  local held, consumer = is_held(ARGV[i], ARGV[i + 1])
  if held then
    forget(ARGV[i])
    if ARGV[i + 2] ~= '' then step_up(string.sub(ARGV[i + 2], 2)) end
  elseif consumer then
    late[#late + 1] = ARGV[i]
  end
end
return late
""")

# Arguments: `id`, `count`, `delay` in ms, `max_deliveries`, why. Says whether it was held.
_NACK = _Script("""
local id, count = ARGV[1], tonumber(ARGV[2])
if not is_held(id, count) then return 0 end
if count >= tonumber(ARGV[4]) then
  bury(id, read(id), ARGV[5])
else
  redis.call('XCLAIM', stream, 'sagas', 'free', 0, id, 'JUSTID')
  redis.call('ZADD', due, now + tonumber(ARGV[3]), id)
  ring()
end
return 1
""")

# Arguments: `id`, `count`, for how many ms. Says whether it was held.
_EXTEND = _Script("""
if not is_held(ARGV[1], ARGV[2]) then return 0 end
local sooner = tonumber(redis.call('ZSCORE', due, ARGV[1])) > now + tonumber(ARGV[3])
redis.call('ZADD', due, now + tonumber(ARGV[3]), ARGV[1])
if sooner then ring() end
return 1
""")

# Arguments: `limit`, `max_deliveries`, the reason if nobody says anything.
_DEAD = _Script("""
repeat
  local left = redis.call('ZCOUNT', due, '-inf', now)
  local alive = bury_silent(1000, tonumber(ARGV[2]), ARGV[3])
until #alive > 0 or left <= 1000
local found = {}
for _, id in ipairs(redis.call('ZRANGE', dead, 0, ARGV[1] - 1)) do
  local _, count = pending(id)
  found[#found + 1] = {id, read(id), count, redis.call('HGET', reasons, id)}
end
return found
""")

# Arguments: ids. Gives how many of them were dead letters.
_REDRIVE = _Script("""
local done = 0
for _, id in ipairs(ARGV) do
  if redis.call('ZREM', dead, id) == 1 then
    local fields = read(id)
    forget(id)
    redis.call('HDEL', reasons, id)
    put(fields, now)
    done = done + 1
  end
end
ring()
return done
""")


class RedisQueue(AsyncioQueue):
    """A queue on Redis Streams; Redis 6.2 or newer, one server (with replicas or without).

    When ``send`` returns, the server has the message. How durable that is, is the server's setting: with ``appendonly
    yes`` and ``appendfsync always`` it is on its disk; with ``everysec`` a crash of the machine takes up to about a
    second of it; without ``appendonly``, a restart takes all. ``maxmemory-policy`` has to be ``noeviction``.
    Of many messages that are sent at once, the first hundreds may be there if the server fails meanwhile.

    Args:
        url: ``redis://user:password@host:6379/0``, ``rediss://…`` or ``unix://…``, with the options of redis-py.
        queue: Its name.
        visibility: See ``Queue``.
        max_deliveries: See ``Queue``.
        dedup_window: Seconds for which a ``dedup_id`` is remembered.
        max_bytes: The largest message.
        timeout: Seconds after which a server that does not answer counts as lost.

    Raises:
        TransportError: The library ``redis`` is not installed, or the URL is none.
    """

    BROKER = "Redis"
    ABLE = Capabilities(
        system="redis",
        ordered=True, groups=True, delay=True, nack_delay=True, extend=True, dedup_window=300.0, dead_letters=True,
        max_bytes=8_000_000, max_batch=100, late="refused",
    )  # fmt: skip

    def __init__(
        self,
        url: str = "redis://localhost:6379/0",
        *,
        queue: str,
        visibility: float = 30.0,
        max_deliveries: int = 5,
        dedup_window: float = 300.0,
        max_bytes: int = 8_000_000,
        timeout: float = 10.0,
    ) -> None:
        need_library("redis", broker="Redis", package="redis", extra="redis")
        super().__init__(
            queue, visibility=visibility, max_deliveries=max_deliveries, place=public_url(url),
            capabilities=replace(self.ABLE, dedup_window=dedup_window, max_bytes=max_bytes),
        )  # fmt: skip
        self._server = _Server(url, f"sagas:{{{queue}}}", timeout)

    # --- what each of them does ---------------------------------------------------------------------------------

    async def _send(self, messages: Sequence[Message]) -> None:
        """Adds messages; in few calls, which go to the server together."""
        window = _ms(self.capabilities.dedup_window or 0.0)
        for first in range(0, len(messages), _AT_ONCE):
            args: list[_Arg] = []
            for message in messages[first : first + _AT_ONCE]:
                fields = _fields(message)
                args += [window, _ms(message.delay), len(fields), *fields]
            await self._server.call(_SEND, args)

    async def _receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Takes what is there; if there is nothing, sleeps until the bell rings or something is due."""
        until = time.monotonic() + wait
        args: list[_Arg] = [limit, _ms(self.visibility), self.max_deliveries, self._unheard]
        answer = await self._server.call(_TAKE, args)
        while not answer[0] and (left := until - time.monotonic()) > 0:
            soonest, rung = int(answer[1]), answer[2]
            seconds = min(left, _NAP) if soonest < 0 else min(left, _NAP, soonest / 1000)
            answer = await self._server.call_when_rung(_TAKE, args, rung, seconds)
        return [_delivery(*each) for each in answer[0]]

    async def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Removes messages."""
        late: list[bytes] = []
        for first in range(0, len(deliveries), _AT_ONCE):
            args: list[_Arg] = []
            for delivery in deliveries[first : first + _AT_ONCE]:
                group = delivery.message.group
                args += [*delivery.receipt.split(), "" if group is None else f"={group}"]
            late += await self._server.call(_ACK, args)
        if late:
            raise self._expired(late[0].decode())

    async def _nack(self, delivery: Delivery, delay: float, reason: str) -> None:
        """Gives a message back, or buries it."""
        await self._settle(_NACK, delivery, _ms(delay), self.max_deliveries, reason)

    async def _extend(self, delivery: Delivery, seconds: float) -> None:
        """Says when a message is due again."""
        await self._settle(_EXTEND, delivery, _ms(seconds))

    async def _settle(self, script: _Script, delivery: Delivery, *args: _Arg) -> None:
        """Does something with what is held."""
        if not await self._server.call(script, [*delivery.receipt.split(), *args]):
            raise self._expired(delivery.receipt)

    async def _dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """Reads the dead letters."""
        found = await self._server.call(_DEAD, [limit, self.max_deliveries, self._unheard])
        return [
            DeadLetter(id=number.decode(), message=_message(fields), count=count, reason=reason.decode())
            for number, fields, count, reason in found
        ]

    async def _redrive(self, ids: Collection[str] | None) -> int:
        """Sends dead letters back; those that are there now, if all are meant."""
        if ids is None:
            await self._dead_letters(1)  # so that those are among them whose consumers fell silent
            ids = [each.decode() for each in await self._server.dead()]
        chosen, done = list(ids), 0
        for first in range(0, len(chosen), _AT_ONCE):
            done += int(await self._server.call(_REDRIVE, chosen[first : first + _AT_ONCE]))
        return done

    async def _disconnect(self) -> None:
        """Closes the connections."""
        await self._server.close()


# --- the server -------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Call:
    """A script that is to run, and what it gives."""

    script: _Script
    args: Sequence[_Arg]
    answer: asyncio.Future[Any]

    def end(self, answer: object) -> None:
        """Hands over what came, unless nobody waits any more."""
        if self.answer.done():
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class _Server:
    """Calls scripts. Calls that are made while others are under way go together, over one connection."""

    def __init__(self, url: str, root: str, timeout: float) -> None:
        self._pool = _pool(url, timeout)
        self._root = root
        self._timeout = timeout
        self._calls: deque[_Call] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, script: _Script, args: Sequence[_Arg]) -> Any:
        """Runs a script."""
        call = _Call(script, args, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await call.answer

    async def _flush(self) -> None:
        """Sends what is there, until nothing is."""
        while self._calls:
            calls = [self._calls.popleft() for _ in range(min(_AT_ONCE, len(self._calls)))]
            calls = [call for call in calls if not call.answer.done()]
            try:
                await self._run(calls)
            except Exception as error:  # noqa: BLE001 - goes to whoever waits
                for call in calls:
                    call.end(error)

    async def _run(self, calls: Sequence[_Call]) -> None:
        """Has the server run scripts; those that it does not know are told to it."""
        answers = await self._talk([self._known(call.script, call.args) for call in calls])
        unknown = [call for call, answer in zip(calls, answers, strict=True) if _is_unknown_script(answer)]
        for call, answer in zip(calls, answers, strict=True):
            if not _is_unknown_script(answer):
                call.end(answer)
        if unknown:
            again = await self._talk([("EVAL", call.script.text, 1, self._root, *call.args) for call in unknown])
            for call, answer in zip(unknown, again, strict=True):
                call.end(answer)

    async def _talk(self, commands: Sequence[Sequence[_Arg]], seconds: float = 0.0) -> list[Any]:
        """Sends commands, and reads their answers; errors of single ones are among them.

        Args:
            commands: What to send.
            seconds: How long the server may take beside what it always takes.
        """
        from redis.exceptions import ResponseError

        answers: list[Any] = []
        async with asyncio.timeout(seconds + self._timeout):
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # untyped there
            try:
                self._check_open()  # or one that was just being made outlives whoever closes them all
                await connection.send_packed_command(connection.pack_commands(commands))
                while len(answers) < len(commands):
                    try:
                        answers.append(await connection.read_response(disconnect_on_error=False))
                    except ResponseError as error:
                        answers.append(error)
            finally:
                with anyio.CancelScope(shield=True):
                    if len(answers) < len(commands):
                        await connection.disconnect(nowait=True)
                    await self._pool.release(connection)
        return answers

    async def call_when_rung(self, script: _Script, args: Sequence[_Arg], rung: bytes, seconds: float) -> Any:
        """Runs a script once the bell rings after a ring, or time is over.

        It is sent along with the question for the bell, so that the server runs it as soon as somebody rings: in the
        same turn, before it writes to its disk what that somebody has sent.
        """
        sleep = ("XREAD", "BLOCK", _ms(seconds), "STREAMS", f"{self._root}:bell", rung)
        slept, answer = await self._talk([sleep, self._known(script, args)], seconds)
        if isinstance(slept, Exception):
            raise slept
        if _is_unknown_script(answer):
            return await self.call(script, args)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _check_open(self) -> None:
        """Refuses to go on.

        Raises:
            ConnectionError: It is closed.
        """
        from redis.exceptions import ConnectionError as Disconnected

        if self._closed:
            raise Disconnected("the queue is closed")

    def _known(self, script: _Script, args: Sequence[_Arg]) -> Sequence[_Arg]:
        """Gives the command that runs a script which the server knows."""
        return "EVALSHA", script.sha, 1, self._root, *args

    async def dead(self) -> list[bytes]:
        """Gives the ids of all dead letters."""
        found: list[bytes] = await self._command("ZRANGE", f"{self._root}:dead", 0, -1)
        return found

    async def _command(self, *command: _Arg, seconds: float = 0.0) -> Any:
        """Sends one command, on a connection of its own."""
        (answer,) = await self._talk([command], seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        """Disconnects; what is under way fails."""
        self._closed = True
        await self._pool.disconnect(inuse_connections=True)
        if self._flusher is not None:
            await asyncio.wait([self._flusher])


# --- messages ---------------------------------------------------------------------------------------------------


def _fields(message: Message) -> list[_Arg]:
    """Makes an entry of a stream."""
    fields: list[_Arg] = ["b", message.body]
    if message.headers:
        fields += ["h", json.dumps(dict(message.headers))]
    if message.group is not None:
        fields += ["g", message.group]
    if message.dedup_id is not None:
        fields += ["d", message.dedup_id]
    return fields


def _message(fields: Sequence[bytes]) -> Message:
    """Makes a message of an entry."""
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    group, dedup = found.get(b"g"), found.get(b"d")
    return Message(
        body=found.get(b"b", b""),
        headers=json.loads(found.get(b"h", b"{}")),
        group=None if group is None else group.decode(),
        dedup_id=None if dedup is None else dedup.decode(),
    )


def _delivery(number: bytes, fields: Sequence[bytes], count: int) -> Delivery:
    """Makes a delivery of what a script gives."""
    return Delivery(message=_message(fields), receipt=f"{number.decode()} {count}", count=count)


def _ms(seconds: float) -> int:
    """Milliseconds, rounded up, so that nothing is too soon."""
    return math.ceil(seconds * 1000)


# --- the library, and URLs --------------------------------------------------------------------------------------


def open_queue(url: str, *, queue: str, visibility: float, max_deliveries: int) -> RedisQueue:
    """Makes the queue that a URL names: see ``sagas.transport.open_queue``.

    In the URL's query there may be ``dedup_window``, ``max_bytes`` and ``timeout``; the rest is redis-py's.

    Raises:
        TransportError: ``redis`` is not installed, or the query is not understood.
    """
    given = UrlSettings.of(url, dedup_window=float, max_bytes=int, timeout=float)
    return RedisQueue(given.url, queue=queue, visibility=visibility, max_deliveries=max_deliveries, **given.ours)


def _pool(url: str, timeout: float) -> ConnectionPool:
    """Makes a pool of connections, which are opened when they are used.

    What is under way when a connection is lost is not repeated: whoever asked is told.

    Raises:
        TransportError: The URL is none.
    """
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    try:
        return ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  # its options have no types
            url, socket_connect_timeout=timeout, socket_timeout=None, protocol=2, retry=Retry(NoBackoff(), 0)
        )
    except ValueError:  # which may tell the password
        raise TransportError(f"{public_url(url)} is not a URL of a Redis server, such as redis://host:6379/0") from None


def _is_unknown_script(answer: object) -> bool:
    """Says whether the server has forgotten a script, or never knew it."""
    from redis.exceptions import NoScriptError

    return isinstance(answer, NoScriptError)
