"""Responses that are kept by key: whoever keeps them, a request is performed once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from sqlalchemy import create_engine, text

from sagas import Coordinator, receive, saga
from sagas.errors import RequestError, StoreError
from sagas_adapters.http import MemoryResponses, Responses, SqlResponses, saga_router
from sagas_adapters.http.problems import PROBLEM, Response

pytestmark = pytest.mark.anyio

ANSWER = Response(202, b'{"done":true}', ((b"location", b"/x/\xff"),))
Connect = Callable[[], Awaitable[Responses]]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class ResponsesContract:
    """What keeps responses: ``connect`` opens another connection to the same ones, as another process would."""

    @pytest.fixture
    async def kept(self, connect: Connect) -> Responses:
        return await connect()

    async def test_the_first_request_is_to_be_answered_and_others_wait(self, connect: Connect) -> None:
        one, other = await connect(), await connect()
        assert await one.begin("k", b"f") is None
        assert await one.begin("k", b"f") == "running"
        assert await other.begin("k", b"f") == "running"
        assert await other.begin("other", b"f") is None

    async def test_a_repeat_gets_the_response_of_the_first(self, connect: Connect) -> None:
        one, other = await connect(), await connect()
        await one.begin("k", b"f")
        await one.finish("k", ANSWER)
        assert [await each.begin("k", b"f") for each in (one, other)] == [ANSWER, ANSWER]

    async def test_all_of_a_response_is_kept(self, kept: Responses) -> None:
        for number, answer in enumerate([Response(204), Response(409, b"\x00\xff", (), PROBLEM)]):
            await kept.begin(str(number), b"f")
            await kept.finish(str(number), answer)
            assert await kept.begin(str(number), b"f") == answer

    async def test_another_request_with_the_same_key_is_told_apart(self, kept: Responses) -> None:
        await kept.begin("k", b"f")
        assert await kept.begin("k", b"g") == "mismatch"
        await kept.finish("k", ANSWER)
        assert await kept.begin("k", b"g") == "mismatch"

    async def test_a_key_whose_request_was_not_performed_is_free(self, connect: Connect) -> None:
        one, other = await connect(), await connect()
        await one.begin("k", b"f")
        await one.forget("k")
        assert await other.begin("k", b"g") is None

    async def test_what_is_too_old_is_forgotten(self, kept: Responses, clock: Clock) -> None:
        await kept.begin("k", b"f")
        await kept.finish("k", ANSWER)
        clock.now += 99.0
        assert await kept.begin("k", b"f") == ANSWER
        clock.now += 2.0
        assert await kept.begin("k", b"g") is None

    async def test_of_many_at_once_one_is_the_first(self, connect: Connect) -> None:
        found: Counter[object] = Counter()
        connections = [await connect() for _ in range(3)]

        async def ask(kept: Responses, key: str) -> None:
            found[await kept.begin(key, b"f")] += 1

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(ask, connections[number % 3], str(number % 5))
        assert found == {None: 5, "running": 25}


class TestMemoryResponses(ResponsesContract):
    @pytest.fixture
    def connect(self, clock: Clock) -> Connect:
        kept = MemoryResponses(max_age=100.0, now=clock)

        async def connect() -> Responses:
            return kept

        return connect


class SqlResponsesContract(ResponsesContract):
    """What a database adds: it outlives those who use it."""

    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def connect(self, url: str, clock: Clock) -> AsyncIterator[Connect]:
        opened: list[SqlResponses] = []

        async def connect() -> SqlResponses:
            opened.append(SqlResponses(url, max_age=100.0, patience=10.0, now=clock))
            return opened[-1]

        yield connect
        for each in opened:
            await each.close()

    async def test_what_a_dead_process_was_at_work_on_is_performed_again_after_a_while(
        self, connect: Connect, clock: Clock
    ) -> None:
        dead, other, third = await connect(), await connect(), await connect()
        await dead.begin("k", b"f")
        clock.now += 9.0
        assert await other.begin("k", b"f") == "running"
        clock.now += 2.0
        assert await other.begin("k", b"g") == "mismatch"
        assert await other.begin("k", b"f") is None
        assert await third.begin("k", b"f") == "running"

    async def test_whoever_was_taken_for_dead_changes_nothing(self, connect: Connect, clock: Clock) -> None:
        slow, other = await connect(), await connect()
        await slow.begin("k", b"f")
        clock.now += 11.0
        await other.begin("k", b"f")
        await slow.finish("k", Response(500))
        await slow.forget("k")
        assert await slow.begin("k", b"f") == "running"
        await other.finish("k", ANSWER)
        assert await slow.begin("k", b"f") == ANSWER

    async def test_what_is_too_old_is_deleted(self, connect: Connect, clock: Clock, url: str) -> None:
        kept = await connect()
        for number in range(3):
            await kept.begin(str(number), b"f")
            await kept.finish(str(number), ANSWER)
        clock.now += 200.0
        await kept.begin("new", b"f")
        engine = create_engine(url)
        with engine.connect() as connection:
            assert connection.execute(text("SELECT key FROM saga_response")).all() == [("new",)]
        engine.dispose()

    async def test_closed_twice_and_used_again(self, connect: Connect) -> None:
        kept = await connect()
        assert isinstance(kept, SqlResponses)
        async with kept:
            await kept.begin("k", b"f")
        await kept.close()
        assert await kept.begin("k", b"f") == "running"


@pytest.mark.parametrize("anyio_backend", ["trio"])
class TestSqlResponsesOnSqlite(SqlResponsesContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/s.db"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
class TestSqlResponsesOnPostgres(SqlResponsesContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


@pytest.mark.parametrize("options", [{"patience": 0.0}, {"max_age": 5.0}, {"max_age": float("inf")}])
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="patience"):
        SqlResponses("sqlite:///s.db", **options)


def test_a_store_without_tables_is_refused() -> None:
    with pytest.raises(StoreError, match=r"MemoryResponses\(\)"):
        SqlResponses("memory:")


# --- with a router --------------------------------------------------------------------------------------------------


@saga
async def wait_for_pay() -> list[int]:
    return [await receive("paid", int), await receive("paid", int)]


async def test_a_signal_is_sent_once_across_restarts(tmp_path: Path) -> None:
    url, key = f"sqlite:///{tmp_path}/s.db", {"Idempotency-Key": '"s1"'}
    there = "/sagas/one/signals/paid"
    answers: list[httpx2.Response] = []
    for _ in range(2):
        async with Coordinator(url, sagas=[wait_for_pay]) as coordinator, SqlResponses(url) as responses:
            await coordinator.start(wait_for_pay(), id="one")
            app = saga_router(coordinator, sagas=[wait_for_pay], responses=responses)
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
                answers += [await client.post(there, json=5, headers=key) for _ in range(2)]
                assert (await client.post(there, json=6, headers=key)).status_code == 422
    assert {(answer.status_code, answer.content) for answer in answers} == {(202, b"{}")}
    async with Coordinator(url, sagas=[wait_for_pay]) as coordinator:
        await coordinator.signal("one", "paid", 7)
        assert await (await coordinator.start(wait_for_pay(), id="one")).result() == [5, 7]


async def test_whoever_asked_is_answered_though_the_response_cannot_be_kept() -> None:
    """It has been done; and what was not done says why, and not that the database is away."""

    class Shaky(MemoryResponses):
        async def finish(self, key: str, response: Response) -> None:
            raise StoreError("the database is away")

        async def forget(self, key: str) -> None:
            raise StoreError("the database is away")

    async with Coordinator("memory:", sagas=[wait_for_pay]) as coordinator:
        await coordinator.start(wait_for_pay(), id="one")
        app = saga_router(coordinator, sagas=[wait_for_pay], responses=Shaky())
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as client:
            for name, status in (("one", 202), ("none", 404)):
                told = await client.post(
                    f"/sagas/{name}/signals/paid", json=5, headers={"Idempotency-Key": f'"{name}"'}
                )
                assert told.status_code == status


async def test_one_database_is_made_by_coordinator_and_responses_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    found: list[Any] = []

    def use() -> None:
        async def main() -> None:
            async with SqlResponses(url) as kept:
                found.append(await kept.begin("k", b"f"))

        anyio.run(main)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    async with Coordinator(url, sagas=[wait_for_pay]):
        pass
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join)
    assert sorted(map(str, found)) == ["None", "running", "running"]
