"""A client that is killed at any moment has submitted a saga wholly or not at all."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from sagas import Coordinator
from sagas.stores import store_for
from tests.chaos.client_child import KILLED, doubled

_COUNT = 60


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A journal with tables."""
    is_file = request.param == "sqlite"
    found: str = f"sqlite:///{tmp_path / 'journal.db'}" if is_file else request.getfixturevalue("postgres_url")
    store = store_for(found)
    store.open(migrate=True)
    store.close()
    return found


def _live(url: str, life: str, *dies: str, after: float | None = None) -> list[str]:
    """Runs a client; gives what it reported before it died."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.client_child", url, life, str(_COUNT), *dies],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        if after is not None:
            threading.Timer(after, process.kill).start()
        out, err = process.communicate(timeout=60)
    except BaseException:
        process.kill()
        process.wait()
        raise
    assert first == "ready\n", err
    assert process.returncode in ((0, -9) if after is not None else (KILLED,)), err
    return out.split()


def _audit(url: str, reported: list[str]) -> None:
    """Holds what was reported against what is there, and that against itself; then runs all of it."""
    store = store_for(url)
    store.open(migrate=False)
    rows = store.select(status=None, name=None, limit=10_000, before=None)
    journals = store.load([row.id for row in rows])
    store.close()
    assert set(reported) <= {row.id for row in rows}, "what was reported is there"
    for row in rows:
        assert [record.kind for record in journals[row.id]] == ["SagaSubmitted"], row.id
        assert (row.owner, row.active, row.status) == ("", True, "running")
    anyio.run(_run, url, len(rows))


async def _run(url: str, count: int) -> None:
    async with Coordinator(url, sagas=[doubled], poll=0.02) as coordinator:

        async def run(saga_id: str) -> None:
            number = int(saga_id.partition("-")[2])
            assert await coordinator.run(doubled(number), id=saga_id) == 2 * number

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for row in await coordinator.list(limit=10_000):
                    group.start_soon(run, row.id)
            # The server may have committed what a client had sent only after that was dead and had been looked for.
            completed, every = 0, 1
            while completed < every:
                completed = len(await coordinator.list(status="completed", limit=10_000))
                every = len(await coordinator.list(limit=10_000))
        assert completed >= count


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_that_dies_around_a_commit_leaves_whole_sagas(url: str, when: str) -> None:
    """Before it nothing is there, after it everything, though nobody heard so."""
    reported = [x for at in ("1", "2", "3") for x in _live(url, f"{when}{at}", when, at)]
    _audit(url, reported)


def test_a_client_that_is_killed_at_random_moments_leaves_whole_sagas(url: str, rng: random.Random) -> None:
    """Whatever it was doing."""
    reported = [x for life in range(4) for x in _live(url, f"life{life}", after=rng.uniform(0.0, 0.1))]
    _audit(url, reported)
