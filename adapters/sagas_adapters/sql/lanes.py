"""Which connections share a lane: all on one store, and all that name a database by the same URL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from sagas.errors import TransportError
from sagas.stores.opening import store_for
from sagas.stores.postgres import PostgresStore
from sagas.stores.sql import SqlStore
from sagas.stores.sqlite import SqliteStore
from sagas_adapters.sql.lane import Lane
from sagas_adapters.sql.watching import PostgresWatch, SqliteWatch, Watch

__all__ = ["Clock", "join", "leave", "wall_clock"]

Clock = Callable[[], float]
wall_clock: Clock = time.time


@dataclass(eq=False, slots=True)
class _Shared:
    """A lane, by how many connections it is used, and on which file."""

    lane: Lane
    users: int
    path: Path | None


_guard = threading.Lock()
_lanes: dict[object, _Shared] = {}


def join(database: str | SqlStore, clock: Clock | None) -> tuple[object, Lane]:
    """Gives a lane and what it is kept under, made if need be."""
    key = (database if isinstance(database, str) else id(database), clock)
    with _guard:
        shared = _lanes.get(key)
        if shared is None:
            shared = _lanes[key] = _make(database, clock)
        shared.users += 1
        return key, shared.lane


def leave(key: object) -> Lane | None:
    """Lets go of a lane; gives it if it has no user any more, to be stopped."""
    with _guard:
        shared = _lanes[key]
        shared.users -= 1
        if shared.users:
            return None
        del _lanes[key]
        return shared.lane


def _make(database: str | SqlStore, clock: Clock | None) -> _Shared:
    """Makes a lane."""
    store = store_for(database) if isinstance(database, str) else database
    if not isinstance(store, SqlStore):
        raise TransportError(f"{database!r} is no SQL database; give 'sqlite:///orders.db' or 'postgresql+psycopg://…'")
    lanes: list[Lane] = []
    path = store.path if isinstance(store, SqliteStore) else None
    watch: Watch
    if isinstance(store, PostgresStore):
        watch = PostgresWatch(store, lambda queues: lanes[0].wake(queues))  # noqa: PLW0108 - made below
    else:
        assert isinstance(store, SqliteStore), store
        watch = SqliteWatch(store.path, lambda queues: _wake_others(lanes[0], store.path, queues))
        clock = clock or wall_clock
    ends = store.close if isinstance(database, str) else _do_nothing
    lanes.append(Lane(store, watch, clock=clock, begin=lambda: store.open(migrate=True), end=ends))
    return _Shared(lanes[0], 0, path)


def _wake_others(lane: Lane, path: Path, queues: Collection[str]) -> None:
    """Wakes those who wait on other connections to the same file."""
    with _guard:
        others = [shared.lane for shared in _lanes.values() if shared.path == path and shared.lane is not lane]
    for other in others:
        other.wake(queues)


def _do_nothing() -> None:
    """Leaves a store to whoever made it."""
