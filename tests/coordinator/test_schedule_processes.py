"""Processes that share a schedule, on a file and on one server; some are killed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sagas.stores import store_for
from sagas.stores.port import SagaRow, Store
from tests.coordinator.ticking import EVERY

_PATIENCE = 60.0
# Every test waits at least for so many sagas to end.
_STARTED = 5
Process = subprocess.Popen[str]


class Fleet:
    """Processes with the schedule, the journal that they share, and what they did."""

    def __init__(self, url: str, file: Path) -> None:
        self._file = file
        self._processes: list[Process] = []
        self._url = url
        self._store = store_for(url)
        self._store.open(migrate=True)

    def begin(self, *, missed: str = "all", die: str = "never") -> Process:
        """Starts a process, and waits until it works."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.coordinator.ticking", self._url, str(self._file), missed, die],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def close(self) -> None:
        """Kills whatever is left."""
        for process in self._processes:
            process.kill()
            process.communicate(timeout=30)
        self._store.close()

    @property
    def store(self) -> Store:
        """The journal."""
        return self._store

    def sagas(self) -> list[SagaRow]:
        """Gives the sagas, oldest first."""
        return list(reversed(self._store.select(status=None, name=None, limit=10_000, before=None)))

    def ran(self) -> list[str]:
        """Gives the due times whose step ran, as often as it did."""
        return self._file.read_text(encoding="utf-8").split() if self._file.exists() else []

    def waits_for(self, count: int) -> None:
        """Waits until so many sagas have been started, and all have ended."""

        def enough() -> bool:
            rows = self.sagas()
            return len(rows) >= count and all(row.status == "completed" for row in rows)

        self._until(enough)

    def _until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < end, f"not in time: {len(self.sagas())} sagas"
            time.sleep(0.02)

    def stop(self) -> None:
        """Has every process that lives leave in good order."""
        for process in self._processes:
            if process.poll() is None:
                process.communicate("\n", timeout=30)
        assert {process.returncode for process in self._processes} <= {0, -signal.SIGKILL}


@pytest.fixture(params=["sqlite", "postgres"])
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    """On a journal that processes can share."""
    sqlite = f"sqlite:///{tmp_path / 'journal.db'}"
    found = Fleet(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url"), tmp_path / "ran")
    yield found
    found.close()


def _due(row: SagaRow) -> datetime:
    return datetime.fromisoformat(row.id.removeprefix("tick@"))


def _each_once(fleet: Fleet) -> None:
    """No due time was left out, and each has one saga with one beginning."""
    rows = fleet.sagas()
    dues = sorted(map(_due, rows))
    assert dues == [dues[0] + number * timedelta(seconds=EVERY) for number in range(len(dues))]
    journals = fleet.store.load([row.id for row in rows])
    assert all([record.seq for record in journals[row.id]].count(0) == 1 for row in rows)
    # What was started just before everybody left is still open, and has run or not.
    ended = {_due(row).isoformat() for row in rows if row.status == "completed"}
    assert len(ended) >= _STARTED
    assert ended <= set(fleet.ran()) <= {due.isoformat() for due in dues}


def test_processes_side_by_side_start_each_due_time_exactly_once(fleet: Fleet) -> None:
    """Whoever is first; and nobody else runs its step."""
    processes = [fleet.begin() for _ in range(2)]
    fleet.waits_for(20)
    fleet.stop()
    _each_once(fleet)
    assert len(fleet.ran()) == len(set(fleet.ran()))
    assert [process.returncode for process in processes] == [0, 0]


@pytest.mark.parametrize("die", ["make", "start", "note"])
def test_a_process_that_is_killed_around_a_start_leaves_one_start(fleet: Fleet, die: str) -> None:
    """Before it, while it is written, and after it; the next process finds out from the row which it was."""
    dead = fleet.begin(die=die)
    assert dead.wait(timeout=_PATIENCE) == -signal.SIGKILL
    before = len(fleet.sagas())
    assert before == (4 if die == "note" else 3)
    (row,) = fleet.store.schedules("tick")
    last = max(map(_due, fleet.sagas())).timestamp()
    assert row.due_at == pytest.approx(last if die == "note" else last + EVERY)
    fleet.begin()
    fleet.waits_for(before + 10)
    fleet.stop()
    _each_once(fleet)


def test_a_process_that_is_killed_around_a_start_has_others_beside_it(fleet: Fleet) -> None:
    """They go on at the next due time, without a lease that would have to end first."""
    fleet.begin(missed="skip")
    fatal = [fleet.begin(missed="skip", die=die) for die in ("make", "start", "note")]
    fleet.waits_for(30)
    while any(process.poll() is None for process in fatal):
        fleet.waits_for(len(fleet.sagas()) + 1)
    fleet.waits_for(len(fleet.sagas()) + 5)
    fleet.stop()
    assert [process.returncode for process in fatal] == [-signal.SIGKILL] * 3
    assert len({row.id for row in fleet.sagas()}) == len(fleet.sagas())


def test_processes_that_are_killed_at_random_leave_nothing_out_and_start_nothing_twice(
    fleet: Fleet, rng: random.Random
) -> None:
    processes = [fleet.begin() for _ in range(3)]
    for _ in range(5):
        time.sleep(rng.uniform(0.0, 2 * EVERY))  # at any moment between two due times
        processes.pop(rng.randrange(3)).kill()
        processes.append(fleet.begin())
    fleet.waits_for(len(fleet.sagas()) + 5)
    fleet.stop()
    _each_once(fleet)


def test_a_process_that_was_paused_for_long_starts_nothing_twice(fleet: Fleet) -> None:
    """It looks at the row with old eyes; others went on meanwhile."""
    paused = fleet.begin()
    fleet.waits_for(3)
    paused.send_signal(signal.SIGSTOP)
    try:
        fleet.begin()
        fleet.waits_for(len(fleet.sagas()) + 10)
    finally:
        paused.send_signal(signal.SIGCONT)
    fleet.waits_for(len(fleet.sagas()) + 5)
    fleet.stop()
    _each_once(fleet)
