"""What a journal's store is given, and gives: rows, and what is written together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = [
    "WORKER_PREFIX",
    "Batch",
    "Change",
    "Committed",
    "Drawn",
    "Holding",
    "JournalRow",
    "Lease",
    "LockChange",
    "Mail",
    "NewSaga",
    "Outgoing",
    "PayloadContext",
    "SagaRow",
]


class JournalRow(NamedTuple):
    """One record of a journal, as stored.

    Attributes:
        saga_id: Whose.
        seq: From 0, without gaps; unique in the saga, which is what fences a coordinator that was replaced.
        at: POSIX time of the event.
        kind: Name of the event.
        path: The operation it is about, or ``""``.
        data: The rest, as the codec wrote it.
        digest: 16 bytes that chain it to the row before.
    """

    saga_id: str
    seq: int
    at: float
    kind: str
    path: str
    data: bytes
    digest: bytes


class NewSaga(NamedTuple):
    """A saga to be created.

    Attributes:
        id: Unique among all sagas.
        name: Of its definition.
        version: Of its definition.
        fingerprint: 16 bytes over name and input; another one under the same id is a conflict.
        created_at: POSIX time.
        owner: The coordinator that runs it; ``""`` for one that waits for a coordinator.
        rank: Its place among those that wait, smallest first: the POSIX time of its start, less what its priority
            puts it ahead. So a saga of higher priority passes others, but only those that have not waited long.
    """

    id: str
    name: str
    version: str
    fingerprint: bytes
    created_at: float
    owner: str
    rank: float


class Change(NamedTuple):
    """What has changed about a saga as a whole.

    Attributes:
        id: The saga.
        status: ``running``, ``compensating``, ``stuck``, ``completed`` or ``compensated``.
        active: Whether a coordinator has something to do for it now.
        wake_at: POSIX time of its next timer.
        ended_at: POSIX time of its end.
        error: Why it did not complete, or is stuck; one line.
        owner: The coordinator that runs it.
    """

    id: str
    status: str
    active: bool
    wake_at: float | None
    ended_at: float | None
    error: str | None
    owner: str


class LockChange(NamedTuple):
    """A semantic lock that is asked for or given up.

    Attributes:
        saga_id: By whom.
        path: The operation that asks for it; ``""`` for a change of all of a saga's locks.
        name: Of the lock; ``""`` for all of the saga's.
        take: Whether it is asked for.
        at: POSIX time.
        seq: Number of the saga's record that asks for it. Where that is written already, so is this.
    """

    saga_id: str
    path: str
    name: str
    take: bool
    at: float
    seq: int


class Outgoing(NamedTuple):
    """An event that is to be sent.

    Attributes:
        id: Of the event, for ever the same.
        saga_id: Whose.
        seq: Number of the saga's record that emits it. Where that is written already, so is this.
        at: POSIX time of that record.
        source: The saga by name, as ``/sagas/NAME``.
        type: What has happened.
        subject: What it is about, or ``""``.
        trace: W3C ``traceparent`` of the saga, or ``""``.
        data: As the codec wrote it.
    """

    id: str
    saga_id: str
    seq: int
    at: float
    source: str
    type: str
    subject: str
    trace: str
    data: bytes


@dataclass(slots=True)
class Batch:
    """Writes that become durable together, or not at all.

    Attributes:
        new: Sagas to create. One whose id is taken is left out, with its rows and changes.
        rows: Journal records to append. One whose place is taken fences its saga: all its writes are left out.
        changes: At most one for a saga.
        read: Ids of mail that these records take into account. That of a saga which is left out stays.
        locks: Locks that are asked for or given up, in order. Whoever holds one then is told by mail.
        outgoing: Events that are to be sent, in order.
    """

    new: list[NewSaga] = field(default_factory=list[NewSaga])
    rows: list[JournalRow] = field(default_factory=list[JournalRow])
    changes: dict[str, Change] = field(default_factory=dict[str, Change])
    read: list[int] = field(default_factory=list[int])
    locks: list[LockChange] = field(default_factory=list[LockChange])
    outgoing: list[Outgoing] = field(default_factory=list[Outgoing])

    def without(self, out: Collection[str], present: Collection[tuple[str, int]]) -> Batch:
        """Leaves out some sagas, and the records that are written already with all that came with them.

        What changed about a saga was written with its last record.
        """
        last = {row.saga_id: row.seq for row in self.rows}
        settled = {saga_id for saga_id, seq in last.items() if (saga_id, seq) in present}
        return Batch(
            new=[new for new in self.new if new.id not in out and (new.id, 0) not in present],
            rows=[row for row in self.rows if row.saga_id not in out and (row.saga_id, row.seq) not in present],
            changes={key: change for key, change in self.changes.items() if key not in out and key not in settled},
            read=self.read,
            locks=[x for x in self.locks if x.saga_id not in out and (x.saga_id, x.seq) not in present],
            outgoing=[x for x in self.outgoing if x.saga_id not in out and (x.saga_id, x.seq) not in present],
        )


class Committed(NamedTuple):
    """What became of a batch.

    Attributes:
        taken: Ids of new sagas that existed already.
        fenced: Ids of sagas that another coordinator has taken over.
        mailed: Mail that it made: for those who hold a lock now, or never will.
    """

    taken: frozenset[str]
    fenced: frozenset[str]
    mailed: tuple[Mail, ...] = ()


class SagaRow(NamedTuple):
    """A saga as a whole; fields as in ``NewSaga`` and ``Change``."""

    id: str
    name: str
    version: str
    fingerprint: bytes
    created_at: float
    owner: str
    status: str
    active: bool
    wake_at: float | None
    ended_at: float | None
    error: str | None
    rank: float


class Mail(NamedTuple):
    """Something for a saga from outside its coordinator.

    Attributes:
        id: Increasing.
        saga_id: For whom.
        at: POSIX time.
        kind: ``signal``, ``cancel``, ``retry``, ``skip``, ``resume`` or ``lock``.
        body: As JSON.
    """

    id: int
    saga_id: str
    at: float
    kind: str
    body: bytes


# What tells the id of a worker from that of a coordinator.
WORKER_PREFIX = "worker-"


class Lease(NamedTuple):
    """A coordinator's word that it is alive until a time.

    Attributes:
        id: Of the coordinator.
        name: For people.
        expires_at: POSIX time; renewed long before.
        code: The sagas that it has code for, each as ``name@version``.
    """

    id: str
    name: str
    expires_at: float
    code: tuple[str, ...] = ()

    @property
    def is_a_workers(self) -> bool:
        """Whether it is no coordinator's, but of a worker whose inbox is in the same database."""
        return self.id.startswith(WORKER_PREFIX)


class Holding(NamedTuple):
    """What a coordinator has of a limit that holds across processes.

    Attributes:
        held: How many permits are its own now.
        share: How many it should have at most, while others wait for some too.
        starving: Whether others wait who have less than their share.
    """

    held: int
    share: int
    starving: bool


class Drawn(NamedTuple):
    """What was drawn from a bucket of tokens.

    Attributes:
        tokens: How many.
        pause: Seconds until there is another one.
    """

    tokens: int
    pause: float


class PayloadContext(NamedTuple):
    """Where a payload stands, so that a codec can bind it to its place."""

    saga_id: str
    path: str
    kind: str
