"""How long a signal takes to move a saga on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.postgres.server import connect
from sagas.coordinator.orders import encode_order
from sagas.stores.postgres import PostgresStore

if TYPE_CHECKING:
    import psycopg

_BODY = encode_order(name="approval", payload=b'{"approved":true}')
_LOOK_SECONDS = 0.001
_PATIENCE_SECONDS = 10.0


class Unanswered(Exception):
    """A saga did not move on."""


def signal_latencies(url: str, ids: Sequence[str]) -> list[float]:
    """Signals sagas, one after the other, from this process, and looks in the database until each has ended.

    Returns:
        Seconds from before the signal is posted until its saga's end is durable, in ascending order.

    Raises:
        Unanswered: A saga did not end within ten seconds.
    """
    store = PostgresStore(url)
    store.open(migrate=False)
    try:
        with connect(url) as connection:
            return sorted(_latency(store, connection, saga_id) for saga_id in ids)
    finally:
        store.close()


def _latency(store: PostgresStore, connection: psycopg.Connection, saga_id: str) -> float:
    begun = now = time.perf_counter()
    store.post(saga_id, time.time(), "signal", _BODY)
    while not _ended(connection, saga_id):
        if now > begun + _PATIENCE_SECONDS:
            raise Unanswered(f"saga {saga_id} did not take its signal within {_PATIENCE_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)
        now = time.perf_counter()
    return time.perf_counter() - begun


def _ended(connection: psycopg.Connection, saga_id: str) -> bool:
    row = connection.execute("SELECT ended_at IS NOT NULL FROM saga WHERE id = %s", (saga_id,), prepare=True).fetchone()
    return row is not None and bool(row[0])
