"""A store on a server that is opened in vain."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy import make_url

from sagas import Client, Coordinator, SchemaMismatch, StoreError, StoreUnavailable
from sagas.stores.port import StoreRestarted
from sagas.stores.postgres import PostgresStore
from sagas.testing.contracts.stores._batches import start
from tests.support.postgres import Databases

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


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_keep_every_text_is_refused(postgres_url: str, encoding: str) -> None:
    """Before anything is written into it, and with what to do."""
    databases, name = Databases(postgres_url), f"odd_{encoding}".lower()
    databases.execute("CREATE DATABASE {} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING {}", name, encoding)
    try:
        for kind in (Coordinator, Client):
            with pytest.raises(StoreError, match=f"keeps texts in {encoding}, .* ENCODING 'UTF8'"):
                async with kind(databases.url(name)):
                    pass
        assert _connections(databases.url(name)) == 0
    finally:
        databases.drop_database(name)


def test_texts_are_exchanged_in_utf_8_whatever_the_environment_says(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the database's own setting."""
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    store.post("naïve €", 1.0, "signal", b"{}")
    assert [mail.saga_id for mail in store.mail("a", 2.0, 10)] == ["naïve €"]
    store.close()


def test_a_value_that_no_database_keeps_is_no_outage(postgres_url: str) -> None:
    """Whoever waits for it to pass would wait for ever."""
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    for attempt in (lambda: store.commit(start("\x00")), lambda: store.post("\x00", 1.0, "signal", b"{}")):
        with pytest.raises(StoreError, match="cannot keep a value") as caught:
            attempt()
        assert not isinstance(caught.value, StoreUnavailable)
    store.commit(start("s"))
    assert store.get("s") is not None
    store.close()


def test_a_store_writes_again_when_its_database_is_no_longer_read_only(
    postgres_server: Databases, postgres_url: str
) -> None:
    """Also on the connections that began while it was; nobody has to cut them."""
    name = str(make_url(postgres_url).database)
    store = PostgresStore(postgres_url)
    store.open(migrate=True)
    store.close()
    postgres_server.execute("ALTER DATABASE {} SET default_transaction_read_only = on", name)
    store.open(migrate=False)
    for attempt in (lambda: store.commit(start("s")), lambda: store.post("s", 1.0, "signal", b"{}")):
        with pytest.raises(StoreUnavailable, match="read-only"):
            attempt()
    postgres_server.execute("ALTER DATABASE {} SET default_transaction_read_only = off", name)
    store.post("s", 1.0, "signal", b"{}")
    with pytest.raises(StoreRestarted):  # it may be another server, too
        store.commit(start("s"))
    store.commit(start("s"))
    assert store.get("s") is not None
    store.close()
