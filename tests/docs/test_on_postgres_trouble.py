"""What the page about PostgreSQL says of poolers, and of processes and servers that die."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import make_url

from sagas import Client, Coordinator, StoreError, current_step, lock, receive, saga, step
from tests.docs.asking import PATIENCE, ask, until, with_query
from tests.docs.examples import blocks
from tests.docs.pages import ON_POSTGRES, ROOT
from tests.support.postgres import PostgresServer


@step
async def reserve(item: str) -> str:
    return f"{item} is reserved"


@saga
async def order(item: str) -> str:
    async with lock(item):
        await reserve(item)
    return await receive("go", str)


_PGBOUNCER = shutil.which("pgbouncer") or ""

# --- poolers --------------------------------------------------------------------------------------------------------


@contextmanager
def _pgbouncer(url: str, directory: Path, **settings: str) -> Generator[str]:
    """Runs a PgBouncer in front of a database; gives the URL."""
    parsed = make_url(url)
    lines = {
        "listen_addr": "", "unix_socket_dir": str(directory), "auth_type": "any", "logfile": str(directory / "log"),
        **settings,
    }  # fmt: skip
    file = directory / "pgbouncer.ini"
    place = {"host": parsed.query.get("host", parsed.host), "port": parsed.port or 5432, "user": parsed.username}
    place |= {"password": parsed.password} if parsed.password else {}
    databases = " ".join(f"{name}={value}" for name, value in place.items())
    file.write_text(
        f"[databases]\n* = {databases}\n[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    nobody = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if nobody is not None:  # it refuses to run as root
        directory.chmod(0o777)
    process = subprocess.Popen(
        [_PGBOUNCER, str(file)], user=nobody and nobody.pw_uid, group=nobody and nobody.pw_gid,
        extra_groups=nobody and [], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(directory / ".s.PGSQL.6432")
        yield with_query(url, host=str(directory), port="6432")
    finally:
        process.terminate()
        process.wait()


def _wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.02)


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """For a socket, whose path must be short, and which others may reach."""
    directory = Path(f"/tmp/sagas-pooler-{uuid.uuid4().hex[:8]}")  # noqa: S108 - of a random name, and made here
    directory.mkdir()
    yield directory
    shutil.rmtree(directory)


@pytest.mark.skipif(not _PGBOUNCER, reason="PgBouncer is not installed")
@pytest.mark.parametrize(
    ("mode", "query", "works"),
    [
        ("session", {}, True),
        ("session", {"synchronous_commit": "off"}, False),
        ("transaction", {"notify": "off"}, True),
        ("transaction", {}, True),
        ("statement", {"notify": "off"}, False),
    ],
)
async def test_behind_pgbouncer(
    postgres_url: str, short_directory: Path, mode: str, query: dict[str, str], works: bool
) -> None:
    with _pgbouncer(postgres_url, short_directory, pool_mode=mode) as pooled:
        url = with_query(pooled, **query)
        async with AsyncExitStack() as stack:
            if not works:
                with pytest.raises(StoreError):
                    await stack.enter_async_context(Coordinator(url))
                return
            coordinator = await stack.enter_async_context(Coordinator(url, sagas=[order]))
            client = await stack.enter_async_context(Client(url))
            with anyio.fail_after(PATIENCE):
                for number in range(10):
                    handle = await client.start(order(f"lamp {number}"), id=f"order-{number}")
                    await coordinator.signal(f"order-{number}", "go", "gone")
                    assert await handle.result() == "gone"


# --- what dies ------------------------------------------------------------------------------------------------------

_VICTIM = """
import sys, anyio
from sagas import Coordinator
from tests.docs.test_on_postgres_trouble import stuck_here

async def main():
    async with Coordinator(sys.argv[1], sagas=[stuck_here], lease=600.0) as coordinator:
        await coordinator.start(stuck_here(), id="s")
        await anyio.sleep_forever()

anyio.run(main)
"""
_RESCUED = "SELECT at FROM saga_journal WHERE saga_id = 's' AND kind = 'SagaTakenOver'"


@step
async def hang_once() -> str:
    if os.environ.get("SAGAS_HANGS"):
        await anyio.sleep_forever()
    return current_step().idempotency_key


@saga
async def stuck_here() -> str:
    return await hang_once()


def _start(url: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SAGAS_HANGS": "yes"}
    return subprocess.Popen([sys.executable, "-c", _VICTIM, url], env=environment, cwd=ROOT)


async def test_sagas_of_a_killed_process_are_taken_over_within_seconds_whatever_its_lease(postgres_url: str) -> None:
    """Three seconds after it last said that it is alive; the server has to be up for ten."""
    process = _start(postgres_url)
    try:
        async with Coordinator(postgres_url, sagas=[stuck_here]) as coordinator:
            await until(lambda: ask(postgres_url, "SELECT 1 FROM saga"))
            ask(
                postgres_url,
                "SELECT pg_sleep(greatest(0, 11 - extract(epoch FROM now() - pg_postmaster_start_time())))",
            )
            process.send_signal(signal.SIGKILL)
            process.wait()
            victim = "SELECT renewed_at FROM saga_lease WHERE expires_at > extract(epoch FROM now()) + 300"
            ((said,),) = ask(postgres_url, victim)
            with anyio.fail_after(PATIENCE):
                assert await coordinator.run(stuck_here(), id="s") == f"{await _key(coordinator)}:1"
            ((taken,),) = ask(postgres_url, _RESCUED)
    finally:
        process.kill()
        process.wait()
    assert 3.0 - 0.5 < taken - said < 15.0


def _worker(url: str, home: Path) -> subprocess.Popen[bytes]:
    """Starts the page's worker program, whose lease is so long that nobody waits for its end."""
    (program,) = (block for block in blocks(ON_POSTGRES, "python") if block.startswith("# worker.py"))
    (home / "shop.py").write_text("from tests.docs.test_on_postgres_trouble import order\n")
    program, replaced = re.subn(r"sagas=\[order\]", "sagas=[order], lease=600.0", program)
    assert replaced == 1
    (home / "worker.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SAGAS_STORE": url}
    return subprocess.Popen([sys.executable, "worker.py"], cwd=home, env=environment)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_worker_that_is_asked_to_stop_hands_over_what_waits_at_once(
    postgres_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Without notifications, so that nobody would find out before its lease is over that it is dead."""
    url = with_query(postgres_url, notify="off")
    worker = _worker(url, tmp_path)
    try:
        async with Client(url, migrate=True) as client:
            handles = [await client.start(order(item), id=item) for item in ("a", "b", "c", "d", "e")]
            await until(lambda: ask(postgres_url, "SELECT 1 FROM saga HAVING count(*) FILTER (WHERE NOT active) = 5"))
            async with Coordinator(url, sagas=[order], name="other"):
                worker.send_signal(number)
                with anyio.fail_after(4.0):
                    for handle in handles:
                        await client.signal(handle.id, "go", "gone")
                    assert [await handle.result() for handle in handles] == ["gone"] * 5
                    assert await to_thread.run_sync(worker.wait) == 0
                    assert [each.name for each in await client.coordinators()] == ["other"]
    finally:
        worker.kill()
        worker.wait()


async def _key(coordinator: Coordinator) -> str:
    return next(str(x.result) for x in (await coordinator.get("s")).steps).rsplit(":", 1)[0]


async def test_sagas_go_on_by_themselves_when_the_server_was_killed() -> None:
    with PostgresServer() as server:
        url = server.create_database()

        @step
        async def crash_the_server() -> str:
            await to_thread.run_sync(server.kill)
            await to_thread.run_sync(server.start)
            return "crashed"

        @saga
        async def through_a_crash() -> list[str]:
            return [await reserve("a"), await crash_the_server(), await reserve("b")]

        async with Coordinator(url, sagas=[through_a_crash]) as coordinator:
            with anyio.fail_after(60):
                found = await coordinator.run(through_a_crash(), id="s")
            assert found == ["a is reserved", "crashed", "b is reserved"]
            assert [x.state for x in (await coordinator.get("s")).steps] == ["succeeded"] * 3
