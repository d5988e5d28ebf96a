"""The server that other tests rely on: it is real, it is durable, and it goes when they go."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from tests.support.postgres import Databases, PostgresServer, shared_databases


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def ask(url: str, statement: str) -> Any:
    with connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return row and row[0]


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def postmaster_of(server: PostgresServer) -> int:
    return int((server.directory / "data" / "postmaster.pid").read_text().split()[0])


def test_a_database_of_the_runs_server_answers_sqlalchemy(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT current_database()")).scalar_one() == make_url(postgres_url).database
        assert connection.execute(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")).scalar_one() == 0
    engine.dispose()


def test_a_database_is_dropped_although_somebody_still_uses_it(postgres_server: Databases) -> None:
    url = postgres_server.create_database()
    with connect(url) as connection:
        postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(url)


def test_it_runs_unprivileged_commits_durably_and_listens_in_its_directory_only(server: PostgresServer) -> None:
    owner = Path(f"/proc/{postmaster_of(server)}").stat().st_uid if sys.platform == "linux" else os.geteuid()
    assert owner != 0
    url = server.url("postgres")
    shown = {name: ask(url, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")}
    assert shown == {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    assert ask(url, "SHOW listen_addresses") == ""
    assert ask(url, "SHOW unix_socket_directories") == str(server.directory)


def test_what_was_committed_outlives_a_kill_and_what_was_not_does_not(server: PostgresServer) -> None:
    url = server.create_database("ledger")
    with connect(url) as connection:
        connection.execute("CREATE TABLE entry (number INTEGER)")
        connection.execute("INSERT INTO entry SELECT generate_series(1, 1000)")
    open_one = connect(url)
    open_one.execute("INSERT INTO entry VALUES (1001)")
    killed = postmaster_of(server)

    server.kill()

    with pytest.raises(psycopg.OperationalError):
        open_one.execute("SELECT 1")
    open_one.close()
    with pytest.raises(psycopg.OperationalError):
        connect(url)
    server.start()
    assert postmaster_of(server) != killed
    assert ask(url, "SELECT count(*) FROM entry") == 1000


def test_a_restart_keeps_the_address(server: PostgresServer) -> None:
    url = server.create_database()
    server.restart()
    assert ask(url, "SELECT 1") == 1


def test_a_server_that_cannot_start_says_why(server: PostgresServer) -> None:
    server.stop()
    (server.directory / "data" / "postgresql.auto.conf").write_text("work_mem = plenty")
    with pytest.raises(RuntimeError, match="work_mem"):
        server.start()


@pytest.mark.parametrize("killed", [False, True])
def test_nothing_is_left_when_it_is_closed(killed: bool) -> None:
    with PostgresServer() as server:
        postmaster = postmaster_of(server)
        if killed:
            server.kill()
    assert_gone(postmaster, server.directory)


def assert_gone(postmaster: int, directory: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(postmaster, 0)
    assert not directory.exists()


def test_users_of_a_shared_server_meet_at_one_and_the_last_ends_it(tmp_path: Path) -> None:
    with shared_databases(tmp_path) as first:
        url = first.create_database()
        with shared_databases(tmp_path) as second:
            assert ask(second.url(make_url(url).database or ""), "SELECT 1") == 1
        assert ask(url, "SELECT 1") == 1
    with shared_databases(tmp_path) as third:
        assert third.url("x") != first.url("x")


def test_a_shared_server_outlives_who_started_it(tmp_path: Path) -> None:
    first = shared_databases(tmp_path)
    url = first.__enter__().create_database()
    with shared_databases(tmp_path):
        first.__exit__(None, None, None)
        assert ask(url, "SELECT 1") == 1


STARTS_AND_WAITS = {
    "own": """
from tests.support.postgres import PostgresServer
with PostgresServer() as server:
    print(server.directory, flush=True)
    input()
""",
    "shared": """
import sys
from pathlib import Path
from sqlalchemy import make_url
from tests.support.postgres import shared_databases
with shared_databases(Path(sys.argv[1])) as databases:
    print(make_url(databases.url("x")).query["host"], flush=True)
    input()
""",
}


@pytest.mark.parametrize("kind", STARTS_AND_WAITS)
def test_nothing_is_left_when_its_user_is_killed(kind: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS[kind], tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    directory = Path(process.stdout.readline().strip())
    postmaster = int((directory / "data" / "postmaster.pid").read_text().split()[0])

    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)  # the keeper has these pipes too, and is the last to close them

    assert_gone(postmaster, directory)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux' kernel tells a child of its parent's end")
def test_the_server_does_not_outlive_a_killed_keeper() -> None:
    with PostgresServer() as server:
        postmaster = postmaster_of(server)
        ended = os.pidfd_open(postmaster)
        keeper = int(Path(f"/proc/{postmaster}/stat").read_text().split()[3])

        os.kill(keeper, signal.SIGKILL)

        assert select.select([ended], [], [], 60.0)[0]
        os.close(ended)
    assert not server.directory.exists()
