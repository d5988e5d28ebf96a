"""The release before this one, on tables that this one has migrated: while a fleet is replaced, both are at work."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import create_engine

import sagas
from sagas.coordinator.loading import read_history
from sagas.core import events as e
from sagas.stores import schema, store_for
from sagas.stores.sqlite import SqliteStore

_RELEASES = Path(__file__).parent / "releases"
_PREVIOUS = "sagakit-0.1.0.zip"
_DIED = 9
_LONGEST = 60.0
_COMPLETED = "completed ['bed', 'seat', 'first', 'second']"
# Once each, whoever asked how often: the spare bed is undone at once, the rest only in the end.
_BOOKED = ["book bed", "book meal", "book seat", "book spare", "book taxi", "unbook spare"]
_UNDONE = sorted([*_BOOKED, "unbook bed", "unbook meal", "unbook seat", "unbook taxi"])

Leg = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the code of each release is."""
    old = tmp_path_factory.mktemp("previous")
    with zipfile.ZipFile(_RELEASES / _PREVIOUS) as archive:
        archive.extractall(old)
    return {"old": old, "new": Path(sagas.__file__).parents[1]}


@pytest.fixture
def migrated(tmp_path: Path) -> Path:
    """A journal that the code at hand has made."""
    path = tmp_path / "journal.db"
    store = SqliteStore(f"sqlite:///{path}")
    store.open(migrate=True)
    store.close()
    return path


@pytest.fixture
def leg(releases: dict[str, Path], tmp_path: Path) -> Leg:
    """Starts a leg of journeys under one of the releases; returns when it is at work."""

    def start(release: str, name: str, *numbers: int) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(_RELEASES / "leg.py"), str(tmp_path), name, *map(str, numbers)],
            env={**os.environ, "PYTHONPATH": str(releases[release])}, cwd=tmp_path,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        found = process.stdout.readline().strip()
        if not Path(found).is_relative_to(releases[release]):
            process.kill()
            raise AssertionError(f"{release} is {found}: {process.communicate()[1]}")
        return process

    return start


def _ends(process: subprocess.Popen[str], *, died: bool = False) -> dict[int, str]:
    """Waits for a leg's end, and gives how the journeys stand."""
    try:
        out, err = process.communicate(timeout=_LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == (_DIED if died else 0), err
    return {int(number): told for number, _, told in (line.partition(" ") for line in out.splitlines())}


def _tables(directory: Path) -> set[str]:
    """Reads which versions the tables say they are of."""
    engine = create_engine(f"sqlite:///{directory / 'journal.db'}")
    with engine.connect() as connection:
        found = {schema._version(connection, table) for table in (schema.VERSION_TABLE, schema.MIGRATION_TABLE)}
    engine.dispose()
    return {version for version in found if version is not None}


def _done(directory: Path, number: int) -> list[str]:
    """Lists what a journey did, once for each key."""
    return sorted(path.name.split(".")[1] for path in directory.glob(f"{number}.*"))


def _audit(directory: Path, numbers: Sequence[int], *, takeovers: int | None = None) -> None:
    """Holds journals and effects to the laws."""
    with sqlite3.connect(directory / "journal.db") as connection:
        rows = dict(connection.execute("SELECT id, status FROM saga"))
    connection.close()
    store = store_for(f"sqlite:///{directory / 'journal.db'}")
    store.open(migrate=False)
    journals = store.load(list(rows))
    store.close()
    for number in numbers:
        name = f"journey-{number}"
        assert rows.pop(name) == ("compensated" if number % 2 else "completed")
        assert _done(directory, number) == (_UNDONE if number % 2 else _BOOKED)
        events = [record.event for record in read_history(name, journals[name], None).records]
        if takeovers is not None:
            assert sum(isinstance(event, e.SagaTakenOver) for event in events) == takeovers
    assert not rows


@pytest.mark.parametrize("relay", [("old", "new", "old"), ("new", "old", "new")], ids="-".join)
@pytest.mark.usefixtures("migrated")
def test_each_release_goes_on_with_what_the_other_has_left(relay: Sequence[str], leg: Leg, tmp_path: Path) -> None:
    """Forward and back, from wherever it was left: waiting, with steps done, undone, retried and asleep behind it."""
    assert _ends(leg(relay[0], "start", 0, 1)) == {0: "waits", 1: "waits"}
    assert _ends(leg(relay[1], "first", 0, 1)) == {0: "waits", 1: "waits"}
    assert _ends(leg(relay[2], "second", 0, 1)) == {0: _COMPLETED, 1: "compensated"}
    _audit(tmp_path, [0, 1], takeovers=2)


@pytest.mark.parametrize("relay", [("old", "new", "old", "new"), ("new", "old", "new", "old")], ids="-".join)
@pytest.mark.usefixtures("migrated")
def test_each_release_finishes_what_the_other_was_killed_in(relay: Sequence[str], leg: Leg, tmp_path: Path) -> None:
    """In two of three steps side by side, in a scope that is being undone, in a retried step, in the rollback."""
    deaths = ("book-seat", "unbook-spare", "unbook-meal")
    for name, release, death in zip(("start", "start", "second"), relay, deaths, strict=False):
        if name == "second":
            assert _ends(leg(release, "first", 1)) == {1: "waits"}
        (tmp_path / f"die-1-{death}").touch()
        _ends(leg(release, name, 1), died=True)
    assert _ends(leg(relay[3], "second", 1)) == {1: "compensated"}
    _audit(tmp_path, [1])


def test_both_releases_work_side_by_side_on_one_journal(leg: Leg, tmp_path: Path) -> None:
    """This one migrates it under the other's hands; each has sagas of its own, and asks things of the other's."""
    old = leg("old", "share", 0, 1)
    assert _tables(tmp_path) == {"0001"}
    new = leg("new", "share", 2, 3)
    assert _tables(tmp_path) == {"0001", schema.HEAD}
    ends = {0: f"{_COMPLETED}, {_COMPLETED}", 1: "compensated, compensated"}
    assert _ends(old) == ends
    assert _ends(new) == {number + 2: told for number, told in ends.items()}
    _audit(tmp_path, range(4), takeovers=0)
