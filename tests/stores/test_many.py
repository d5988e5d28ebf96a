"""Counts of very many sagas say how they are meant."""

from __future__ import annotations

import psycopg
import pytest

from sagas.stores.port import Store
from sagas.stores.postgres import PostgresStore
from sagas.stores.sql_surveys import SqlSurveys
from sagas.stores.surveying import Counted
from sagas.testing.contracts import OpenStore
from sagas.testing.contracts.stores.surveys import fill


@pytest.fixture
def _few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (SqlSurveys, PostgresStore):
        monkeypatch.setattr(kind, "_most_counted", 2)


def _completed(store: Store) -> Counted:
    return store.count_by_status()["completed"]


@pytest.mark.usefixtures("_few_are_many")
def test_sqlite_stops_counting(on_sqlite: OpenStore) -> None:
    store = on_sqlite()
    fill(store)
    assert _completed(store) == (2, "at least")
    assert store.count_by_status()["stuck"] == (2, "exact")


@pytest.mark.usefixtures("_few_are_many")
def test_postgres_estimates_what_it_has_looked_at(on_postgres: OpenStore, postgres_url: str) -> None:
    store = on_postgres()
    fill(store)
    assert _completed(store) == (2, "at least")
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE saga")
    assert _completed(store) == (3, "estimated")
