"""Each test of the coordinator runs on each store, under each event loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Place


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty journal; copied, since migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("template") / "journal.db"
    store = SqliteStore(f"sqlite:///{path}")
    store.open(migrate=True)
    store.close()
    return path.read_bytes()


@pytest.fixture
def on_disk(tmp_path: Path, _template: bytes) -> Place:
    """A journal in a file."""
    path = tmp_path / "journal.db"
    path.write_bytes(_template)
    return Place(path)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """A journal, in memory, in a file and on a server."""
    if request.param == "memory":
        return Place(None)
    if request.param == "postgres":
        return Place(None, request.getfixturevalue("postgres_url"))
    found: Place = request.getfixturevalue("on_disk")
    return found
