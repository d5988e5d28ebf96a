"""Several coordinators on one PostgreSQL: what a test can time to the very statement; see ``fleet`` for chance."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest

from sagas import Client
from sagas.stores import store_for
from tests.chaos import replica
from tests.chaos.replica import Settings

_PATIENCE = 30.0
_PAUSE = 0.01
_LEASE = 1.0


class Replica:
    """A process of the test's own.

    Args:
        settings: Of it.
        log: The file of its standard error.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.log = log
        self._said: list[str] = []
        with log.open("wb") as errors:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.replica", json.dumps(settings._asdict())],
                stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip

    def says(self, beginning: str) -> str:
        """Waits for a line that it has not been asked for yet, and gives the rest of it."""
        assert self._popen.stdout is not None
        while not (found := [line for line in self._said if line.startswith(beginning)]):
            self._said.append(self._popen.stdout.readline())
            assert self._said[-1], f"{self.settings.name} ended without saying {beginning!r}:\n{self.log.read_text()}"
        self._said.remove(found[0])
        return found[0].removeprefix(beginning).strip()

    def gets(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        self._popen.send_signal(number)

    def leaves(self) -> None:
        """Waits for its end in good order."""
        assert self._popen.wait(_PATIENCE) == 0, self.log.read_text()

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._popen.kill()
        self._popen.communicate()


class Stage:
    """Where the replicas are.

    Args:
        url: Of the journal.
        directory: For files.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self._directory = directory
        self._replicas: list[Replica] = []

    def start(self, *names: str, **settings: Any) -> list[Replica]:
        """Starts replicas, and waits until they are at work."""
        started = [
            Replica(Settings(name, self.url, str(self._directory), **settings), self._directory / f"{name}.log")
            for name in names
        ]
        self._replicas += started
        for one in started:
            one.says("ready")
        return started

    def hold(self, name: str, *places: str) -> None:
        """Has a replica stand still at some places."""
        for place in places:
            (self._directory / f"hold.{name}.{place}").touch()

    def is_here(self, name: str, place: str) -> bool:
        """Says whether a replica stands still at a place."""
        return (self._directory / f"here.{name}.{place}").exists()

    def let_go(self, name: str, *places: str) -> None:
        """Lets a replica go on."""
        for place in places:
            (self._directory / f"hold.{name}.{place}").unlink()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            return connection.execute(statement.encode()).fetchall()

    def end(self) -> None:
        """Ends all replicas."""
        for one in self._replicas:
            one.end()


@pytest.fixture
def stage(postgres_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A journal, with the ledger beside its tables."""
    store = store_for(postgres_url)
    store.open(migrate=True)
    store.close()
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE TABLE ledger (what TEXT, name TEXT)")
    found = Stage(postgres_url, tmp_path)
    try:
        yield found
    finally:
        found.end()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What is tested is in processes, which have event loops of their own."""
    return "asyncio"


async def _until(check: Callable[[], object]) -> None:
    with anyio.fail_after(_PATIENCE):
        while not check():  # noqa: ASYNC110 - what is asked for gives no sign when it comes to hold
            await anyio.sleep(_PAUSE)


# --- fencing --------------------------------------------------------------------------------------------------------

_JOURNAL = "SELECT saga_id, seq, kind, digest FROM saga_journal ORDER BY saga_id, seq"
_LEDGER = "SELECT what, name FROM ledger ORDER BY what, name"
_TAKEN = "SELECT saga_id FROM saga_journal WHERE kind = 'SagaTakenOver' ORDER BY saga_id"
_STARTS = {"plain": "busy", "entry": "entering"}


@pytest.mark.parametrize(
    ("places", "backend"),
    [(("plain", "entry"), "asyncio"), (("append", "commit"), "trio")],
    ids=["in-its-steps", "on-the-brink-of-writing"],
)
async def test_a_process_that_stood_still_past_its_lease_writes_nothing_any_more(
    stage: Stage, places: Sequence[str], backend: str
) -> None:
    """A plain and a transactional step of it are under way; both sagas are somebody else's when it goes on."""
    stage.hold("old", *places)
    (old,) = stage.start("old", lease=_LEASE, backend=backend, starts=_STARTS)
    await _until(lambda: all(stage.is_here("old", place) for place in places))
    old.gets(signal.SIGSTOP)
    (new,) = stage.start("new", lease=_LEASE, starts=_STARTS)
    for saga_id in _STARTS:
        assert new.says(f"{saga_id} ") == "['new', 'new']"
    before = stage.sql(_JOURNAL)

    stage.let_go("old", *places)
    old.gets(signal.SIGCONT)
    for saga_id in _STARTS:
        assert old.says(f"{saga_id} ") == "['new', 'new']"
    told = [f"saga {saga_id} was taken over by another coordinator" for saga_id in _STARTS]
    await _until(lambda: all(line in old.log.read_text() for line in told))
    old.gets(signal.SIGUSR1)
    assert old.says("drives ") == "[]"
    for one in (old, new):
        one.gets(signal.SIGTERM)
        one.leaves()
    assert stage.sql(_JOURNAL) == before
    assert stage.sql(_LEDGER) == [("entry", "new")]
    assert [saga_id for (saga_id,) in stage.sql(_TAKEN)] == ["entry", "plain"]


# --- spread and handing over ----------------------------------------------------------------------------------------

_OWNERS = "SELECT saga_lease.name, count(*) FROM saga JOIN saga_lease ON saga_lease.id = saga.owner GROUP BY 1"
_BURST, _BURSTS = 100, 20
# Far less than the lease, and than the time that steps have to end in a process that leaves.
_AT_ONCE = 4.0


async def test_new_work_spreads_over_the_processes(stage: Stage) -> None:
    """However much comes at once, nobody takes all of it; whoever was late has a share of what comes next."""
    stage.start("a", "b", "c")
    shares: dict[str, int] = {}
    async with Client(stage.url) as client:
        for burst in range(1, _BURSTS + 1):
            async with anyio.create_task_group() as group:
                for number in range(_BURST):
                    group.start_soon(partial(client.start, replica.patient(), id=f"s{burst}-{number}"))
            await _until(lambda: sum(count for _, count in stage.sql(_OWNERS)) == burst * _BURST)  # noqa: B023 - called at once
            shares = dict(stage.sql(_OWNERS))
            if len(shares) == 3:
                break
    assert set(shares) == {"a", "b", "c"}, f"after {_BURSTS} bursts of {_BURST}, the owners are {shares}"


async def test_a_process_that_is_asked_to_stop_hands_its_sagas_over_at_once(stage: Stage) -> None:
    """Those that wait for signals or in line, and others as soon as the step ends that is under way."""
    held = ("long", "entry", "turn", "short")
    stage.hold("a", *held)
    (a,) = stage.start("a")
    async with Client(stage.url) as client:
        patient = {f"p{number}": await client.start(replica.patient(), id=f"p{number}") for number in range(20)}
        long, short = [await client.start(replica.busy(what), id=what) for what in ("long", "short")]
        entry = await client.start(replica.entering("entry"), id="entry")
        turns = [await client.start(replica.in_line(), id=f"t{number}") for number in range(3)]
        await _until(lambda: all(stage.is_here("a", place) for place in held))
        await _until(lambda: stage.sql("SELECT count(*) FROM saga WHERE active") == [(6,)])
        stage.start("b", "c")

        a.gets(signal.SIGTERM)
        began = time.monotonic()
        # In whichever order they came: one stands still in its turn, the others wait for theirs.
        first = "SELECT count(*) FROM saga WHERE id LIKE 't%' AND ended_at IS NOT NULL"
        await _until(lambda: stage.sql(first) == [(2,)])
        for saga_id in patient:
            await client.signal(saga_id, "go", "went")
        for handle in patient.values():
            before, went, after = await handle.result()
            assert (before, went) == ("a", "went")
            assert after in ("b", "c")
        stage.let_go("a", "short")
        assert (await short.result())[0] == "a"
        took = time.monotonic() - began
        print(f"all was handed over within {took:.2f} s")  # noqa: T201 - shown when it fails
        assert took < _AT_ONCE
        assert (await short.result())[1] in ("b", "c")

        stage.let_go("a", "long", "entry", "turn")
        a.leaves()
        for handle in (long, entry):
            before, after = await handle.result()
            assert before == "a"
            assert after in ("b", "c")
        assert Counter([await turn.result() for turn in turns])["a"] == 1
    assert stage.sql(_LEDGER) == [("entry", "a")]
