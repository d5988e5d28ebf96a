"""What a census counts, on every store, and that it reads none of the sagas that have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sagas.stores import census_sql
from sagas.stores.census import take_census
from sagas.stores.census_sql import statements
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Batch, Change, JournalRow, Lease, NewSaga, Store
from sagas.stores.sqlite import SqliteStore
from sagas.testing.contracts import OpenStore

_NOW = 1_000.0


def _fill(store: Store) -> None:
    """Writes sagas of every kind: (id, name, owner, status, active, wake_at)."""
    store.renew(Lease("alive", "host", _NOW + 60), _NOW)
    store.renew(Lease("worker-1", "host", _NOW + 60), _NOW)
    store.renew(Lease("dead", "host", _NOW - 1), _NOW - 60)
    rows = [
        ("driven", "order", "alive", "running", True, None),
        ("orphan", "order", "dead", "compensating", True, None),
        ("submitted", "order", "", "running", True, None),
        ("parked", "order", "dead", "running", False, None),
        ("due", "order", "dead", "running", False, _NOW - 1),
        ("its owner will wake it", "order", "alive", "running", False, _NOW - 1),
        ("later", "order", "dead", "running", False, _NOW + 1),
        ("stuck 1", "order", "dead", "stuck", False, None),
        ("stuck 2", "refund", "alive", "stuck", False, None),
        ("stuck 3", "refund", "alive", "stuck", False, None),
        *((f"ended {n}", "order", "alive", "completed", False, None) for n in range(20)),
    ]
    batch = Batch()
    for saga_id, name, owner, status, active, wake_at in rows:
        ended_at = _NOW if status == "completed" else None
        batch.new.append(NewSaga(saga_id, name, "1", b"f", 1.0, owner, 1.0))
        batch.rows.append(JournalRow(saga_id, 0, 1.0, "SagaStarted", "", b"{}", b"d"))
        batch.changes[saga_id] = Change(saga_id, status, active, wake_at, ended_at, None, owner)
    store.commit(batch)


def _check(store: Store) -> None:
    found = take_census(store, _NOW)
    assert found.open == {"running": 6, "compensating": 1, "stuck": 3}
    assert found.stuck == {"order": 1, "refund": 2}
    assert found.backlog == 3  # orphan, submitted, due
    assert found.coordinators == 1


def test_sqlite_is_counted(on_sqlite: Callable[[], Store] | OpenStore) -> None:
    store = on_sqlite()
    _fill(store)
    _check(store)


def test_postgres_is_counted(on_postgres: Callable[[], Store] | OpenStore) -> None:
    store = on_postgres()
    _fill(store)
    _check(store)


def test_what_is_in_memory_is_counted() -> None:
    store = MemoryStore()
    _fill(store)
    _check(store)


def test_counting_stops_at_a_number(sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census_sql, "MOST", 4)
    monkeypatch.setattr(census_sql, "MOST_STUCK", 2)
    _fill(sqlite)
    found = take_census(sqlite, _NOW)
    assert found.open == {"running": 4, "compensating": 1, "stuck": 3}
    assert found.stuck == {"refund": 2}


def test_sqlite_finds_what_it_counts_by_an_index_that_has_no_ended_saga(sqlite: SqliteStore) -> None:
    """Each count goes along a partial index; so a million sagas that have ended cost nothing."""
    from sqlalchemy import text
    from sqlalchemy.dialects import sqlite as dialect

    for what, query in statements(["alive"], _NOW).items():
        told = str(query.compile(dialect=dialect.dialect(), compile_kwargs={"literal_binds": True}))
        plan = [tuple(row)[-1] for row in sqlite.query(text(f"EXPLAIN QUERY PLAN {told}"))]
        scans = [line for line in plan if "saga" in line]
        assert scans, (what, plan)
        for line in scans:
            assert any(f"INDEX saga_{x}" in line for x in (what, "stuck", "queue", "timed")), (what, line)


def test_sqlite_finds_what_needs_a_coordinator_by_an_index_too(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import text
    from sqlalchemy.dialects import sqlite as dialect

    _fill(sqlite)
    asked: list[Any] = []
    read = sqlite._read  # noqa: SLF001 - to see what is asked

    def noted(query: Any) -> Any:
        asked.append(query)
        return read(query)

    monkeypatch.setattr(sqlite, "_read", noted)
    sqlite.orphans(_NOW)
    sqlite.claim("me", _NOW, 10, ["order@1"])
    assert len(asked) >= 6
    for query in [*asked]:
        told = str(query.compile(dialect=dialect.dialect(), compile_kwargs={"literal_binds": True}))
        plan = [str(tuple(row)[-1]) for row in sqlite.query(text(f"EXPLAIN QUERY PLAN {told}"))]
        assert not [line for line in plan if f"{line} ".startswith("SCAN saga ") and "INDEX" not in line], (told, plan)
