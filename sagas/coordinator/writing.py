"""Writes a record as a journal keeps it: encoded, through the codec, chained to the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.core import records
from sagas.stores.port import JournalRow, PayloadContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.core.commands import Command
    from sagas.core.events import Event
    from sagas.core.strands import Awaits
    from sagas.stores.port import Codec

__all__ = ["write_record"]


def write_record(
    event: Event, at: float, commands: Sequence[Command], *, saga_id: str, seq: int, after: bytes, codec: Codec | None,
    awaits: Awaits | None = None,
) -> JournalRow:  # fmt: skip
    """Writes a record.

    Args:
        event: What happened.
        at: POSIX time.
        commands: What it led to.
        saga_id: Whose journal.
        seq: The record's number there.
        after: Digest of the record before; for the first, the saga's id.
        codec: How payloads are stored.
        awaits: The signals that the body waits for now, if that has changed.
    """
    kind, path, data = records.encode(event, commands, awaits)
    if codec is not None:
        data = codec.encode(data, PayloadContext(saga_id, path, kind))
    return JournalRow(saga_id, seq, at, kind, path, data, records.chain(after, seq, at, kind, path, data))
