"""What is special about the SQLite store: its settings, and the errors that a file can give."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import os
import shlex
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas.errors import SchemaMismatch, StoreError, StoreUnavailable
from sagas.stores import store_for
from sagas.stores.port import Batch, Lease
from sagas.stores.sqlite import SqliteStore
from sagas.testing.contracts.stores._batches import row, start


def _pragma(store: SqliteStore, name: str) -> object:
    found: list[object] = []

    def ask(session: Session) -> None:
        found.append(session.connection().execute(text(f"PRAGMA {name}")).scalar())

    store.transact([ask], Batch)
    return found[0]


@pytest.fixture
def other(sqlite: SqliteStore) -> Iterator[sqlite3.Connection]:
    """A connection that has nothing to do with the library."""
    connection = sqlite3.connect(sqlite._path, isolation_level=None)
    yield connection
    connection.close()


def test_commits_are_on_disk_when_they_return(sqlite: SqliteStore) -> None:
    """``synchronous=FULL`` (2) in WAL mode, unless the URL says otherwise."""
    assert (_pragma(sqlite, "synchronous"), _pragma(sqlite, "journal_mode")) == (2, "wal")


@pytest.mark.parametrize(("setting", "number"), [("OFF", 0), ("normal", 1), ("FULL", 2), ("EXTRA", 3)])
def test_synchronous_is_set_by_the_url(sqlite_url: str, setting: str, number: int) -> None:
    """The user weighs power failures against speed."""
    store = SqliteStore(f"{sqlite_url}?synchronous={setting}")
    store.open(migrate=True)
    assert _pragma(store, "synchronous") == number
    store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:///j.db?synchronous=sometimes", "SOMETIMES is none of OFF, NORMAL, FULL, EXTRA"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("oracle://x", "no store goes by"),
        ("", "no store goes by"),
    ],
)
def test_a_url_that_means_no_store_is_refused(url: str, says: str) -> None:
    """At once, with what to use instead."""
    with pytest.raises(StoreError, match=says):
        store_for(url)


def test_memory_is_chosen_by_its_url() -> None:
    """``memory:`` needs no database."""
    assert store_for("memory:").in_memory


def test_a_database_that_another_is_just_creating_is_waited_for(sqlite_url: str, tmp_path: Path) -> None:
    """SQLite itself does not wait where it changes the file's mode and another is writing: it fails at once."""
    first = sqlite3.connect(tmp_path / "journal.db", isolation_level=None, check_same_thread=False)
    first.execute("BEGIN IMMEDIATE")
    first.execute("CREATE TABLE business (id INTEGER)")
    commit = threading.Timer(0.2, first.execute, ["COMMIT"])
    commit.start()
    store = SqliteStore(sqlite_url)
    store.open(migrate=True)
    assert _pragma(store, "journal_mode") == "wal"
    store.close()
    commit.join()
    first.close()


@pytest.mark.usefixtures("other")
def test_a_locked_database_is_unavailable_and_then_works_again(
    sqlite_url: str, other: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every writing method says so; reading goes on."""
    monkeypatch.setattr("sagas.stores.sqlite._BUSY_TIMEOUT", 0.01)
    store = SqliteStore(sqlite_url)
    store.open(migrate=True)
    other.execute("BEGIN EXCLUSIVE")
    for write in (
        lambda: store.commit(start("s")),
        lambda: store.transact([], lambda: start("s")),
        lambda: store.post("s", 1.0, "signal", b"{}"),
        lambda: store.discard([1]),
        lambda: store.renew(Lease("a", "host", 1.0), 0.0),
        lambda: store.release("a"),
    ):
        with pytest.raises(StoreUnavailable, match=r"journal\.db cannot be used now: .*locked"):
            write()
    assert store.get("s") is None
    other.execute("ROLLBACK")
    store.commit(start("s"))
    assert store.load(["s"]) == {"s": [row("s", 0)]}
    store.close()


def test_a_full_database_is_unavailable_and_then_works_again(sqlite: SqliteStore) -> None:
    """Nothing of the batch that did not fit is there."""
    connection = sqlite._writer_connection().connection.driver_connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    large = start("small", "large", data=b"x" * 200_000)
    with pytest.raises(StoreUnavailable, match="full"):
        sqlite.commit(large)
    assert sqlite.load(["small", "large"]) == {}
    connection.execute("PRAGMA max_page_count=1000000")
    sqlite.commit(large)
    assert set(sqlite.load(["small", "large"])) == {"small", "large"}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """And left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look like a header of one\n" * 20)
    before = path.read_bytes()
    store = SqliteStore(f"sqlite:///{path}")
    with pytest.raises(StoreError, match=r"notes\.txt.*not a database"):
        store.open(migrate=True)
    store.close()
    assert path.read_bytes() == before


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    """It is not created: a typo would make a new, empty journal."""
    with pytest.raises(StoreError, match=r"there is no directory .*/nowhere"):
        SqliteStore(f"sqlite:///{tmp_path / 'nowhere' / 'j.db'}").open(migrate=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """With the path."""
    store = SqliteStore(f"sqlite:///{tmp_path}")
    with pytest.raises(StoreError, match="unable to open"):
        store.open(migrate=True)
    store.close()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_directory_that_is_read_only_is_refused(tmp_path: Path) -> None:
    """With the path."""
    tmp_path.chmod(0o500)
    store = SqliteStore(f"sqlite:///{tmp_path / 'j.db'}")
    try:
        with pytest.raises(StoreError, match=r"j\.db"):
            store.open(migrate=True)
    finally:
        tmp_path.chmod(0o700)
        store.close()


def test_a_lock_file_that_cannot_be_written_is_an_error_with_the_url(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a read-only directory with a writable database."""
    monkeypatch.setattr(sqlite, "_lifeline", lambda owner: sqlite._path.parent / "nowhere" / owner)
    with pytest.raises(StoreError, match="cannot write beside the database"):
        sqlite.renew(Lease("a", "host", 1.0), 0.0)


def test_tables_of_a_newer_version_are_refused(sqlite: SqliteStore, other: sqlite3.Connection) -> None:
    """They are left alone, whether migrating is allowed or not."""
    other.execute("UPDATE saga_schema SET version_num = '9999'")
    other.execute("UPDATE saga_migration SET version_num = '9999'")
    for migrate in (True, False):
        store = SqliteStore(sqlite.url)
        with pytest.raises(SchemaMismatch, match="version 9999, which is newer than this library knows"):
            store.open(migrate=migrate)
        store.close()
    assert other.execute("SELECT version_num FROM saga_schema").fetchone() == ("9999",)


def test_tables_that_were_only_added_to_will_do(sqlite: SqliteStore, other: sqlite3.Connection) -> None:
    """So that this release goes on while the next one takes its place, process by process."""
    other.execute("UPDATE saga_migration SET version_num = '9999'")
    for migrate in (True, False):
        store = SqliteStore(sqlite.url)
        store.open(migrate=migrate)
        store.close()
    assert other.execute("SELECT version_num FROM saga_migration").fetchone() == ("9999",)


def test_without_leave_to_migrate_nothing_is_created(sqlite_url: str, tmp_path: Path) -> None:
    """The error names the command that does it."""
    store = SqliteStore(sqlite_url)
    with pytest.raises(SchemaMismatch, match=r"version none, this library needs .*sagas migrate --store sqlite:///"):
        store.open(migrate=False)
    store.close()
    with sqlite3.connect(tmp_path / "journal.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


def test_the_command_that_migrates_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    """Whatever is in the URL."""
    url = f"sqlite:///{tmp_path}/my $HOME;'shop'.db?synchronous=NORMAL"
    store = SqliteStore(url)
    with pytest.raises(SchemaMismatch) as caught:
        store.open(migrate=False)
    *command, pasted = shlex.split(str(caught.value).partition("Run `")[2].removesuffix("`"))
    assert command == ["sagas", "migrate", "--store"]
    migrated = SqliteStore(pasted)
    migrated.open(migrate=True)
    migrated.close()
    store.open(migrate=False)
    store.close()


def test_a_current_database_needs_no_leave_to_migrate(sqlite: SqliteStore) -> None:
    """Deployments may migrate apart from running."""
    store = SqliteStore(sqlite.url)
    store.open(migrate=False)
    store.close()


def test_closing_without_giving_a_lease_back_ends_it_all_the_same(sqlite_url: str, sqlite: SqliteStore) -> None:
    """A coordinator whose database was away at its end does not make others wait for the lease."""
    gone = SqliteStore(sqlite_url)
    gone.open(migrate=True)
    gone.renew(Lease("gone", "host", 1e12), 0.0)
    assert sqlite.alive("gone", 1.0)
    gone.close()
    assert not sqlite.alive("gone", 1.0)


def test_a_lock_file_that_is_missing_proves_nothing(sqlite_url: str, sqlite: SqliteStore) -> None:
    """The database may have been copied from elsewhere: then the lease decides."""
    owner = SqliteStore(sqlite_url)
    owner.open(migrate=True)
    owner.renew(Lease("a", "host", 100.0), 0.0)
    owner._lifeline("a").unlink()
    assert sqlite.alive("a", 99.0)
    assert not sqlite.alive("a", 100.0)
    owner.close()
