"""A million sagas in seconds: some are really run, the others are copies of their rows.

A copy has an id of its own, wherever the id occurs, and a digest chain of its own, so that it is read, checked and
driven on like any other. Everything else is as the library wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.postgres.server import connect
from benchmarks.postgres.tape import read_journal, read_saga
from benchmarks.workload import saga_id
from sagas.core.records import chain

if TYPE_CHECKING:
    import psycopg

_CHUNK = 5_000
_FIXED = ("seq", "at", "kind", "path")


@dataclass(frozen=True, slots=True)
class Model:
    """A saga to be copied.

    Attributes:
        saga_id: Its id.
        columns: Of its row, but for the id.
        cells: Their values, as COPY takes them.
        journal: Its records.
    """

    saga_id: str
    columns: tuple[str, ...]
    cells: str
    journal: tuple[Record, ...]


class Record(NamedTuple):
    """A record to be copied."""

    seq: int
    at: float
    kind: str
    path: str
    data: bytes
    cells: str


def read_models(connection: psycopg.Connection, ids: Sequence[str]) -> list[Model]:
    """Reads sagas that are to be copied; all have to be in the same state."""
    models = [_model(connection, saga_id) for saga_id in ids]
    assert len({model.columns for model in models}) == 1, "one COPY writes the same columns of all"
    return models


def copy_sagas(url: str, ids: Sequence[str], *, first: int, count: int, prefix: str) -> None:
    """Copies sagas, in turn, `count` times in all.

    Args:
        url: The database, which holds the sagas to be copied.
        ids: Of those.
        first: Number in the first copy's id.
        count: How many copies.
        prefix: What their ids begin with; must be as long as that of the sagas copied.
    """
    with connect(url) as connection:
        models = read_models(connection, ids)
        for start in range(first, first + count, _CHUNK):
            copies = [
                (models[number % len(models)], saga_id(prefix, number))
                for number in range(start, min(start + _CHUNK, first + count))
            ]
            rows = (f"{own}\t{model.cells}\n" for model, own in copies)
            _write(connection, "saga", ("id", *models[0].columns), rows)
            records = (line for model, own in copies for line in _journal(model, own))
            _write(connection, "saga_journal", ("saga_id", *_FIXED, "data", "digest"), records)


def settle(url: str) -> None:
    """Does now what the server would do in the background in the next minutes."""
    with connect(url) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def _model(connection: psycopg.Connection, saga_id: str) -> Model:
    row = dict(read_saga(connection, saga_id).values)
    del row["id"]
    journal = [_record(record.values) for record in read_journal(connection, saga_id)]
    return Model(saga_id, tuple(row), _cells(row.values()), tuple(journal))


def _record(values: dict[str, Any]) -> Record:
    seq, at, kind, path = fixed = tuple(values[name] for name in _FIXED)
    return Record(seq, at, kind, path, values["data"], _cells(fixed))


def _journal(model: Model, own: str) -> Iterator[str]:
    """Writes the records of a copy, chained anew."""
    old, new = model.saga_id.encode(), own.encode()
    digest = new
    for seq, at, kind, path, data, cells in model.journal:
        copied = data.replace(old, new)
        digest = chain(digest, seq, at, kind, path, copied)
        yield f"{own}\t{cells}\t\\\\x{copied.hex()}\t\\\\x{digest.hex()}\n"


def _write(connection: psycopg.Connection, table: str, columns: Sequence[str], lines: Iterable[str]) -> None:
    with connection.cursor().copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
        copy.write("".join(lines))


def _cells(values: Iterable[Any]) -> str:
    """Writes values in the text format of COPY."""
    return "\t".join(map(_cell, values))


def _cell(value: Any) -> str:
    if isinstance(value, bytes):
        return f"\\\\x{value.hex()}"
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    return ("t" if value else "f") if isinstance(value, bool) else repr(value)
