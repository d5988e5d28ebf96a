"""An inbox in a database: what happens to it, and between two workers that share it."""

# ruff: noqa: SLF001 - what nobody can see from outside is done to it
from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import text
from sqlmodel import Session

from sagas import Rejected, Worker, step
from sagas.errors import KeyReused, StoreError, StoreUnavailable
from sagas.stores.sql import SqlStore
from sagas.transport import StepReply, StepRequest
from sagas.worker.barrier import Entry
from sagas.worker.sql_inbox import SqlInbox
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """These are about databases; whatever is about event loops is tested on all of them elsewhere."""
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stock.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def action(name: str, key: str = "k", **more: Any) -> StepRequest:
    return StepRequest(kind="action", step=name, saga_id="s", path="1", idempotency_key=key, **more)


def undo(name: str, key: str = "k", **more: Any) -> StepRequest:
    return StepRequest(kind="undo", step=name, saga_id="s", path="1", idempotency_key=f"{key}:u", undoes=key, **more)


def inbox_of(worker: Worker) -> SqlInbox:
    assert isinstance(worker._inbox, SqlInbox)
    return worker._inbox


@step
async def ship(item: str = "lamp") -> str:
    return item


@ship.compensator
async def unship(result: str | None) -> None: ...


@step
async def pack(item: str = "lamp") -> str:
    return item


@pack.compensator
async def unpack(result: str | None) -> None: ...


@step
async def lose(item: str = "lamp") -> str:
    raise OSError("reset")


# --- leases ---------------------------------------------------------------------------------------------------------


async def test_a_worker_is_at_work_for_as_long_as_it_is_alive(postgres_url: str) -> None:
    """Also where others hear of a death at once, and so believe a sign of life for a short time only."""
    async with Worker([ship], inbox=postgres_url) as worker:
        for number in range(9):
            assert not inbox_of(worker).lapsed
            assert (await worker.perform(action("ship", str(number)))).outcome == "succeeded"
            await anyio.sleep(0.5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_worker_that_was_made_before_a_fork_is_somebody_else_in_each_process(tmp_path: Path) -> None:
    """As with servers that load the application before they fork."""
    worker = Worker([ship], inbox=f"sqlite:///{tmp_path / 'stock.db'}")

    def serve(file: Path) -> None:
        async def main() -> None:
            async with worker:
                file.write_text(inbox_of(worker)._owner)  # noqa: ASYNC240 - this process does nothing else

        anyio.run(main)

    for number in (1, 2):
        if (pid := os.fork()) == 0:
            try:
                serve(tmp_path / str(number))
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
    assert (tmp_path / "1").read_text() != (tmp_path / "2").read_text()


async def test_a_worker_can_be_entered_again(url: str) -> None:
    worker = Worker([ship], inbox=url)
    for number in (1, 2):
        async with worker:
            assert (await worker.perform(action("ship", str(number)))).outcome == "succeeded"


async def test_what_was_at_work_when_its_process_was_taken_for_dead_is_another_workers(url: str) -> None:
    """The late one is not believed, since the other may have undone it already."""
    go, begun = anyio.Event(), anyio.Event()

    @step(name="ship")
    async def slow(item: str = "lamp") -> str:
        begun.set()
        await go.wait()
        return "late"

    replies: list[StepReply] = []
    async with Worker([slow], inbox=url) as paused, Worker([ship], inbox=url) as other:
        inbox = inbox_of(paused)
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                replies.append(await paused.perform(action("ship")))

            group.start_soon(ask)
            await begun.wait()
            assert (await other.perform(action("ship", attempt=2))).outcome == "running"
            inbox._store.release(inbox._owner)
            assert (await other.perform(action("ship", attempt=3))).payload == b'"lamp"'
            go.set()
        assert replies[0].outcome == "in_doubt"
        assert (await paused.perform(action("ship", attempt=4))).payload == b'"lamp"'


async def test_nothing_is_begun_when_the_lease_ran_out_while_a_request_was_admitted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may stand still at any point."""
    acted: list[str] = []

    @step
    async def act() -> None:
        acted.append("x")

    async with Worker([act], inbox=url) as worker:
        inbox = inbox_of(worker)
        enter = inbox.enter

        async def pause(request: StepRequest) -> Any:
            admission = await enter(request)
            inbox._until = float("-inf")
            return admission

        monkeypatch.setattr(inbox, "enter", pause)
        assert (await worker.perform(action("act"))).outcome == "in_doubt"
    assert acted == []


# --- outages --------------------------------------------------------------------------------------------------------


async def test_a_commit_that_nobody_heard_of_counts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second try to remember finds what the first one has written."""
    async with Worker([ship], inbox=url) as worker:
        inbox = inbox_of(worker)
        leave, tries = inbox.leave, list[Entry]()

        async def lose_the_answer(entry: Entry) -> bool:
            tries.append(entry)
            remembered = await leave(entry)
            if len(tries) == 1:
                raise StoreUnavailable("the connection was lost")
            return remembered

        monkeypatch.setattr(inbox, "leave", lose_the_answer)
        assert (await worker.perform(action("ship"))).outcome == "succeeded"
        assert len(tries) == 2


@pytest.mark.parametrize("kind", ["action", "probe", "unknown step", "bad arguments"])
async def test_whatever_is_asked_while_the_database_is_away_is_answered(url: str, kind: str) -> None:
    """Nobody can tell what became of it, so that is what they are told, and when to ask again."""
    if kind == "probe":
        request = StepRequest(kind="probe", step="ship", saga_id="s", path="1", idempotency_key="k")
    else:
        request = action("nothing" if kind == "unknown step" else "ship")
        if kind == "bad arguments":
            request = action("ship", arguments=b"{")
    async with Worker([ship], inbox=url) as worker:
        with away(inbox_of(worker)._store):
            reply = await worker.perform(request)
    assert (reply.outcome, reply.retry_after) == ("in_doubt", 1.0)


class away:  # noqa: N801 - reads as a sentence
    """A database that cannot be reached."""

    def __init__(self, store: SqlStore) -> None:
        self._store: Any = store
        self._kept = (store.begin, store.query)

    def __enter__(self) -> None:
        def refuse(*_: object) -> Any:
            raise StoreUnavailable("it is away")

        self._store.begin = self._store.query = refuse

    def __exit__(self, *_: object) -> None:
        self._store.begin, self._store.query = self._kept


async def test_nothing_is_lost_when_the_server_is_restarted_under_load() -> None:
    """What was answered stays so, and what was not is asked again until it is."""
    with PostgresServer(parent=Path("/tmp")) as server:  # noqa: S108 - a short path, for its socket
        url = server.create_database()

        @step(transactional=True)
        def write(session: Session, number: int) -> int:
            session.connection().execute(text("INSERT INTO effect VALUES (:number)"), {"number": number})
            return number

        answered: dict[int, StepReply] = {}
        async with Worker([write, ship], inbox=url) as worker:
            store = inbox_of(worker)._store
            with store.begin() as connection:
                connection.execute(text("CREATE TABLE effect (number int)"))

            async def ask(number: int) -> None:
                for name, arguments in (("write", b'{"number":%d}' % number), ("ship", b'{"item":"%d"}' % number)):
                    key = number if name == "write" else -number
                    request = action(name, f"{name} {number}", arguments=arguments)
                    while (reply := await worker.perform(request)).outcome != "succeeded":
                        assert reply.outcome in ("in_doubt", "running"), reply
                        await anyio.sleep(0.05)
                    answered[key] = reply

            async def disturb() -> None:
                while len(answered) < 40:  # noqa: ASYNC110 - some of them
                    await anyio.sleep(0.005)
                await to_thread.run_sync(server.kill)
                await to_thread.run_sync(server.start)

            with anyio.fail_after(60):
                async with anyio.create_task_group() as group:
                    group.start_soon(disturb)
                    for number in range(1, 151):
                        group.start_soon(ask, number)
            found = sorted(row[0] for row in store.query(text("SELECT number FROM effect")))
            assert found == list(range(1, 151))
            for number in (1, 75, 150):
                again = action("write", f"write {number}", arguments=b'{"number":%d}' % number)
                assert await worker.perform(again) == answered[number]


async def test_a_database_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no directory"):
        async with Worker([ship], inbox=f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}"):
            raise AssertionError


# --- requests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a\x00b", "", "k" * 5_000, "\ud800"])
async def test_a_key_that_no_database_can_keep_is_refused(url: str, key: str) -> None:
    """On all of them alike, and for good."""
    async with Worker([ship], inbox=url) as worker:
        reply = await worker.perform(action("ship", key))
        assert reply.outcome == "failed"
        assert reply.error is not None
        assert "1 to 2000 bytes" in reply.error.message


async def test_a_long_key_is_remembered(url: str) -> None:
    key = os.urandom(1_000).hex()
    async with Worker([ship], inbox=url) as worker:
        for _ in range(2):
            assert (await worker.perform(action("ship", key))).outcome == "succeeded"


async def test_another_request_does_not_get_a_reply_by_being_wrong(url: str) -> None:
    """What cannot be decoded is another request too."""
    async with Worker([ship], inbox=url) as worker:
        await worker.perform(action("ship"))
        with pytest.raises(KeyReused):
            await worker.perform(action("ship", arguments=b'{"item":1}'))


async def test_an_undo_of_another_step_is_another_request(url: str) -> None:
    async with Worker([ship, pack], inbox=url) as worker:
        await worker.perform(action("ship"))
        with pytest.raises(KeyReused):
            await worker.perform(undo("pack"))
        with pytest.raises(KeyReused):
            await worker.perform(action("pack"))


async def test_a_request_with_a_wrong_key_does_not_stand_in_for_the_right_one(url: str) -> None:
    """Both come at the same time, and the wrong one first."""
    async with Worker([ship], inbox=url) as worker:
        await worker.perform(action("ship"))
        replies: list[StepReply] = []

        async def wrong() -> None:
            with pytest.raises(KeyReused):
                await worker.perform(action("ship", arguments=b'{"item":"vase"}'))

        async def right() -> None:
            replies.append(await worker.perform(action("ship")))

        async with anyio.create_task_group() as group:
            group.start_soon(wrong)
            group.start_soon(right)
        assert [reply.outcome for reply in replies] == ["succeeded"]


async def test_a_step_that_has_become_transactional_remembers_its_doubt(url: str) -> None:
    """A rejection does not take back what an earlier attempt may have done."""

    @step(name="lose", transactional=True)
    def refuse(session: Session, item: str = "lamp") -> str:
        raise ValueError(item)

    async with Worker([lose], inbox=url) as before:
        assert (await before.perform(action("lose"))).outcome == "in_doubt"
    async with Worker([refuse], inbox=url) as after:
        assert (await after.perform(action("lose"))).outcome == "in_doubt"


# --- transactions ---------------------------------------------------------------------------------------------------


async def test_what_the_database_refuses_at_the_end_has_failed(url: str) -> None:
    """A deferred constraint, say; and what it breaks for a moment only is fine."""
    sqlite = url.startswith("sqlite")

    @step(transactional=True)
    def seat(session: Session, number: int, also: int) -> None:
        if sqlite:
            session.connection().execute(text("INSERT INTO child VALUES (:number)"), {"number": also})
        session.connection().execute(text("INSERT INTO seats VALUES (:number)"), {"number": number})
        if not sqlite:
            session.connection().execute(text("INSERT INTO seats VALUES (:number)"), {"number": also})

    async with Worker([seat], inbox=url) as worker:
        store = inbox_of(worker)._store
        if sqlite:
            with store._writing:
                driver = store._writer_connection().connection.driver_connection
                assert driver is not None
                driver.execute("PRAGMA foreign_keys=ON")
        with store.begin() as connection:
            if sqlite:
                connection.execute(text("CREATE TABLE seats (n INTEGER PRIMARY KEY)"))
                connection.execute(
                    text("CREATE TABLE child (n INTEGER REFERENCES seats (n) DEFERRABLE INITIALLY DEFERRED)")
                )
            else:
                connection.execute(text("CREATE TABLE seats (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        good, bad = (1, 1) if sqlite else (1, 2), (3, 4) if sqlite else (5, 5)
        for key, (number, also), outcome in (
            ("bad", bad, "failed"),
            ("good", good, "succeeded"),
            ("bad", bad, "failed"),
        ):
            arguments = b'{"number":%d,"also":%d}' % (number, also)
            assert (await worker.perform(action("seat", key, arguments=arguments))).outcome == outcome


async def test_what_a_function_commits_itself_is_taken_back_unless_it_succeeds(url: str) -> None:
    """A step that is rejected has written nothing."""

    @step(transactional=True)
    def write(session: Session, number: int) -> None:
        session.connection().execute(text("INSERT INTO effect VALUES (:number)"), {"number": number})
        session.commit()
        if number == 1:
            raise Rejected("no")

    async with Worker([write], inbox=url) as worker:
        store = inbox_of(worker)._store
        with store.begin() as connection:
            connection.execute(text("CREATE TABLE effect (number int)"))
        for number, outcome in ((1, "rejected"), (2, "succeeded"), (1, "rejected")):
            reply = await worker.perform(action("write", str(number), arguments=b'{"number":%d}' % number))
            assert reply.outcome == outcome
        assert [row[0] for row in store.query(text("SELECT number FROM effect"))] == [2]


@asynccontextmanager
async def _held(url: str) -> AsyncGenerator[tuple[Worker, Worker, threading.Event]]:
    """Two workers, of which the first is in the middle of a transaction about ``k``."""
    begun, go = threading.Event(), threading.Event()

    @step(name="ship", transactional=True)
    def hold(session: Session, item: str = "lamp") -> str:
        begun.set()
        go.wait(20)
        return "held"

    @hold.compensator
    async def unhold(result: str | None) -> None: ...

    async with (
        Worker([hold], inbox=url) as first,
        Worker([ship], inbox=url) as other,
        anyio.create_task_group() as group,
    ):
        group.start_soon(first.perform, action("ship"))
        try:
            await to_thread.run_sync(begun.wait, 10)
            yield first, other, go
        finally:
            go.set()


async def test_a_long_transaction_holds_up_nobody_but_those_who_ask_for_the_same(postgres_url: str) -> None:
    """They are told that it is running, and everybody else is served meanwhile."""
    async with _held(postgres_url) as (_, other, go):
        replies: dict[str, StepReply] = {}
        seconds: list[float] = []

        async def ask(request: StepRequest) -> None:
            began = time.monotonic()
            replies[f"{request.kind} {request.action_key}"] = await other.perform(request)
            if request.action_key != "k":
                seconds.append(time.monotonic() - began)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, undo("ship"))
            for number in range(100):
                group.start_soon(ask, action("ship", str(number)))
        assert replies.pop("undo k").outcome == "running"
        assert {reply.outcome for reply in replies.values()} == {"succeeded"}
        go.set()
        with anyio.fail_after(20):
            while (reply := await other.perform(action("ship"))).outcome == "running":  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
        assert reply.payload == b'"held"'


async def test_a_job_that_fails_does_so_alone(url: str) -> None:
    """Those that came with it are committed."""
    async with Worker([ship], inbox=url) as worker:
        batcher = inbox_of(worker)._batcher
        done: list[int] = []
        failed: list[str] = []

        async def write(number: int) -> None:
            def work(connection: Any) -> int:
                if number == 3:
                    raise LookupError("no such row")
                return number

            try:
                done.append(await batcher.do(work))
            except LookupError as error:
                failed.append(str(error))

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(write, number)
        assert (sorted(done), failed) == ([0, 1, 2, 4, 5], ["no such row"])


# --- forgetting -----------------------------------------------------------------------------------------------------


async def test_an_action_and_its_undo_are_forgotten_together(url: str) -> None:
    """Else an action could come after its undo. And whatever is asked meanwhile is remembered."""
    async with Worker([ship], inbox=url) as worker:
        inbox = inbox_of(worker)
        for number in range(5):
            await worker.perform(action("ship", f"old {number}"))
        await worker.perform(action("ship", "young"))
        await worker.perform(undo("ship", "young"))
        with inbox._store.begin() as connection:
            connection.execute(text("UPDATE saga_inbox SET at = at - 1000 WHERE kind = 'action'"))

        async def ask(number: int) -> None:
            assert (await worker.perform(action("ship", f"new {number}"))).outcome == "succeeded"

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, number)
            assert await inbox.expire(500.0) == 5
        rows = inbox._store.query(text("SELECT about, kind FROM saga_inbox WHERE about NOT LIKE 'new%'"))
        assert sorted(tuple(row) for row in rows) == [("young", "action"), ("young", "undo")]
        assert len(inbox._store.query(text("SELECT about FROM saga_inbox WHERE about LIKE 'new%'"))) == 20
