"""Migrations: what they make is what the models say, from wherever they start."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, make_url

import sagas.stores.migrations
from sagas.errors import StoreError
from sagas.stores import schema, store_for
from sagas.stores.sqlite import SqliteStore
from sagas.stores.tables import metadata


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    """An empty database, in a transaction."""
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def _tables(connection: Connection) -> dict[str, object]:
    found = inspect(connection)
    return {
        name: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)],
            found.get_pk_constraint(name)["constrained_columns"],
            sorted((i["name"] or "", tuple(i["column_names"])) for i in found.get_indexes(name)),
            sorted(tuple(u["column_names"]) for u in found.get_unique_constraints(name)),
        )
        for name in found.get_table_names()
        if name not in (schema.VERSION_TABLE, schema.MIGRATION_TABLE)
    }


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(sagas.stores.migrations.__path__[0])))
    return ScriptDirectory.from_config(config)


def test_the_migrated_tables_are_those_of_the_models(connection: Connection) -> None:
    """Alembic finds nothing that a further migration would have to change."""
    schema.upgrade(connection)
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": schema.MIGRATION_TABLE,
            "compare_type": True,
            "compare_server_default": True,
            "include_name": lambda name, kind, _: (kind, name) != ("table", schema.VERSION_TABLE),
        },
    )
    assert compare_metadata(context, metadata) == []


def test_created_from_the_models_or_migrated_is_the_same(connection: Connection, sqlite: SqliteStore) -> None:
    """A fresh database is an upgraded one."""
    metadata.create_all(connection)
    assert sqlite._engine is not None
    with sqlite._engine.connect() as migrated:
        assert _tables(migrated) == _tables(connection)


def test_mail_that_waits_while_the_tables_are_migrated_keeps_its_id(connection: Connection) -> None:
    """And what comes later comes after it, also when all of it is gone."""
    insert = "INSERT INTO saga_mail (saga_id, at, kind, body) VALUES ('s', 1.0, 'signal', x'') RETURNING id"
    schema.upgrade(connection)
    _move(connection, "0007")
    before = [connection.exec_driver_sql(insert).scalar_one() for _ in range(3)]
    connection.exec_driver_sql("DELETE FROM saga_mail WHERE id = 1")
    _move(connection, "head")
    assert connection.exec_driver_sql("SELECT id FROM saga_mail ORDER BY id").scalars().all() == before[1:]
    connection.exec_driver_sql("DELETE FROM saga_mail")
    assert connection.exec_driver_sql(insert).scalar_one() == before[-1] + 1


def _move(connection: Connection, revision: str) -> None:
    """Has alembic go to a version, forth or back."""
    config = Config()
    config.set_main_option("script_location", str(Path(sagas.stores.migrations.__path__[0])))
    config.attributes["connection"] = connection
    (command.upgrade if revision == "head" else command.downgrade)(config, revision)


def test_the_journal_is_clustered_by_its_key(sqlite: SqliteStore) -> None:
    """A saga's records lie side by side: no rowid."""
    with sqlite3.connect(sqlite._path) as connection:
        (text,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'saga_journal'").fetchone()
    connection.close()
    assert "WITHOUT ROWID" in text


def test_there_is_one_newest_version_and_the_library_knows_all_of_them() -> None:
    """A migration that is added without telling the library would never be run."""
    revisions = [script.revision for script in _scripts().walk_revisions()]
    assert _scripts().get_heads() == [schema.HEAD]
    assert sorted(revisions) == sorted(schema._KNOWN)


def test_migrating_twice_changes_nothing(connection: Connection) -> None:
    """Whoever comes second finds the tables as they should be."""
    schema.ensure(connection, migrate=True)
    before = _tables(connection)
    schema.ensure(connection, migrate=True)
    assert schema.current(connection) == schema.HEAD
    assert _tables(connection) == before


def test_the_users_own_tables_and_migrations_are_left_alone(connection: Connection) -> None:
    """They may live in the same database, with alembic's own table of versions."""
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
    connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('theirs')")
    connection.exec_driver_sql("CREATE TABLE orders (id INTEGER)")
    schema.ensure(connection, migrate=True)
    assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "theirs"
    assert {"orders", "saga", "saga_journal", "saga_mail", "saga_lease"} <= set(inspect(connection).get_table_names())


@pytest.mark.parametrize("secret", ["shop:hunter2@db.internal/shop", "db.internal/shop?password=hunter2"])
def test_the_command_that_migrates_leaves_a_password_to_whoever_knows_it(secret: str) -> None:
    """Also one that is hidden already would be nothing to paste."""
    told = schema.migrating(make_url(f"postgresql+psycopg://{secret}"))
    assert told.startswith("`sagas migrate --store URL`")
    assert "SAGAS_STORE" in told
    assert "hunter2" not in told
    assert "***" not in told


# --- what is logged -------------------------------------------------------------------------------------------------

_LOGS_EVERYTHING = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
from sagas.stores import store_for
store = store_for(sys.argv[1])
store.open(migrate=True)
store.close()
"""


def test_a_service_that_logs_everything_is_told_nothing_of_our_migrations(tmp_path: Path) -> None:
    """In a process of its own, since alembic also tells something when it is imported."""
    done = subprocess.run(
        [sys.executable, "-c", _LOGS_EVERYTHING, f"sqlite:///{tmp_path / 'j.db'}"], capture_output=True, text=True,
        check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert "alembic" not in done.stderr


def test_alembic_warns_during_our_migrations_and_tells_others_what_it_did(caplog: pytest.LogCaptureFixture) -> None:
    """The user's own migrations are told as they wish, also in another thread meanwhile, and afterwards."""
    alembic = logging.getLogger("alembic.runtime.migration")
    caplog.set_level(logging.INFO, alembic.name)
    with schema._quiet():
        alembic.info("ours")
        alembic.warning("a warning")
        thread = threading.Thread(target=alembic.info, args=("of another thread",))
        thread.start()
        thread.join()
    alembic.info("afterwards")
    assert caplog.messages == ["a warning", "of another thread", "afterwards"]
    assert alembic.filters == []


def test_databases_are_made_side_by_side(tmp_path: Path) -> None:
    """As by a worker and a coordinator in threads of one process, each with its own."""
    count = 4
    start = threading.Barrier(count)

    def make(number: int) -> str | None:
        engine = create_engine(f"sqlite:///{tmp_path / str(number)}.db")
        start.wait()
        with engine.begin() as connection:
            schema.ensure(connection, migrate=True)
            found = schema.current(connection)
        engine.dispose()
        return found

    with ThreadPoolExecutor(count) as threads:
        assert list(threads.map(make, range(count))) == [schema.HEAD] * count


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://shop:hunter2@127.0.0.1:1/shop",
        "postgresql+psycopg://127.0.0.1:1/shop?password=hunter2&user=shop",
        "postgresql+psycopg://127.0.0.1:1/shop?sslpassword=hunter2",
        "postgresql+psycopg://shop:hunter2@127.0.0.1:port/shop",
        "oracle://shop:hunter2@127.0.0.1/shop",
        "oracle://127.0.0.1/shop?password=hunter2",
    ],
)
def test_no_message_shows_a_password(url: str) -> None:
    with pytest.raises(StoreError) as raised:
        store_for(url).open(migrate=True)
    assert "hunter2" not in str(raised.value)
    if "oracle" not in url and "port/" not in url:
        assert "hunter2" not in store_for(url).url
