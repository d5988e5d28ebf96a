"""The laws of locks, each as a check of what a journal says about one saga."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import orjson

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.records import Record
from sagas.core.transitions import SagaState
from tests.core.host import Host
from tests.core.plans import Plan, steps_in, walk
from tests.core.timeline import hold

__all__ = ["LOCK_LAWS", "Counter", "read"]


@dataclass
class Counter:
    """Where a saga's tickets are kept: what is written here is all that other sagas and owners know.

    Attributes:
        tickets: Path by name.
        held: Names of those that were granted.
    """

    tickets: dict[str, str] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def take(self, fact: e.Event | c.Command) -> None:
        """Takes an event or a command into account; what makes no sense breaks a law."""
        if isinstance(fact, (e.LockGranted, e.LockRefused)):
            waiting = {path: name for name, path in self.tickets.items() if name not in self.held}
            hold("only what is waited for is answered", fact.path in waiting, fact)
            if isinstance(fact, e.LockGranted):
                self.held.add(waiting[fact.path])
            else:
                del self.tickets[waiting[fact.path]]
        elif isinstance(fact, c.TakeLock):
            hold("a saga has one ticket for a lock", fact.name not in self.tickets, fact)
            self.tickets[fact.name] = fact.path
        elif isinstance(fact, c.FreeLock):
            hold("only a saga's own ticket is given back", self.tickets.get(fact.name) == fact.path, fact)
            del self.tickets[fact.name]
            self.held.discard(fact.name)


def read(records: list[Record]) -> Iterator[tuple[Counter, e.Event | c.Command]]:
    """Walks the facts in order, each with the tickets just before it."""
    counter = Counter()
    for record in records:
        for fact in (record.event, *record.commands):
            yield counter, fact
            counter.take(fact)


def _around(plan: Plan, names: frozenset[str] = frozenset()) -> Iterator[tuple[int, frozenset[str]]]:
    """Gives each step's tag with the locks around it."""
    if plan[0] == "do":
        yield plan[1], names
    if plan[0] == "lock":
        names |= {plan[2]}
    for below in plan[1:]:
        if isinstance(below, list) and below and isinstance(below[0], str) and plan[0] != "do":
            yield from _around(below, names)


def _law_inside(host: Host) -> None:
    """Inside the block the saga holds the lock."""
    around = dict(_around(host.story.plan))
    for counter, fact in read(host.journal.records()):
        if isinstance(fact, c.RunStep):
            needed = around[orjson.loads(fact.arguments)["tag"]]
            hold("a step in a lock's block runs while it is held", needed <= counter.held, (fact.path, counter))


def _law_to_the_end(host: Host) -> None:
    """What is locked to the end is locked while it is undone, and at the end."""
    locks = [x for x in walk(host.story.plan) if x[0] == "lock"]
    kept = [x for x in locks if x[1] == "saga"]
    names = {x[2] for x in kept}
    only_kept = names - {x[2] for x in locks if x[1] == "block"}
    tags: dict[str, int] = {}
    for counter, fact in read(host.journal.records()):
        if isinstance(fact, c.RunStep):
            tags[fact.path] = orjson.loads(fact.arguments)["tag"]
        elif isinstance(fact, c.RunUndo):
            inside = {x[2] for x in kept if tags[fact.path] in {y[1] for y in steps_in(x)}}
            hold("a lock is held until what it guards is undone", inside <= counter.held, (fact.path, counter))
        elif isinstance(fact, c.FreeLock) and fact.name in counter.held:
            hold("a lock that is held to the end is not released before", fact.name not in only_kept, fact)


def _law_no_ticket_left(host: Host) -> None:
    """A ticket is held, or somebody waits for it; a block that was left holds nothing."""
    if "" in host.execution.halted:
        return  # its journal tells how it stood before its last event, for the code that goes on from there
    counter = Counter()
    for counter, _ in read(host.journal.records()):  # noqa: B007 - the last one
        pass
    waiting = {path for name, path in counter.tickets.items() if name not in counter.held}
    hold("a ticket has somebody who waits", all(host.execution.waits_for_lock(path) for path in waiting), waiting)
    hold("host and saga agree", counter.tickets == host.execution.locks, (counter, host.execution.locks))
    if host.execution.state is SagaState.COMPLETED:
        kept = {x[2] for x in walk(host.story.plan) if x[0] == "lock" and x[1] == "saga"}
        hold("a block that was left holds nothing", counter.tickets.keys() <= kept, counter)


def _law_bounded(host: Host) -> None:
    """Who waits has a timer."""
    for record in host.journal.records():
        for command in record.commands:
            if isinstance(command, c.TakeLock):
                timer = c.StartTimer(command.path, record.at + 2)
                hold("waiting is bounded", timer in record.commands, record)


LOCK_LAWS: tuple[Callable[[Host], None], ...] = (_law_inside, _law_to_the_end, _law_no_ticket_left, _law_bounded)
