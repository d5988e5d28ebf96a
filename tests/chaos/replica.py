"""One of several coordinators on one PostgreSQL, with steps that stand still where a test wants them to.

``python -m tests.chaos.replica '{"name": "a", …}'``; SIGTERM has it leave, SIGUSR1 say which sagas it drives.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from anyio.abc import TaskGroup
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlmodel import Session

from sagas import Coordinator, receive, saga, sleep, step
from sagas.stores import store_for
from sagas.stores.port import Batch, Committed
from sagas.stores.postgres import PostgresStore

__all__ = ["SAGAS", "Settings", "busy", "entering", "in_line", "patient", "timed"]

_PAUSE = 0.005


class Settings(NamedTuple):
    """What a process is told when it starts.

    Attributes:
        name: What its steps return.
        url: Of the journal.
        directory: Where the files are that have it stand still.
        lease: Seconds.
        backend: Event loop.
        starts: Ids of sagas that it starts and whose results it prints, by name.
    """

    name: str
    url: str
    directory: str
    lease: float = 30.0
    backend: str = "asyncio"
    starts: dict[str, str] = {}  # noqa: RUF012 - read only


_settings: list[Settings] = []


def _name() -> str:
    return _settings[0].name


def _is_held(what: str) -> bool:
    """Says that it came here, and whether it is to stand still."""
    hold = Path(_settings[0].directory) / f"hold.{_name()}.{what}"
    if hold.exists():
        hold.with_name(f"here.{_name()}.{what}").touch()
        return True
    return False


def stand(what: str) -> None:
    """Stands still as long as the test wants it, in a thread."""
    while _is_held(what):
        time.sleep(_PAUSE)


@step
async def work() -> str:
    return _name()


@step
async def linger(what: str) -> str:
    """Stands still in the event loop's sight."""
    return await _linger(what)


async def _linger(what: str) -> str:
    while _is_held(what):  # noqa: ASYNC110 - another process decides
        await anyio.sleep(_PAUSE)
    return _name()


@step(limit=1)
async def take_turns() -> str:
    """Is made once at a time in a process."""
    return await _linger("turn")


@step(transactional=True)
def enter(session: Session, what: str) -> str:
    session.connection().execute(text("INSERT INTO ledger VALUES (:what, :name)"), {"what": what, "name": _name()})
    stand(what)
    return _name()


@saga
async def busy(what: str) -> list[str]:
    return [await linger(what), await work()]


@saga
async def entering(what: str) -> list[str]:
    return [await enter(what), await work()]


@saga
async def patient() -> list[str]:
    return [await work(), await receive("go", str), await work()]


@saga
async def timed(seconds: float) -> list[str]:
    before = await work()
    await sleep(seconds)
    return [before, await work()]


@saga
async def in_line() -> str:
    return await take_turns()


SAGAS = (busy, entering, patient, timed, in_line)


def _stand_before_writing() -> None:
    """Has this process stand still right before an append of a step's outcome, and before a commit."""
    commit, transact, end = PostgresStore.commit, PostgresStore.transact, PGDialect_psycopg.do_commit
    transacting = threading.local()

    def append(self: PostgresStore, batch: Batch) -> Committed:
        if any(row.kind == "StepSucceeded" for row in batch.rows):
            stand("append")
        return commit(self, batch)

    def note_transaction(self: PostgresStore, *arguments: Any) -> Committed:
        transacting.here = True
        try:
            return transact(self, *arguments)
        finally:
            transacting.here = False

    def end_transaction(self: Any, connection: Any) -> None:
        if getattr(transacting, "here", False):
            stand("commit")
        end(self, connection)  # type: ignore[no-untyped-call] # SQLAlchemy's

    PostgresStore.commit = append  # type: ignore[method-assign]
    PostgresStore.transact = note_transaction  # type: ignore[method-assign, assignment]
    PGDialect_psycopg.do_commit = end_transaction  # type: ignore[method-assign]


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - what the test listens to


async def _start(coordinator: Coordinator, saga_id: str, name: str) -> None:
    call = busy(saga_id) if name == "busy" else entering(saga_id)
    _say(f"{saga_id} {await coordinator.run(call, id=saga_id)}")


async def _heed(coordinator: Coordinator, group: TaskGroup) -> None:
    """Obeys signals."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        _say("ready")
        async for number in signals:
            if number == signal.SIGTERM:
                group.cancel_scope.cancel()
            else:
                _say(f"drives {sorted(coordinator._engine.sagas if coordinator._engine else ())}")  # noqa: SLF001 - what nobody else may know


async def _run(settings: Settings) -> None:
    async with (
        Coordinator(store_for(settings.url), sagas=SAGAS, name=settings.name, lease=settings.lease) as coordinator,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_heed, coordinator, group)
        for saga_id, name in settings.starts.items():
            group.start_soon(_start, coordinator, saga_id, name)


def main() -> None:
    """Runs until it is told to leave."""
    settings = Settings(**json.loads(sys.argv[1]))
    _settings[:] = [settings]
    logging.basicConfig(level=logging.INFO)
    _stand_before_writing()
    anyio.run(partial(_run, settings), backend=settings.backend)


if __name__ == "__main__":
    main()
