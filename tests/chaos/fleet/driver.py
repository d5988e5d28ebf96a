"""Lets everything fail at random, for a while; then waits until all is calm, and has it audited."""

from __future__ import annotations

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from sagas.stores import store_for
from tests.chaos.fleet import trade, world
from tests.chaos.fleet.audit import Claims, Findings, audit
from tests.chaos.fleet.fleet import Fleet, Process
from tests.support.postgres import PostgresServer

__all__ = ["Options", "Story", "run"]

_CALM = 90.0  # seconds in which everything has to come to its end when nothing fails any more
_KINDS = ("kills", "pauses", "restarts", "server crashes", "connections cut", "cancels")
_OPEN = "SELECT count(*) FROM saga WHERE ended_at IS NULL AND status <> 'stuck'"
_STUCK = "SELECT id FROM saga WHERE ended_at IS NULL AND status = 'stuck' ORDER BY id"
_CONNECTIONS = """
    SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
    ORDER BY backend_start
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is to happen.

    Attributes:
        seed: Of everything random.
        seconds: How long things fail.
        processes: How many coordinators run side by side.
        open_sagas: About how many sagas are to be open.
        lease: Of the coordinators, in seconds.
        pause: Seconds between two failures, on average.
    """

    seed: int
    seconds: float = 60.0
    processes: int = 4
    open_sagas: int = 200
    lease: float = 1.5
    pause: float = 0.4


@dataclass
class Story:
    """What happened.

    Attributes:
        seed: See ``Options``.
        failures: How often what was made to fail.
        findings: What the audit found.
    """

    seed: int
    failures: Counter[str] = field(default_factory=Counter)
    findings: Findings | None = None

    def __str__(self) -> str:
        failures = ", ".join(f"{name} {count}" for name, count in sorted(self.failures.items()))
        return f"seed {self.seed}; {failures}\n{self.findings}"


def run(directory: Path, options: Options) -> Story:
    """Runs it all.

    Raises:
        AssertionError: A law was broken; says which, and what is known of the saga.
    """
    with PostgresServer() as server:
        journal, business = server.create_database("journal"), server.create_database("business")
        store = store_for(journal)
        store.open(migrate=True)
        store.close()
        world.create(business, journal)
        driver = _Driver(server, directory, journal, business, options)
        try:
            driver.rage()
            driver.calm()
            driver.dismiss()
        finally:
            driver.fleet.kill_all()
        driver.story.findings = audit(journal, business, directory, driver.claims)
        return driver.story


class _Driver:
    def __init__(self, server: PostgresServer, directory: Path, journal: str, business: str, options: Options) -> None:
        self._server = server
        self._options = options
        self._rng = random.Random(options.seed)
        self._reader = create_engine(journal, isolation_level="AUTOCOMMIT")
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._counter = itertools.count()
        self._numbers = itertools.count()
        self._deck: list[Callable[[], bool]] = []
        self._up = True
        self._waiting_for_approval: dict[str, None] = {}
        self._refusals: dict[str, list[str]] = {}
        self.story = Story(options.seed)
        self.claims = Claims()
        self.fleet = Fleet(
            directory, journal=journal, business=business, seed=options.seed, lease=options.lease,
            rng=random.Random(self._rng.random()),
        )  # fmt: skip

    # --- the time of failures -----------------------------------------------------------------------------------

    def rage(self) -> None:
        """Starts processes and sagas, and lets things fail: for as long as it was asked to, and each kind once."""
        self._keep_up()
        while not self._all_run():
            self._turn(time.monotonic() + 1.0)
        end = time.monotonic() + self._options.seconds
        self._after(self._options.pause, self._fail)
        while time.monotonic() < end or not all(self.story.failures[kind] for kind in _KINDS):
            self._turn(max(end, time.monotonic() + 0.1))

    def _all_run(self) -> bool:
        processes = self.fleet.processes.values()
        return len(processes) == self._options.processes and all(process.able for process in processes)

    def _turn(self, end: float) -> None:
        """Listens until something is due, and does it."""
        now = time.monotonic()
        until = min(end, self._due[0][0]) if self._due else end
        self.fleet.listen(min(until - now, 0.1))
        self._take_answers()
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2]()

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._counter), action))

    def _fail(self) -> None:
        """Lets something fail, and comes again."""
        if not self._deck:
            self._deck = self._shuffled()
        chosen = self._deck.pop()
        if not chosen():
            self._deck.insert(0, chosen)  # there was nobody to do it to
        self._after(self._rng.expovariate(1 / self._options.pause), self._fail)

    def _shuffled(self) -> list[Callable[[], bool]]:
        """Gives failures, the last of which come first: one of each kind, so that a short run has them all too."""
        kinds = [self._kill, self._pause, self._dismiss_one, self._crash_server, self._cut, self._cancel, self._mend]
        rest = [kind for kind, more in zip(kinds, (3, 4, 2, 1, 2, 3, 1), strict=True) for _ in range(more)]
        self._rng.shuffle(rest)
        self._rng.shuffle(kinds)
        return [*rest, *kinds]

    def _keep_up(self) -> None:
        """Keeps processes running, sagas open, and those that wait for a signal supplied, and comes again."""
        for slot in range(self._options.processes):
            if slot not in self.fleet.processes:
                self.fleet.start(slot)
        for (open_now,) in self._ask(_OPEN):
            for _ in range(min(self._options.open_sagas - open_now - self.fleet.unanswered, 40)):
                self._start()
        for saga_id in self._some(list(self._waiting_for_approval), 5):
            self._approve(saga_id)
        self._after(0.2, self._keep_up)

    def _some(self, ids: Sequence[str], most: int) -> list[str]:
        return self._rng.sample(ids, min(most, len(ids)))

    def _ask(self, statement: str) -> Sequence[Row[Any]]:
        """Asks the journal's database; nothing, if it is away."""
        try:
            with self._reader.connect() as connection:
                return connection.execute(text(statement)).all()
        except SQLAlchemyError:
            return []

    # --- orders -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        number = next(self._numbers)
        kind = self._rng.choices(tuple(trade.CALLS), (40, 15, 20, 8, 12, 5))[0]
        waits = self._rng.random() < 0.2
        self.fleet.order({"do": "start", "saga": f"{kind}-{number}", "kind": kind, "number": number, "wait": waits})

    def _approve(self, saga_id: str) -> None:
        self._waiting_for_approval.pop(saga_id)
        self.fleet.order({"do": "signal", "saga": saga_id, "payload": self._rng.randrange(10**6)})

    def _cancel(self) -> bool:
        chosen = self._some(list(self.claims.started)[-300:], 5)
        for saga_id in chosen:
            self.story.failures["cancels"] += 1
            self.fleet.order({"do": "cancel", "saga": saga_id})
        return bool(chosen)

    def _mend(self) -> bool:
        chosen = self._some([row[0] for row in self._ask(_STUCK)], 3)
        for saga_id in chosen:
            self.story.failures["retries by an operator"] += 1
            self.fleet.order({"do": "retry", "saga": saga_id})
        return bool(chosen)

    def _take_answers(self) -> None:
        answers, self.fleet.answered = self.fleet.answered, []
        for order, answer in answers:
            saga_id = order["saga"]
            if "refused" in answer:
                self._refusals.setdefault(saga_id, []).append(f"{order['do']}: {answer['refused']}")
            if order["do"] == "start":
                assert "done" in answer, f"the start of {saga_id} was refused: {answer}"
                self.claims.started[saga_id] = order
                if order["kind"] == "trip":
                    self._waiting_for_approval[saga_id] = None
            elif order["do"] == "signal" and "done" in answer:
                self.claims.signalled.setdefault(saga_id, set()).add(order["payload"])

    # --- what fails ---------------------------------------------------------------------------------------------

    def _strike(self, name: str, number: signal.Signals) -> Process | None:
        """Sends a signal to some process that works, and counts it."""
        able = [process for process in self.fleet.processes.values() if process.able]
        if not able:
            return None
        self.story.failures[name] += 1
        process = self._rng.choice(able)
        self.fleet.signal(process, number)
        return process

    def _kill(self) -> bool:
        return self._strike("kills", signal.SIGKILL) is not None

    def _dismiss_one(self) -> bool:
        return self._strike("restarts", signal.SIGTERM) is not None

    def _pause(self) -> bool:
        process = self._strike("pauses", signal.SIGSTOP)
        if process is not None:
            self._after(self._options.lease * self._rng.uniform(0.5, 3.0), lambda: self._go_on(process))
        return process is not None

    def _go_on(self, process: Process) -> None:
        if process.paused:
            self.fleet.signal(process, signal.SIGCONT)

    def _crash_server(self) -> bool:
        if not self._up:
            return False
        self.story.failures["server crashes"] += 1
        self._server.kill()
        self._up = False
        self._after(self._rng.uniform(0.0, 1.5), self._recover_server)
        return True

    def _recover_server(self) -> None:
        if not self._up:
            self._server.start()
            self._up = True

    def _cut(self) -> bool:
        """Cuts some of all connections, those to the business too."""
        connections = [row[0] for row in self._ask(_CONNECTIONS)]
        cut = self._rng.sample(connections, round(self._rng.choice((0.1, 0.5, 1.0)) * len(connections)))
        self._ask(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{cut}::int[]) AS pid")
        self.story.failures["connections cut"] += len(cut)
        return bool(cut)

    # --- the calm -----------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Lets nothing fail any more, and waits until every saga has ended or is stuck as it should be.

        Raises:
            AssertionError: Not in time.
        """
        self._due.clear()
        self._recover_server()
        end = time.monotonic() + _CALM
        while not self._settled():
            if time.monotonic() > end:
                raise AssertionError(f"not everything came to its end in {_CALM} s: {self._what_is_left()}")
            self._turn(time.monotonic() + 0.1)

    def _settled(self) -> bool:
        for slot in range(self._options.processes):
            if slot not in self.fleet.processes:
                self.fleet.start(slot)
            elif self.fleet.processes[slot].paused:
                self.fleet.signal(self.fleet.processes[slot], signal.SIGCONT)
        for saga_id in list(self._waiting_for_approval):
            self._approve(saga_id)
        left = self._ask(f"SELECT ({_OPEN}) + (SELECT count(*) FROM saga_mail)")
        return not self.fleet.unanswered and not self._waiting_for_approval and bool(left) and left[0][0] == 0

    def _what_is_left(self) -> str:
        rows = self._ask("SELECT * FROM saga WHERE ended_at IS NULL AND status <> 'stuck' LIMIT 30")
        lines = [f"{row._asdict()}, of which was refused: {self._refusals.get(row.id)}" for row in rows]
        lines += map(str, self._ask("SELECT * FROM saga_mail LIMIT 30"))
        lines += [str(process.orders) for process in self.fleet.processes.values() if process.orders]
        return "\n".join((*lines, *map(str, self.fleet.unsent)))

    def dismiss(self) -> None:
        """Has every process leave in good order, and looks that none keeps a lease."""
        for process in self.fleet.processes.values():
            self.fleet.signal(process, signal.SIGTERM)
        end = time.monotonic() + _CALM
        while self.fleet.processes:
            assert time.monotonic() < end, f"processes do not leave: {list(self.fleet.processes)}"
            self.fleet.listen(1.0)
        self._reader.dispose()
