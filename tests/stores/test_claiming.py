"""Looking for sagas of the dead takes several reads, and others come in between."""

from __future__ import annotations

import pytest

from sagas.stores.port import Batch, Lease
from sagas.stores.sql import SqlStore
from sagas.testing.contracts import OpenStore
from sagas.testing.contracts.stores._batches import change, start


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def connect(request: pytest.FixtureRequest) -> OpenStore:
    """In memory, nothing comes between."""
    found: OpenStore = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("waits", [False, True])
def test_whoever_comes_while_another_looks_for_the_dead_is_alive(
    connect: OpenStore, monkeypatch: pytest.MonkeyPatch, *, waits: bool
) -> None:
    """Its lease is not among those that were read, its saga is among those that are."""
    store, other = connect(), connect()
    assert isinstance(store, SqlStore)
    live = store._live  # noqa: SLF001 - the moment between two reads is the point
    came: list[float] = []

    def live_then_one_more(now: float) -> list[str]:
        found = live(now)
        if not came:
            came.append(now)
            other.renew(Lease("new", "host", 100.0), 0.0)
            other.commit(start("s", owner="new"))
            if waits:
                other.commit(Batch(changes={"s": change("s", owner="new", active=False, wake_at=0.5)}))
        return found

    monkeypatch.setattr(store, "_live", live_then_one_more)
    assert store.claim("me", 1.0, 10, ["order@1"]) == []
    assert came
