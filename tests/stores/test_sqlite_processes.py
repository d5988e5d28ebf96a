"""Several processes on one SQLite file."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sagas.stores.port import Lease
from sagas.stores.sqlite import SqliteStore
from sagas.testing.contracts.stores._batches import start

_FAR = 1e11
StartProcess = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def start_process(sqlite_url: str) -> Iterator[StartProcess]:
    """Starts processes that open the store; kills what is left of them afterwards."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(name: str, times: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.counting", sqlite_url, name, str(times)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start_one
    for process in processes:
        process.kill()
        process.communicate(timeout=30)


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def test_four_processes_lose_none_of_each_others_writes(start_process: StartProcess, sqlite: SqliteStore) -> None:
    """A read inside a writing transaction is never outdated by the time of the write: BEGIN IMMEDIATE."""
    with sqlite3.connect(sqlite._path) as business:
        business.execute("CREATE TABLE counter (value INTEGER)")
        business.execute("INSERT INTO counter VALUES (0)")
    processes = [start_process(f"p{number}", 50) for number in range(4)]
    for process in processes:
        _hear(process, "ready")
    for process in processes:
        _say(process)
    for process in processes:
        _hear(process, "done")
    assert business.execute("SELECT value FROM counter").fetchone() == (200,)
    business.close()
    assert len(sqlite.select(status=None, name=None, limit=1_000, before=None)) == 200


def test_four_processes_may_create_the_database_at_once(start_process: StartProcess, sqlite_url: str) -> None:
    """Each finds the tables that it needs, whoever made them."""
    processes = [start_process(f"p{number}", 0) for number in range(4)]
    for process in processes:
        _hear(process, "ready")


def test_a_dead_process_s_lease_is_known_to_be_over_at_once(start_process: StartProcess, sqlite: SqliteStore) -> None:
    """A killed process cannot say that it is dead, but its lock says so."""
    process = start_process("p", 0)
    _hear(process, "ready")
    sqlite.commit(start("s", owner="p"))
    assert sqlite.alive("p", _FAR)
    assert not sqlite.claim("me", _FAR, 10, ["order@1"])
    process.kill()
    process.wait(timeout=30)
    assert not sqlite.alive("p", _FAR)
    assert [saga.id for saga in sqlite.claim("me", _FAR, 10, ["order@1"])] == ["s"]


def test_what_a_dead_process_left_behind_is_tidied_up(start_process: StartProcess, sqlite: SqliteStore) -> None:
    """Neither its lease nor its lock file stays."""
    process = start_process("p", 0)
    _hear(process, "ready")
    process.kill()
    process.wait(timeout=30)
    files = sqlite._path.parent
    assert list(files.glob("*-lease-p"))
    assert not sqlite.alive("p", _FAR)
    sqlite.renew(Lease("me", "host", _FAR), 0.0)
    assert not list(files.glob("*-lease-p"))
    assert not sqlite.alive("p", 0.0)
    sqlite.release("me")
    assert not list(files.glob("*-lease-*"))
