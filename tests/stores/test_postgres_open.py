"""A store on a server that is opened in vain."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import make_url

from sagas import Client, Coordinator, SchemaMismatch
from sagas.stores.postgres import PostgresStore

_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND datname = current_database() AND pid <> pg_backend_pid()
"""


def _connections(url: str) -> int:
    with psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)) as asking:
        row = asking.execute(_OTHERS).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("kind", [Coordinator, Client])
async def test_whoever_finds_no_tables_keeps_no_connection(postgres_url: str, kind: type[Coordinator | Client]) -> None:
    with pytest.raises(SchemaMismatch, match="sagas migrate"):
        async with kind(postgres_url, migrate=False):
            pass
    assert _connections(postgres_url) == 0


def test_a_store_that_is_open_stays_so_when_it_is_opened_in_vain(postgres_url: str) -> None:
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    with store._write() as connection:  # noqa: SLF001 - as a release that this one cannot work with
        connection.exec_driver_sql("UPDATE saga_migration SET version_num = '9999'")
        connection.exec_driver_sql("UPDATE saga_schema SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="9999"):
        store.open(migrate=False)
    assert store.get("nobody") is None
    store.close()
