"""Our own stores do what every store does."""

from __future__ import annotations

import pytest
from sqlalchemy import column, select

from sagas.core import events
from sagas.stores.keeping import HANDOVERS, SUBMITTED, TAKEN
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Store
from sagas.stores.sql import SqlStore
from sagas.stores.tables import metadata
from sagas.testing.contracts import OpenStore, StoreContract


class TestMemoryStore(StoreContract):
    """One store, as all coordinators of a process share it."""

    @pytest.fixture
    def connect(self) -> OpenStore:
        shared = MemoryStore()
        return lambda: shared


class SqlStoreContract(StoreContract):
    """What can be looked at, and set, in a database of ours."""

    def waiting(self, store: Store) -> int | None:
        assert isinstance(store, SqlStore)
        waiting = select(metadata.tables["saga_limit"]).where(column("slot") < 0)
        return len(store._read(waiting))  # noqa: SLF001 - looks behind the scenes, where users do not

    @pytest.fixture
    def narrow_purge(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sagas.stores.sql_keeping._WINDOW", 10)

    @pytest.fixture
    def narrow_search(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sagas.stores.sql_surveys._WINDOW", 3)
        monkeypatch.setattr("sagas.stores.sql_surveys._FEW", 1)


class TestSqliteStore(SqlStoreContract):
    @pytest.fixture
    def connect(self, on_sqlite: OpenStore) -> OpenStore:
        return on_sqlite


class TestPostgresStore(SqlStoreContract):
    @pytest.fixture
    def connect(self, on_postgres: OpenStore) -> OpenStore:
        return on_postgres


def test_records_of_a_change_of_hands_are_events_that_there_are() -> None:
    assert {*HANDOVERS, SUBMITTED, TAKEN} <= set(events.__all__)
