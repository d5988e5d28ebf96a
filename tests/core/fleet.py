"""Several sagas that share locks: a host for each, one log in which everything becomes durable, and a lock table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from hypothesis import strategies as st

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.records import decode
from sagas.testing.contracts.stores._lock_table import LockTable
from tests.core.host import Host, Journal, Ledger, Row, Story
from tests.core.plans import plans
from tests.core.timeline import hold

__all__ = ["Cast", "Fleet", "Member", "casts", "check_fleet", "run_fleet"]


@dataclass(frozen=True)
class Cast:
    """Several scripts, and whose turn it is, round and round."""

    stories: tuple[Story, ...]
    turns: tuple[int, ...] = (0,)


def _stories() -> st.SearchStrategy[Story]:
    """Draws a script in which an operator always acts."""
    return st.builds(
        Story,
        plan=plans(2) | plans(3, locking=True),
        choices=st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple),
        cancel_at=st.none() | st.integers(1, 9),
        operator=st.sampled_from(["retry", "skip"]),
    )


def casts() -> st.SearchStrategy[Cast]:
    """Draws two to four sagas."""
    return st.builds(
        Cast,
        stories=st.lists(_stories(), min_size=2, max_size=4).map(tuple),
        turns=st.lists(st.integers(0, 3), min_size=1, max_size=6).map(tuple),
    )


class Fleet:
    """The sagas of a cast.

    Args:
        cast: The scripts.
        log: What is durable: rows with the number of their saga. The sagas are brought back from it.
    """

    def __init__(self, cast: Cast, log: list[tuple[int, Row]] | None = None) -> None:
        self.cast = cast
        self.log: list[tuple[int, Row]] = []
        self.table = LockTable()
        for number, row in log or ():
            self.keep(number, row)
        self.members = [Member(self, number, story) for number, story in enumerate(cast.stories)]

    def keep(self, number: int, row: Row) -> None:
        """Makes a record durable, and in the same moment what it does to the locks."""
        self.log.append((number, row))
        record = decode(row.seq, row.at, row.kind, row.path, row.data)
        for command in record.commands:
            if isinstance(command, c.TakeLock):
                self.table.take(str(number), command.name, command.path)
            elif isinstance(command, c.FreeLock):
                self.table.free(str(number), command.name, command.path)
            elif isinstance(command, c.Complete):
                self.table.end(str(number))

    def rows(self, number: int) -> list[Row]:
        """The journal of a saga."""
        return [row for whose, row in self.log if whose == number]

    def move(self) -> bool:
        """Lets the next thing happen; ``False`` if there is none."""
        turn, count = len(self.log), len(self.members)
        first = self.cast.turns[turn % len(self.cast.turns)]
        return any(self.members[(first + offset) % count].move() for offset in range(count))

    def close(self) -> None:
        """Lets go of the bodies."""
        for member in self.members:
            member.close()


class Member(Host):
    """One saga of a fleet. Nobody in it waits for a lock in vain, so that none times out."""

    def __init__(self, fleet: Fleet, number: int, story: Story) -> None:
        self.fleet = fleet
        self.number = number
        super().__init__(story, Journal(fleet.rows(number)), Ledger())

    def _write(self, event: e.Event, at: float, given: list[c.Command]) -> None:
        super()._write(event, at, given)
        self.fleet.keep(self.number, self.journal.rows[-1])

    def _waits(self, path: str, name: str) -> bool:
        mine = str(self.number)
        answered = self.fleet.table.holder(name) == mine or (mine, path) in self.fleet.table.refused
        return answered and self.execution.waits_for_lock(path)

    def _answer_lock(self, path: str, name: str) -> e.Event:
        if (str(self.number), path) in self.fleet.table.refused:
            return e.LockRefused(path, f"a circle at {name}")
        return e.LockGranted(path)

    def _timers(self) -> dict[str, float]:
        tickets = self.execution.tickets or {}
        waits = {wait.path for lock in tickets.values() for wait in lock.waits}
        return {path: at for path, at in self.execution.timers.items() if path not in waits}


# --- the laws -------------------------------------------------------------------------------------------------------


def _facts(fleet: Fleet) -> Iterator[tuple[int, e.Event | c.Command]]:
    for number, row in fleet.log:
        record = decode(row.seq, row.at, row.kind, row.path, row.data)
        for fact in (record.event, *record.commands):
            yield number, fact


def _hold_exclusion_and_order(fleet: Fleet) -> None:
    """One saga at a time holds a lock, and they hold it in the order in which they asked."""
    lines: dict[str, list[tuple[int, str]]] = {}
    held: dict[str, int] = {}
    for number, fact in _facts(fleet):
        if isinstance(fact, c.TakeLock):
            lines.setdefault(fact.name, []).append((number, fact.path))
        elif isinstance(fact, e.LockGranted):
            (name,) = (name for name, line in lines.items() if (number, fact.path) in line)
            hold("one saga at a time holds a lock", name not in held, (name, held, fact))
            hold("locks are held in the order of asking", lines[name][0] == (number, fact.path), (name, lines))
            held[name] = number
        elif isinstance(fact, (c.FreeLock, c.Complete, e.LockRefused)):
            path = "" if isinstance(fact, c.Complete) else fact.path
            for name, line in lines.items():
                left = [x for x in line if x[0] == number and path in ("", x[1])]
                lines[name] = [x for x in line if x not in left]
                if left and held.get(name) == number:
                    del held[name]


def _hold_end(fleet: Fleet) -> None:
    """Nobody waits for ever: a circle of waiters does not come about, so that all sagas end."""
    if any(member.execution.halted for member in fleet.members):
        return  # a body that failed after its pivot keeps what it holds, until there is better code
    waiting = [member.number for member in fleet.members if not member.execution.state.ended]
    hold("a circle of waiters is found", not waiting, (waiting, fleet.table))
    hold("what has ended holds nothing", not fleet.table.lines, fleet.table)


def run_fleet(cast: Cast) -> Fleet:
    """Runs all scripts to their end, and holds that against the laws.

    Raises:
        LawBroken: One does not hold.
    """
    fleet = Fleet(cast)
    with closing(fleet):
        while fleet.move():
            hold("sagas end", len(fleet.log) < 1500, "1500 records")
        _hold_exclusion_and_order(fleet)
        _hold_end(fleet)
    return fleet


def check_fleet(cast: Cast) -> Fleet:
    """Runs all scripts, crashes them together after some of the records, and holds all of it against the laws.

    Raises:
        LawBroken: One does not hold.
    """
    fleet = run_fleet(cast)
    for length in range(len(cast.stories), len(fleet.log), 1 + len(fleet.log) // 4):
        with closing(Fleet(cast, fleet.log[:length])) as recovered:
            while recovered.move():
                pass
            hold("a crash changes nothing", recovered.log == fleet.log, length)
    return fleet
