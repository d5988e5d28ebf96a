"""A whole journal as a few bytes, for the archive.

The bytes are a line that names the format, then a zlib stream (RFC 1950), then 16 bytes of digest a record. The stream
holds JSON: a list of ``[seq, at, kind, path, data]``, where ``data`` is a text, or a list of one text in base64 if it
is no UTF-8. Digests stay as they were written, so an archived journal is checked as any other when it is read.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

import orjson

from sagas.errors import JournalCorrupted
from sagas.stores.port import JournalRow

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["pack", "unpack"]

_HEAD = b"sagas journal 1\n"
_DIGEST = 16


def pack(rows: Sequence[JournalRow]) -> bytes:
    """Packs a journal."""
    records = [(row.seq, row.at, row.kind, row.path, _text(bytes(row.data))) for row in rows]
    return b"".join([_HEAD, zlib.compress(orjson.dumps(records)), *(bytes(row.digest) for row in rows)])


def unpack(saga_id: str, packed: bytes) -> list[JournalRow]:
    """Unpacks a journal; every row is what it was.

    Raises:
        JournalCorrupted: It was not written by ``pack``, or altered since.
    """
    if not packed.startswith(_HEAD):
        raise JournalCorrupted(f"saga {saga_id}: its archived journal is of a format that this library does not know")
    try:
        stream = zlib.decompressobj()
        records = orjson.loads(stream.decompress(packed[len(_HEAD) :]))
        digests = stream.unused_data
        if len(digests) != _DIGEST * len(records):
            raise ValueError("digests are missing")  # noqa: TRY301 - is told as the others
        return [
            JournalRow(saga_id, seq, at, kind, path, _bytes(data), digests[_DIGEST * place : _DIGEST * (place + 1)])
            for place, (seq, at, kind, path, data) in enumerate(records)
        ]
    except (zlib.error, ValueError, TypeError, AttributeError, LookupError) as error:
        raise JournalCorrupted(
            f"saga {saga_id}: its archived journal is not what was written ({error}). Restore it from a backup"
        ) from error


def _text(data: bytes) -> str | list[str]:
    """Writes a payload as JSON can hold it."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(data).decode()]


def _bytes(data: str | list[str]) -> bytes:
    """Gives the payload back."""
    return data.encode() if isinstance(data, str) else base64.b64decode(data[0])
