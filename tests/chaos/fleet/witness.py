"""What each process says of itself, in a file that outlives it: what it meant to write, and what it heard was written.

The file is written without a buffer, so SIGKILL loses nothing of it; and not to a database, which fails too here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sqlmodel import Session

    from sagas.stores.port import Batch, Committed, JournalRow, Lease, Store

__all__ = ["Said", "Witness", "read"]


class Said(NamedTuple):
    """One line.

    Attributes:
        owner: Whose.
        what: ``tried`` or ``wrote`` (a record), or ``ended`` (a saga).
        saga: Which.
        seq: Of the record; -1 for an end.
        detail: The record's digest in hexadecimal, or how the saga ended.
    """

    owner: str
    what: str
    saga: str
    seq: int
    detail: str


class Witness:
    """A store that notes what is written through it.

    Args:
        store: What it stands before.
        path: Of the file.

    Attributes:
        owner: What the coordinator of this process is called.
    """

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.owner = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def renew(self, lease: Lease, now: float) -> float:
        """Learns what the coordinator calls itself, which it does before it writes anything else."""
        self.owner = lease.id
        return self._store.renew(lease, now)

    def commit(self, batch: Batch) -> Committed:
        """Notes before what it tries, and afterwards what it wrote."""
        self._note("tried", batch.rows)
        done = self._store.commit(batch)
        self._note("wrote", [row for row in batch.rows if row.saga_id not in done.taken | done.fenced])
        return done

    def transact(self, work: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:
        """As ``commit``."""
        rows: list[JournalRow] = []

        def finish_and_note() -> Batch:
            batch = finish()
            rows.extend(batch.rows)
            self._note("tried", rows)
            return batch

        done = self._store.transact(work, finish_and_note)
        self._note("wrote", rows)
        return done

    def ended(self, saga_id: str, status: str) -> None:
        """Notes what was reported to whoever waited for a saga."""
        self._write([f"{self.owner} ended {saga_id} -1 {status}\n"])

    def _note(self, what: str, rows: Sequence[JournalRow]) -> None:
        self._write([f"{self.owner} {what} {row.saga_id} {row.seq} {row.digest.hex()}\n" for row in rows])

    def _write(self, lines: Sequence[str]) -> None:
        os.write(self._file, "".join(lines).encode())


def read(directory: Path) -> Iterator[Said]:
    """Reads what all processes said; a line that a kill cut short was not said."""
    for path in sorted(directory.glob("*.witness")):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                owner, what, saga, seq, detail = line.split()
                yield Said(owner, what, saga, int(seq), detail)
