"""Ends a process right before or right after each of its commits in turn, recovers in another one, and audits.

``python -m tests.chaos.crash_points DIRECTORY SEED orders|locks``
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy import text
from sqlmodel import Session

from sagas import Coordinator, SagaCall, SagaCompensated, gather, saga, step
from sagas.stores.sql import SqlStore
from sagas.stores.sqlite import SqliteStore
from tests.chaos import business, tally
from tests.chaos.lives import CrashPoints, fork, go_through

_ORDERS = 3
_WITHDRAWN = 30
_Scenario = tuple[Callable[[Path, int], None], Callable[[Path], Awaitable[None]], Callable[[Path], None]]


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


@enter.compensator(transactional=True)
def strike(session: Session, number: int, result: int) -> None:
    """Writes the contrary; nothing but the transaction keeps that from being there twice."""
    session.connection().execute(text("INSERT INTO ledger VALUES (:number)"), {"number": -result})


@saga
async def withdrawal(number: int) -> None:
    """Two entries side by side that are undone."""
    await gather(enter(number), enter(number + 1))
    raise business.Refused(number)


async def _run(directory: Path) -> None:
    url = f"sqlite:///{directory / 'journal.db'}"
    async with Coordinator(url, sagas=[*business.SAGAS, entry, withdrawal], poll=0.01) as coordinator:

        async def run(number: int) -> None:
            calls: list[tuple[SagaCall[Any], str]] = [(business.order(number), "order"), (entry(number), "entry")]
            if not number:
                calls.append((withdrawal(_WITHDRAWN), "withdrawal"))
            for call, name in calls:
                try:
                    await coordinator.run(call, id=f"{name}-{number}")
                except SagaCompensated:
                    continue

        async with anyio.create_task_group() as group:
            for number in range(_ORDERS):
                group.start_soon(run, number)


def _crash_at(number: int, *, after: bool) -> None:
    """Has this process end at its n-th write, of whichever kind."""
    points = CrashPoints(number)

    def wrap(write: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object) -> object:
            if not after:
                points.passes()
            result = write(*args)
            if after:
                points.passes()
            return result

        return counted

    for name in ("commit", "transact", "renew"):
        setattr(SqlStore, name, wrap(getattr(SqlStore, name)))


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
        entered = [number for (number,) in connection.execute("SELECT number FROM ledger ORDER BY number")]
        completed = connection.execute("SELECT id FROM saga WHERE name = 'entry' AND status = 'completed' ORDER BY id")
        should = [int(saga_id.removeprefix("entry-")) for (saga_id,) in completed]
        withdrawn = [_WITHDRAWN, _WITHDRAWN + 1]
        assert entered == [*(-x for x in reversed(withdrawn)), *should, *withdrawn], f"the ledger has {entered}"
        ((status,),) = connection.execute("SELECT status FROM saga WHERE name = 'withdrawal'").fetchall()
        assert status == "compensated", f"the withdrawal is {status}"
    connection.close()


def _prepare(directory: Path, seed: int) -> None:
    """Gives the orders a business."""
    business.create(directory / "business.db")
    business.use(directory / "business.db", seed)


# How to prepare a directory, what to run in it, and how to audit it.
_SCENARIOS: dict[str, _Scenario] = {
    "orders": (_prepare, _run, _audit),
    "locks": (lambda directory, _: tally.create(directory / "tally.db"), tally.run, tally.audit),
}


class _Writes:
    """Each write of a scenario is a point: see ``lives.Scene``."""

    def __init__(self, top: Path, seed: int, scenario: str, *, after: bool) -> None:
        self._top = top
        self._seed = seed
        self._set_up, self._run, self._check = _SCENARIOS[scenario]
        self._after = after

    def _directory(self, point: int) -> Path:
        return self._top / f"{'after' if self._after else 'before'}-{point}"

    def prepare(self, point: int) -> None:
        directory = self._directory(point)
        directory.mkdir()
        self._set_up(directory, self._seed)
        shutil.copy(self._top / "template.db", directory / "journal.db")
        random.seed(f"{self._seed} {point}")

    def live(self, point: int) -> None:
        _crash_at(point, after=self._after)
        self.recover(point)

    def recover(self, point: int) -> None:
        anyio.run(self._run, self._directory(point))

    def audit(self, point: int) -> None:
        try:
            self._check(self._directory(point))
        except AssertionError as error:
            raise AssertionError(f"{self._directory(point).name}: {error}") from error


def main() -> None:
    """Goes through the writes; prints how many there were."""
    top, seed, scenario = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    assert fork(partial(_make_template, top / "template.db")) == 0
    points = sum(go_through(_Writes(top, seed, scenario, after=after)) for after in (False, True))
    print(points)  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
