"""The parts of a run on PostgreSQL: which databases and children there are, and what they are asked."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.model import Case, SystemName, Window
from benchmarks.postgres import copies, sizes
from benchmarks.postgres.model import Fleet, Latency, Parked, Pile, Recovery, Results, Size
from benchmarks.postgres.server import connect, facts
from benchmarks.postgres.signals import Unanswered, signal_latencies
from benchmarks.process import Child, ChildFailed, ask, child, conversation
from benchmarks.workload import saga_id

if TYPE_CHECKING:
    import psycopg

    from benchmarks.postgres.options import Counts
    from tests.support.postgres import Databases

_MODELS = 32
_POLL_SECONDS = 0.02
_RECOVERY_PATIENCE = 120.0
# A server says that a process is dead only when it has itself been up for a while, as servers usually have.
_SETTLING_SECONDS = 11.0
_PROGRESS = """
    SELECT count(*) FILTER (WHERE owner = %(dead)s), count(*) FILTER (WHERE ended_at IS NULL) FROM saga
"""
_SCANNED = """
    SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables WHERE relname IN ('saga', 'saga_journal')
"""


@dataclass(slots=True)
class Bench:
    """One run of the benchmarks on PostgreSQL, as it goes on.

    Attributes:
        databases: The server.
        parts: Which of `PARTS`.
        rounds: How often each thing is measured, in turn with the others.
        seconds: How long a window starts new sagas.
        counts: How many sagas the parts use.
        systems: The systems that can run here.
        say: Shows what is being measured.
        results: What has been found.
    """

    databases: Databases
    parts: tuple[str, ...]
    rounds: int
    seconds: float
    counts: Counts
    systems: tuple[SystemName, ...]
    say: Callable[[str], None]
    results: Results = field(default_factory=Results)
    _broken: set[SystemName] = field(default_factory=set)

    def run(self) -> Results:
        """Does all parts asked for; what fails is named, and the others go on."""
        with self._database() as url:
            self.results.server = facts(url)
        parts = {
            "throughput": self._throughput,
            "processes": self._processes,
            "recovery": self._recovery,
            "parked": self._parked,
            "size": self._size,
            "piles": self._piles,
        }
        for name in self.parts:
            parts[name]()
            self.results.load[name] = round(os.getloadavg()[0], 2)
        return self.results

    # --- throughput ---------------------------------------------------------------------------------------------

    def _throughput(self) -> None:
        """Measures system after system, round after round, starting with another each round."""
        for number in range(self.rounds):
            for system in _turned(self.systems, number):
                if system not in self._broken:
                    with (
                        self._measuring(f"{system}: round {number + 1} of {self.rounds}", system),
                        self._database() as url,
                    ):
                        self._round(system, number, url)

    def _round(self, system: SystemName, number: int, url: str) -> None:
        windows = [(Case.COMPLETED, clients) for clients in (1, self.counts.clients)]
        task = "bare" if system in (SystemName.LOOP, SystemName.BATCHES, SystemName.CEILING) else "throughput"
        request = {"url": url, "system": system, "windows": windows, "seconds": self.seconds}
        reply = ask(f"postgres:{task}", request)
        self.results.windows += [
            Window(system=system, round=number, **{**window, "case": Case(window["case"])})
            for window in reply["windows"]
        ]
        self.results.facts[system] = reply["facts"]

    def _processes(self) -> None:
        """Lets one, two, … processes start sagas side by side."""
        for number in range(self.rounds):
            for processes in _turned(self.counts.processes, number):
                with self._measuring(f"{processes} processes"), self._database() as url, ExitStack() as stack:
                    request = {"url": url, "clients": self.counts.clients, "seconds": self.seconds}
                    members = [
                        stack.enter_context(conversation("postgres:fleet", request | {"member": member}))
                        for member in range(processes)
                    ]
                    self.results.fleets.append(_together(members, number))

    # --- recovery -----------------------------------------------------------------------------------------------

    def _recovery(self) -> None:
        """Kills a process, and sees when another has done its work."""
        count = self.counts.recovery
        for number in range(self.rounds):
            with self._measuring(f"recovery of {count:,} open sagas"), self._database() as url:
                with child("postgres:block", {"url": url, "count": count}):
                    dead = _wait_until_settled(url)
                # Leaving has killed the process.
                killed = time.monotonic()
                with conversation("postgres:serve", {"url": url}) as fresh:
                    taken_over, begun, ended = _recovered(url, fresh, dead)
                found = Recovery(number, count, taken_over - begun, ended - begun, ended - killed)
                self.results.recovery.append(found)

    # --- sagas that are there already ---------------------------------------------------------------------------

    def _parked(self) -> None:
        """Opens a coordinator where many sagas wait, and sends signals to some."""
        count = self.counts.parked
        with self._measuring(f"{count:,} parked sagas"), self._database() as url:
            _fill(url, "parked", count)
            copies.settle(url)
            scanned = _scanned(url)
            with conversation("postgres:serve", {"url": url}) as coordinator:
                entered = coordinator.hear()["entered"]
                first = coordinator.ask(run="first")["seconds"]
                signals = signal_latencies(url, _chosen("parked", count, self.counts.signals))
                peak = coordinator.ask()["peak_bytes"]
            found = Parked(count, entered + first, peak, Latency.of(signals), _scanned(url) - scanned)
            self.results.parked.append(found)

    def _size(self) -> None:
        """Weighs tables and indexes."""
        count = self.counts.size
        for state in ("completed", "parked"):
            with self._measuring(f"size of {count:,} {state} sagas"), self._database() as url:
                ask("postgres:write", {"url": url, "parked": False, "count": _MODELS, "prefix": "warm"})
                before = sizes.weigh(url)
                ask("postgres:write", {"url": url, "parked": state == "parked", "count": count, "prefix": "sized"})
                written, compacted = sizes.weigh(url), sizes.weigh_compacted(url)
                for place, weight in sorted(written.items()):
                    table, index = place
                    base = before.get(place, 0)
                    a_saga = ((each - base) / count for each in (weight, compacted.get(place, 0)))
                    self.results.sizes.append(Size(state, table, index, *a_saga))

    def _piles(self) -> None:
        """Measures the same on more and more finished sagas."""
        signals = max(1, self.counts.signals // 10)
        with ExitStack() as stack:
            urls: dict[int, str] = {}
            for finished in self.counts.piles:
                self.say(f"{finished:,} finished sagas")
                urls[finished] = stack.enter_context(self._database())
                _fill(urls[finished], "completed", finished)
                _fill(urls[finished], "parked", signals * self.rounds)
                copies.settle(urls[finished])
            for number in range(self.rounds):
                for finished in _turned(self.counts.piles, number):
                    with self._measuring(f"{finished:,} finished sagas: round {number + 1} of {self.rounds}"):
                        self._pile(urls[finished], finished, number, signals)

    def _pile(self, url: str, finished: int, number: int, signals: int) -> None:
        """Measures once on a pile of finished sagas."""
        scanned = _scanned(url)
        with conversation("postgres:serve", {"url": url}) as coordinator:
            coordinator.hear()
            coordinator.ask(loop=0.2, clients=8, prefix=f"warm{number}")
            loop = coordinator.ask(loop=self.seconds, clients=self.counts.clients, prefix=f"loop{number}")
            ids = [saga_id("parked", n) for n in range(number * signals, (number + 1) * signals)]
            latency = Latency.of(signal_latencies(url, ids))
        found = Pile(finished, number, loop["per_second"], latency, _scanned(url) - scanned)
        self.results.piles.append(found)

    # --- how ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _database(self) -> Iterator[str]:
        """An empty database of its own."""
        url = self.databases.create_database()
        try:
            yield url
        finally:
            self.databases.drop_database(url)

    @contextmanager
    def _measuring(self, what: str, system: SystemName | None = None) -> Iterator[None]:
        """Shows what is measured; a failure is noted, not raised."""
        self.say(what)
        try:
            yield
        except (ChildFailed, Unanswered, TimeoutError) as failure:
            line = f"{what} failed: {failure}"
            if system is not None:
                self._broken.add(system)
            if line not in self.results.failed:
                self.results.failed.append(line)


def _turned(things: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    """The same, beginning with another one each round."""
    turn = number % max(1, len(things))
    return things[turn:] + things[:turn]


def _together(members: list[Child], number: int) -> Fleet:
    """Lets processes that are ready begin, and adds up what they did."""
    for member in members:
        member.hear()
    for member in members:
        member.tell()
    replies = [member.hear() for member in members]
    elapsed = max(each["ended"] for each in replies) - min(each["begun"] for each in replies)
    count = sum(each["count"] for each in replies)
    return Fleet(len(members), number, count, count / elapsed)


def _wait_until_settled(url: str) -> str:
    """Waits until the server has been up for as long as it takes it to judge its clients; gives the sagas' owner."""
    with connect(url) as connection:
        up = _scalar(connection, "SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8")
        time.sleep(max(0.0, _SETTLING_SECONDS - up))
        return str(_scalar(connection, "SELECT owner FROM saga LIMIT 1"))


def _recovered(url: str, fresh: Child, dead: str) -> tuple[float, float, float]:
    """Watches a fresh process, from the database, until no saga of the dead one is left.

    Returns:
        When all were taken over, when its coordinator was started, and when all were completed, by the monotonic clock.
    """
    taken_over = 0.0
    begun = float(fresh.hear()["begun"])
    with connect(url) as connection:
        while (now := time.monotonic()) < begun + _RECOVERY_PATIENCE:
            owned, left = connection.execute(_PROGRESS, {"dead": dead}).fetchone() or (0, 0)
            taken_over = taken_over or (0.0 if owned else now)
            if not left:
                return taken_over, begun, now
            time.sleep(_POLL_SECONDS)
    raise TimeoutError(f"{left:,} sagas are open {_RECOVERY_PATIENCE:.0f} s after the start of the coordinator")


def _fill(url: str, state: str, count: int) -> None:
    """Puts sagas into a database: some are run, the others are copies of them."""
    models = f"m{state[1:]}"
    ask("postgres:write", {"url": url, "parked": state == "parked", "count": _MODELS, "prefix": models})
    copies.copy_sagas(url, [saga_id(models, n) for n in range(_MODELS)], first=0, count=count, prefix=state)


def _chosen(prefix: str, count: int, signals: int) -> list[str]:
    """Sagas chosen at random, the same in each run."""
    numbers = random.Random(1).sample(range(count), signals)  # noqa: S311 - to be repeated
    return [saga_id(prefix, number) for number in numbers]


def _scanned(url: str) -> int:
    """Rows that were read by scanning tables of sagas, ever; what ended processes read is counted in a moment."""
    time.sleep(1.5)
    with connect(url) as connection:
        return int(_scalar(connection, _SCANNED))


def _scalar(connection: psycopg.Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None, query
    return row[0]
