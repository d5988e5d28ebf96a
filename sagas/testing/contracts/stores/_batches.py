"""Writes for stores, as a coordinator would make them."""

from __future__ import annotations

from sagas.core.records import chain
from sagas.stores.port import Batch, Change, JournalRow, LockChange, NewSaga

__all__ = ["append", "change", "end", "free", "joined", "new_saga", "row", "start", "take"]


def new_saga(saga_id: str, *, owner: str = "a", name: str = "order") -> NewSaga:
    """A saga to be created."""
    return NewSaga(saga_id, name, "1", b"f" * 16, 1.0, owner, rank=1.0)


def row(saga_id: str, seq: int, data: bytes = b"{}") -> JournalRow:
    """A record whose digest depends on all of it, and on records before it as this function gives them."""
    before = row(saga_id, seq - 1).digest if seq else saga_id.encode()
    rest = (seq, float(seq), "StepSucceeded", "0", data)
    return JournalRow(saga_id, *rest, chain(before, *rest))


def change(
    saga_id: str,
    status: str = "running",
    *,
    active: bool = True,
    wake_at: float | None = None,
    ended_at: float | None = None,
    owner: str = "a",
) -> Change:
    """A change of a saga as a whole."""
    return Change(saga_id, status, active, wake_at, ended_at, None, owner)


def start(*saga_ids: str, owner: str = "a", name: str = "order", data: bytes = b"{}") -> Batch:
    """The start of some sagas."""
    return Batch(
        new=[new_saga(saga_id, owner=owner, name=name) for saga_id in saga_ids],
        rows=[row(saga_id, 0, data) for saga_id in saga_ids],
    )


def take(saga_id: str, name: str, seq: int = 1) -> Batch:
    """A record that asks for a lock; its number is the path."""
    return _locking(LockChange(saga_id, str(seq), name, take=True, at=float(seq), seq=seq))


def free(saga_id: str, name: str, seq: int = 2, *, path: str = "1") -> Batch:
    """A record that gives a lock back."""
    return _locking(LockChange(saga_id, path, name, take=False, at=float(seq), seq=seq))


def end(saga_id: str, seq: int = 2) -> Batch:
    """A saga's last record."""
    return _locking(LockChange(saga_id, "", "", take=False, at=float(seq), seq=seq))


def _locking(lock: LockChange) -> Batch:
    return Batch(rows=[row(lock.saga_id, lock.seq)], locks=[lock])


def joined(*batches: Batch) -> Batch:
    """Records that become durable together."""
    return Batch(rows=[x for batch in batches for x in batch.rows], locks=[x for batch in batches for x in batch.locks])


def append(*rows: JournalRow, changes: tuple[Change, ...] = ()) -> Batch:
    """Records, with changes."""
    return Batch(rows=list(rows), changes={item.id: item for item in changes})
