"""What a coordinator asks again and again finds its rows by an index, however many sagas there are.

Not by the plans, which PostgreSQL makes anew as it sees fit, but by what it says that it has read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest

from sagas.stores.port import Batch, Change, JournalRow, Lease, NewSaga
from sagas.stores.postgres import PostgresStore
from sagas.stores.surveying import Wanted
from tests.support.postgres import Databases

_CODE = ("order@1",)
_MANY = 20_000
_FILL = f"""
    INSERT INTO saga (id, name, version, fingerprint, created_at, owner, status, active, wake_at, ended_at, rank)
    SELECT kind || n, 'order', '1', 'f', n, 'gone', status, false, wake_at, ended_at, n
    FROM generate_series(1, {_MANY}) n,
    (VALUES ('parked', 'running', NULL, NULL), ('timed', 'running', 1e12, NULL), ('ended', 'completed', NULL, 1.0))
    AS kinds (kind, status, wake_at, ended_at);
    INSERT INTO saga_journal (saga_id, seq, at, kind, path, data, digest)
    SELECT id, seq, 0, 'SagaStarted', '', '{{}}', 'd' FROM saga, generate_series(0, 1) seq;
    INSERT INTO saga_lease (id, name, expires_at) VALUES ('other', 'other', 1e12);
    VACUUM (ANALYZE) saga; VACUUM (ANALYZE) saga_journal;
"""
_COUNTERS = """
    SELECT coalesce(sum(seq_tup_read), 0)::int, coalesce(sum(idx_tup_fetch), 0)::int FROM pg_stat_user_tables
    WHERE relname IN ('saga', 'saga_journal')
"""
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Read:
    """Rows of sagas and journals that were read."""

    by_scanning: int
    by_index: int


@pytest.fixture(scope="module")
def full(postgres_server: Databases) -> Iterator[str]:
    """A database in which sagas wait, with timers and without, and others have ended."""
    url = postgres_server.create_database()
    store = PostgresStore(url)
    store.open(migrate=True)
    store.close()
    with _plain(url) as connection:
        for statement in filter(str.strip, _FILL.split(";")):
            connection.execute(statement.encode())
    yield url
    postgres_server.drop_database(url)


def _plain(url: str) -> psycopg.Connection:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def _counters(connection: psycopg.Connection) -> Read:
    """Reads what is counted, once those who are counted have gone."""
    while connection.execute(_OTHERS).fetchone() != (0,):
        time.sleep(0.01)
    row = connection.execute(_COUNTERS).fetchone()
    assert row is not None
    return Read(*row)


def _read_by(url: str, function: Callable[[PostgresStore], object], *, times: int = 10) -> Read:
    """Calls a store often enough that plans are kept, and says what that read."""
    with _plain(url) as connection:
        before = _counters(connection)
        store = PostgresStore(url)
        store.open(migrate=False)
        for _ in range(times):
            function(store)
        store.close()
        after = _counters(connection)
    return Read(after.by_scanning - before.by_scanning, after.by_index - before.by_index)


def _select(status: str) -> Callable[[PostgresStore], object]:
    return lambda store: store.select(status=status, name=None, limit=10, before=None)


_REPEATED: dict[str, Callable[[PostgresStore], object]] = {
    "claim": lambda store: store.claim("me", time.time(), 500, _CODE),
    "next_wake": lambda store: store.next_wake(),
    "mail": lambda store: store.mail("me", time.time(), 500),
    "post": lambda store: store.post("parked7", time.time(), "signal", b"{}"),
    "alive": lambda store: store.alive("gone", time.time()),
    "renew": lambda store: store.renew(Lease("me", "me", time.time() + 1), time.time()),
    "hand_over": lambda store: store.hand_over("gone", ["parked7", "timed7"]),
    "get": lambda store: store.get("parked7"),
    "load": lambda store: store.load(["parked7", "timed7"]),
    **{status: _select(status) for status in ("running", "compensating", "stuck", "completed", "compensated")},
    "the newest": lambda store: store.select(status=None, name=None, limit=10, before=None),
    "search": lambda store: store.search(Wanted(statuses=("stuck",), texts=("x",)), limit=5),
    "search by id": lambda store: store.search(Wanted(prefix="parked1999"), limit=5),
    "tally": lambda store: store.tally(1e12),
    "a page": lambda store: store.select(status=None, name=None, limit=10, before="parked7"),
}


@pytest.mark.parametrize("what", _REPEATED)
def test_what_is_repeated_reads_only_what_it_needs(full: str, what: str) -> None:
    """Ten calls, none of which finds more than some ten rows."""
    read = _read_by(full, _REPEATED[what])
    assert read.by_scanning == 0
    assert read.by_index <= 10 * 50


def test_a_commit_finds_its_sagas_by_their_keys(full: str) -> None:
    """However many it writes at once, and although most are changed while PostgreSQL knows of few."""
    ids = [f"new{number}" for number in range(1_000)]
    new = [NewSaga(saga_id, "order", "1", b"f", 0.0, "me", rank=0.0) for saga_id in ids]

    def write(store: PostgresStore) -> None:
        store.commit(Batch(new=new, rows=[_row(saga_id, 0) for saga_id in ids]))
        for seq in range(1, 10):
            changes = {saga_id: Change(saga_id, "running", True, None, None, None, "me") for saga_id in ids}
            store.commit(Batch(rows=[_row(saga_id, seq) for saga_id in ids], changes=changes))

    assert _read_by(full, write, times=1).by_scanning == 0


def _row(saga_id: str, seq: int) -> JournalRow:
    return JournalRow(saga_id, seq, 0.0, "StepSucceeded", "1", b"{}", b"d")
