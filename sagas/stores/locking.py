"""Semantic locks: who stands in which line. The first in a line holds the lock; each answer is mail.

The rules are the same for every store; what differs is how the tickets are kept. A store calls ``settle`` in the
transaction of the records that ask for locks or give them up, one such transaction at a time, so that a lower ticket
never becomes visible after a higher one was granted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sagas.stores.port import LockChange

__all__ = ["Answer", "Lines", "Ticket", "settle"]

_TOLD_AT_MOST = 5


class Ticket(NamedTuple):
    """A place in a line.

    Attributes:
        number: Increasing over all lines.
        name: Of the lock.
        saga_id: Whose.
        path: The operation that asked for it.
    """

    number: int
    name: str
    saga_id: str
    path: str


class Answer(NamedTuple):
    """What a saga is to be told about a lock that it asked for.

    Attributes:
        ticket: By which it asked.
        at: POSIX time.
        refused: Why it does not get the lock; empty if it does.
    """

    ticket: Ticket
    at: float
    refused: str = ""

    @property
    def body(self) -> bytes:
        """The mail, as JSON."""
        fields: dict[str, object] = {"path": self.ticket.path, "granted": not self.refused}
        return orjson.dumps(fields | {"reason": self.refused} if self.refused else fields)


class Lines(ABC):
    """Every line of a store."""

    @abstractmethod
    def leave(self, places: Collection[tuple[str, str]], sagas: Collection[str]) -> set[str]:
        """Takes tickets out, by saga and name, or all of a saga; gives the names of those lines that had one."""

    @abstractmethod
    def join(self, takes: Sequence[LockChange]) -> list[Ticket]:
        """Gives out tickets, in order."""

    @abstractmethod
    def suspects(self, tickets: Sequence[Ticket]) -> list[Ticket]:
        """Picks those whose saga has another ticket that somebody stands behind: only they can close a circle."""

    @abstractmethod
    def ahead(self, bounds: Mapping[str, int]) -> list[Ticket]:
        """Lists the tickets of some lines below a number for each."""

    @abstractmethod
    def of_sagas(self, sagas: Collection[str], until: int) -> list[Ticket]:
        """Lists the tickets of some sagas up to a number."""

    @abstractmethod
    def call(self, names: Collection[str]) -> list[Ticket]:
        """Gives the first of each line that was not called yet, and notes that it is called now."""


def settle(lines: Lines, changes: Sequence[LockChange]) -> list[Answer]:
    """Applies what sagas ask for and give up, and finds out who holds a lock now or never will.

    What is given up comes first, whoever gives it up. A ticket that closes a circle of waiters is refused.
    """
    at = max(change.at for change in changes)
    places, ended, takes = _net(changes)
    names = lines.leave(places, ended)
    tickets = lines.join(takes) if takes else []
    answers: list[Answer] = []
    for ticket in lines.suspects(tickets) if tickets else []:
        circle = _circle(lines, ticket)
        if circle:
            lines.leave({(ticket.saga_id, ticket.name)}, ())
            answers.append(Answer(ticket, at, circle))
    names.update(ticket.name for ticket in tickets)
    return [*answers, *(Answer(ticket, at) for ticket in lines.call(names))]


def _net(changes: Sequence[LockChange]) -> tuple[set[tuple[str, str]], set[str], list[LockChange]]:
    """Sums changes up: places in lines to leave, sagas to leave all lines, and locks that are still wanted then."""
    takes: dict[tuple[str, str], LockChange] = {}
    places: set[tuple[str, str]] = set()
    ended: set[str] = set()
    for change in changes:
        place = change.saga_id, change.name
        if change.take:
            takes[place] = change
        elif change.name:
            takes.pop(place, None)
        else:
            ended.add(change.saga_id)
            takes = {key: take for key, take in takes.items() if key[0] != change.saga_id}
        if change.name:
            # Also before a ticket is taken, so that a saga never has two.
            places.add(place)
    return places, ended, list(takes.values())


def _circle(lines: Lines, ticket: Ticket) -> str:
    """Says how a saga would wait for itself through a ticket; ``""`` if it would not.

    Only tickets up to this one count, so that of several taken together the last is refused.
    """
    behind: dict[str, tuple[str, str]] = {}  # who was reached, from whom, through which lock
    waiters = {ticket.name: ticket}  # whom to look ahead of: the last of those in a line
    looked: dict[str, int] = {}
    while waiters:
        bounds = {name: waiter.number for name, waiter in waiters.items()}
        looked |= bounds
        reached: set[str] = set()
        for found in lines.ahead(bounds):
            if found.saga_id not in behind:
                behind[found.saga_id] = waiters[found.name].saga_id, found.name
                reached.add(found.saga_id)
        if ticket.saga_id in behind:
            return _tell(behind, ticket)
        found_next = sorted(lines.of_sagas(reached, ticket.number)) if reached else []
        waiters = {found.name: found for found in found_next if found.number > looked.get(found.name, 0)}
    return ""


def _tell(behind: Mapping[str, tuple[str, str]], ticket: Ticket) -> str:
    """Tells a circle, from the saga that would close it on."""
    links: list[str] = []
    saga_id = ticket.saga_id
    while not links or saga_id != ticket.saga_id:
        waiter, name = behind[saga_id]
        links.append(f"{waiter} waits for {name!r} behind {saga_id}")
        saga_id = waiter
    shown = links[::-1][:_TOLD_AT_MOST]
    more = "" if len(links) <= _TOLD_AT_MOST else f", and {len(links) - _TOLD_AT_MOST} more"
    return f"waiting for lock {ticket.name!r} would never end: {', '.join(shown)}{more}"
