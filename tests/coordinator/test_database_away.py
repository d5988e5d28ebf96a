"""What coordinators and clients do while their database is away, and who stands in line meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from sagas import Client, Coordinator, receive, saga, step
from tests.support.postgres import PostgresServer

_LONG = 2.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server of the test's own, which it may stop."""
    with PostgresServer({"fsync": "off"}, parent=Path("/tmp")) as own:  # noqa: S108 - a short path, for its socket
        yield own


@step
async def work() -> str:
    return "done"


@saga
async def asks() -> str:
    await receive("go")
    return await work()


async def test_while_the_database_is_away_nobody_spins_and_whoever_waits_goes_on_waiting(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage is told once, costs next to no time, and ends by itself."""
    caplog.set_level(logging.INFO, "sagas")
    url = server.create_database()
    results: list[str] = []
    async with Coordinator(url, sagas=[asks]) as coordinator, Client(url) as client:
        here, elsewhere = await coordinator.start(asks(), id="here"), await client.start(asks(), id="elsewhere")

        async def wait(handle: object) -> None:
            results.append(await handle.result())  # type: ignore[attr-defined]  # a handle of either

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(wait, here)
                group.start_soon(wait, elsewhere)
                await to_thread.run_sync(server.kill)
                caplog.clear()
                before = time.process_time()
                await anyio.sleep(_LONG)  # it is the idling that is measured
                assert time.process_time() - before < _LONG / 4
                assert len(caplog.records) < 30, [x.getMessage() for x in caplog.records]
                await to_thread.run_sync(server.start)
                for saga_id in ("here", "elsewhere"):
                    await coordinator.signal(saga_id, "go")
    assert results == ["done", "done"]
