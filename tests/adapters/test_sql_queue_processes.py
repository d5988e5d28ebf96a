"""Several processes on one queue, and what is left of it when they, or the server, are killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from sagas.errors import TransportError
from sagas.transport import Delivery, Message
from sagas_adapters.sql import SqlQueue
from tests.adapters.sql_child import queue_of
from tests.support.postgres import PostgresServer

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'q.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Starts processes; kills what is left of them afterwards."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.adapters.sql_child", url, what]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate(timeout=30)


def _hear(process: subprocess.Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(lines)]


def _end(process: subprocess.Popen[str]) -> list[int]:
    """Kills a process, and gives all that it still said."""
    process.kill()
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")  # `communicate` would lose what was read ahead of the lines
    return [int(line) for line in lines[:-1] if line]  # the last one it may have been in the middle of


async def _drain(queue: SqlQueue) -> list[int]:
    """Deals with all that is there, or will be visible again."""
    found: list[int] = []
    while deliveries := await queue.receive(100, wait=queue.visibility + 1.0):
        await queue.ack(*deliveries)
        found.extend(int(delivery.message.body) for delivery in deliveries)
    return found


async def test_a_request_and_its_reply_between_processes_take_milliseconds(url: str, start: Start) -> None:
    """The fastest of some, also after a pause; what polls every now and then would never be so fast."""
    (ready,) = _hear(start("echo"), 1)
    assert ready == "ready"
    requests, replies = queue_of(url, "requests"), queue_of(url, "replies")
    taken: list[float] = []
    found: list[Sequence[Delivery]] = []
    for number in range(20):
        begin = time.perf_counter()
        async with anyio.create_task_group() as group:
            group.start_soon(requests.send, Message(body=str(number).encode()))
            found.append(await replies.receive(wait=60.0))
        taken.append(time.perf_counter() - begin)
        assert [int(reply.message.body) for reply in found[number]] == [number]
        await replies.ack(*found[number])
    assert min(taken) < 0.1, taken
    await requests.close()
    await replies.close()


@pytest.mark.parametrize("lines", [1, 40, 150])
async def test_what_a_killed_sender_was_told_to_be_sent_is_there(url: str, start: Start, lines: int) -> None:
    """It is killed in the middle of commits; nothing is there twice."""
    process = start("produce")
    told = [int(line) for line in _hear(process, lines)] + _end(process)
    queue = queue_of(url, "q")
    found = await _drain(queue)
    assert set(told) <= set(found)
    assert len(set(found)) == len(found)
    await queue.close()


@pytest.mark.parametrize("lines", [1, 40, 150])
async def test_what_a_killed_consumer_has_not_dealt_with_is_delivered_to_others(
    url: str, start: Start, lines: int
) -> None:
    """And what it was told to be dealt with is not."""
    queue = queue_of(url, "q")
    await queue.send(*[Message(body=str(number).encode()) for number in range(300)])
    process = start("consume")
    done = [int(line) for line in _hear(process, lines)] + _end(process)
    rest = await _drain(queue)
    assert len(set(done)) == len(done)
    assert not set(done) & set(rest)
    assert len(set(rest)) == len(rest)
    # What was committed as the process was killed is dealt with, and it could not say so.
    assert len(done) + len(rest) >= 300 - 4 * 3
    assert {*done, *rest} <= set(range(300))
    await queue.close()


async def test_nothing_is_lost_when_the_server_is_killed_under_load() -> None:
    """Whoever is told that it failed tries again; the duplicates are dropped."""
    total, seen = 300, set[int]()
    with PostgresServer() as server:
        url = server.create_database()
        queue = SqlQueue(url, "q", visibility=2.0, max_deliveries=1_000)
        await queue.receive()
        failures = 0

        async def send(number: int) -> None:
            nonlocal failures
            while True:
                try:
                    return await queue.send(Message(body=str(number).encode(), dedup_id=str(number)))
                except TransportError:
                    failures += 1
                    await anyio.sleep(0.1)

        async def send_some(first: int) -> None:
            for number in range(first, total, 10):
                await send(number)

        async def consume() -> None:
            while len(seen) < total:
                try:
                    found = await queue.receive(3, wait=0.5)
                    seen.update(int(delivery.message.body) for delivery in found)
                    await queue.ack(*found)
                except TransportError:
                    await anyio.sleep(0.1)

        async def kill() -> None:
            for _ in range(2):
                enough = min(total, len(seen) + 20)
                while len(seen) < enough:  # noqa: ASYNC110 - what is waited for has no event
                    await anyio.sleep(0.01)
                await anyio.to_thread.run_sync(server.kill)
                await anyio.to_thread.run_sync(server.start)

        with anyio.fail_after(120.0):
            async with anyio.create_task_group() as group:
                group.start_soon(kill)
                for first in range(10):
                    group.start_soon(send_some, first)
                for _ in range(3):
                    group.start_soon(consume)
            rest = await _drain(queue)
        await queue.close()
    assert failures
    assert seen == set(range(total))
    assert len(rest) <= 2 * 3 * 3, "only what was under way as the server was killed comes again"
