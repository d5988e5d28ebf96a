"""Ends a process right before or right after each of its commits in turn, recovers in another one, and audits.

``python -m tests.chaos.crash_points DIRECTORY SEED orders|locks``

Each process is forked from this one, which starts no threads of its own, so that a life takes milliseconds.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
from sqlalchemy import text
from sqlmodel import Session

from sagas import Coordinator, SagaCompensated, saga, step
from sagas.stores.sql import SqlStore
from sagas.stores.sqlite import SqliteStore
from tests.chaos import business, tally

_CRASHED = 9
_ORDERS = 3
_MOST = 200


@step(transactional=True)
def enter(session: Session, number: int) -> int:
    """Writes into the journal's own database; every third entry is refused after it was written."""
    session.connection().execute(text("INSERT INTO ledger VALUES (:number)"), {"number": number})
    if number % 3 == 2:
        raise business.Refused(number)
    return number


@saga
async def entry(number: int) -> int:
    """An order that is entered into the ledger at its end."""
    await business.reserve(number)
    await business.ship(number)
    return await enter(number)


async def _run(directory: Path) -> None:
    url = f"sqlite:///{directory / 'journal.db'}"
    async with Coordinator(url, sagas=[*business.SAGAS, entry], poll=0.01) as coordinator:

        async def run(number: int) -> None:
            for call, name in ((business.order(number), "order"), (entry(number), "entry")):
                try:
                    await coordinator.run(call, id=f"{name}-{number}")
                except SagaCompensated:
                    continue

        async with anyio.create_task_group() as group:
            for number in range(_ORDERS):
                group.start_soon(run, number)


def _fork(work: Callable[[], None]) -> int:
    """Runs something in a process of its own, and gives how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _crash_at(number: int, *, after: bool) -> None:
    """Has this process end at its n-th write, of whichever kind."""
    writes = 0

    def wrap(write: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object) -> object:
            nonlocal writes
            writes += 1
            mine = writes == number
            if mine and not after:
                os._exit(_CRASHED)
            result = write(*args)
            if mine:
                os._exit(_CRASHED)
            return result

        return counted

    for name in ("commit", "transact", "renew"):
        setattr(SqlStore, name, wrap(getattr(SqlStore, name)))


def _recover(run: Callable[[Path], Awaitable[None]], directory: Path) -> None:
    """Runs what was left to its end."""
    anyio.run(run, directory)


def _live(run: Callable[[Path], Awaitable[None]], directory: Path, crash_at: int, *, after: bool) -> None:
    _crash_at(crash_at, after=after)
    anyio.run(run, directory)


def _make_template(path: Path) -> None:
    """Makes an empty journal, with the ledger beside its tables."""
    store = SqliteStore(f"sqlite:///{path}")
    store.open(migrate=True)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE ledger (number INTEGER)")
    connection.close()


def _audit(directory: Path) -> None:
    business.audit(directory / "journal.db", directory / "business.db", others={"entry": {"reserve", "ship"}})
    with sqlite3.connect(directory / "journal.db") as connection:
        entered = [f"entry-{number}" for (number,) in connection.execute("SELECT number FROM ledger ORDER BY number")]
        completed = connection.execute("SELECT id FROM saga WHERE name = 'entry' AND status = 'completed' ORDER BY id")
        assert entered == [saga_id for (saga_id,) in completed], f"the ledger has {entered}"
    connection.close()


def _prepare(directory: Path, seed: int) -> None:
    """Gives the orders a business."""
    business.create(directory / "business.db")
    business.use(directory / "business.db", seed)


# How to prepare a directory, what to run in it, and how to audit it.
_SCENARIOS = {
    "orders": (_prepare, _run, _audit),
    "locks": (lambda directory, _: tally.create(directory / "tally.db"), tally.run, tally.audit),
}


def main() -> None:
    """Goes through the writes until there is none left to crash at; prints how many there were."""
    top, seed = Path(sys.argv[1]), int(sys.argv[2])
    prepare, run, audit = _SCENARIOS[sys.argv[3]]
    points = 0
    assert _fork(partial(_make_template, top / "template.db")) == 0
    for after in (False, True):
        for number in range(1, _MOST):
            directory = top / f"{'after' if after else 'before'}-{number}"
            directory.mkdir()
            prepare(directory, seed)
            shutil.copy(top / "template.db", directory / "journal.db")
            random.seed(f"{seed} {number}")
            status = _fork(partial(_live, run, directory, number, after=after))
            assert status in (0, _CRASHED), f"{directory.name}: the process ended with {status}"
            assert _fork(partial(_recover, run, directory)) == 0, f"{directory.name}: it did not recover"
            try:
                audit(directory)
            except AssertionError as error:
                raise AssertionError(f"{directory.name}: {error}") from error
            if status == 0:
                break
            points += 1
    print(points)  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
