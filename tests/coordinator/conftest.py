"""Each test of the coordinator runs on each store, under each event loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Place


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Runs uvloop and trio on one store only, where a store is a parameter, and asyncio on all.

    What uvloop replaces is below asyncio, not below us; and stores are called in threads, whichever loop waits for
    them. ``SAGAS_TEST_EVERYTHING=1`` runs all on all.
    """
    if os.environ.get("SAGAS_TEST_EVERYTHING"):
        return
    spared = [item for item in items if _tells_nothing_new(item)]
    if spared:
        config.hook.pytest_deselected(items=spared)
        items[:] = [item for item in items if not _tells_nothing_new(item)]


def _tells_nothing_new(item: pytest.Item) -> bool:
    """Says whether a test runs on that store by another loop, and by this loop on another store."""
    call: Any = getattr(item, "callspec", None)
    if call is None or call.params.get("place") not in ("memory", "postgres"):
        return False
    return call.params.get("anyio_backend") in (("asyncio", {"use_uvloop": True}), ("trio", {}))


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
