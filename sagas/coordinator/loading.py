"""Reads a saga back from its rows: checks the chain, decodes, replays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from sagas.core import events as e
from sagas.core import records
from sagas.core.records import Record
from sagas.errors import JournalCorrupted, PayloadError
from sagas.stores.port import PayloadContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.core.strands import Awaits
    from sagas.stores.port import Codec, JournalRow

__all__ = ["History", "lock_answer", "read_history", "revision_of"]

_TAKEOVER = e.SagaTakenOver.__name__


@dataclass(frozen=True, slots=True)
class History:
    """A whole journal, checked.

    Attributes:
        saga_id: Whose.
        records: In order.
        digest: Of the last one.
        start: Its first event.
    """

    saga_id: str
    records: tuple[Record, ...]
    digest: bytes
    start: e.SagaStarted | e.SagaSubmitted

    @property
    def revision(self) -> int:
        """Number of the last record that is no takeover, which tells whether anything has happened since."""
        return next(
            (record.seq for record in reversed(self.records) if not isinstance(record.event, e.SagaTakenOver)), 0
        )

    @property
    def awaits(self) -> Awaits:
        """The signals that the body waits for, as far as the journal says."""
        nothing: Awaits = {}
        return next((record.awaits for record in reversed(self.records) if record.awaits is not None), nothing)

    @property
    def takeovers(self) -> list[tuple[float, str]]:
        """POSIX times and names of those who went on with what another coordinator had begun."""
        found = [
            (record.at, record.event.owner) for record in self.records if isinstance(record.event, e.SagaTakenOver)
        ]
        # The first to take over a submitted saga is who begins it.
        return found[1:] if isinstance(self.start, e.SagaSubmitted) else found


def read_history(saga_id: str, rows: Sequence[JournalRow], codec: Codec | None) -> History:
    """Checks and decodes a journal.

    Raises:
        JournalCorrupted: A record is missing, out of order, altered or unreadable.
    """
    try:
        return _read(saga_id, rows, codec)
    except (TypeError, ValueError, AttributeError) as error:
        raise JournalCorrupted(f"saga {saga_id}: its journal holds a value of another type: {error}") from error


def _read(saga_id: str, rows: Sequence[JournalRow], codec: Codec | None) -> History:
    """Checks and decodes a journal.

    Raises:
        JournalCorrupted: A record is missing, out of order, altered or unreadable.
    """
    digest = saga_id.encode()
    found: list[Record] = []
    for position, row in enumerate(rows):
        if row.seq != position:
            raise JournalCorrupted(f"saga {saga_id}: record {position} is missing from its journal")
        digest = records.chain(digest, row.seq, row.at, row.kind, row.path, bytes(row.data))
        if digest != bytes(row.digest):
            raise JournalCorrupted(
                f"saga {saga_id}: record {row.seq} ({row.kind}) is not what was written, or one before it was removed. "
                "Restore the journal from a backup"
            )
        data = bytes(row.data)
        try:
            if codec is not None:
                data = codec.decode(data, PayloadContext(saga_id, row.path, row.kind))
            found.append(records.decode(row.seq, row.at, row.kind, row.path, data))
        except PayloadError as error:
            raise JournalCorrupted(f"saga {saga_id}: {error}") from error
        except Exception as error:
            raise JournalCorrupted(
                f"saga {saga_id}: the codec cannot decode record {row.seq}: {type(error).__name__}: {error}"
            ) from error
    if not found or not isinstance(found[0].event, (e.SagaStarted, e.SagaSubmitted)):
        raise JournalCorrupted(f"saga {saga_id}: its journal has no beginning")
    return History(saga_id, tuple(found), digest, found[0].event)


def revision_of(journal: Sequence[JournalRow]) -> int:
    """Gives the number of a journal's last record that is no takeover; see ``History.revision``."""
    return next((row.seq for row in reversed(journal) if row.kind != _TAKEOVER), 0)


def lock_answer(body: bytes) -> e.LockGranted | e.LockRefused:
    """Reads what a store says about a lock.

    Raises:
        ValueError, LookupError, TypeError: It is no such answer.
    """
    fields: dict[str, Any] = from_json(body)
    path = str(fields["path"])
    return e.LockGranted(path) if fields["granted"] else e.LockRefused(path, str(fields["reason"]))
