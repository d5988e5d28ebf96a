"""What is written together: not too much, and what cannot be written keeps nobody else from it."""

from __future__ import annotations

import anyio
import pytest

from sagas import gather, saga, step
from sagas.coordinator import journal
from sagas.stores.port import Batch, Committed
from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Gate, Place

_MOST = 10_000
_SAGAS = 12


class Watched(SqliteStore):
    """Notes the batches that it gets."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.batches: list[Batch] = []

    def commit(self, batch: Batch) -> Committed:
        self.batches.append(batch)
        return super().commit(batch)


async def test_a_batch_is_no_larger_than_a_database_takes(on_disk: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over waits for the next commit, in order; what is too large by itself is written alone."""
    monkeypatch.setattr(journal, "_MOST_BYTES", _MOST)
    gate = Gate()

    @step
    async def fetch(size: int) -> str:
        await gate.wait()
        return "x" * size

    @saga
    async def big() -> int:
        return sum(len(text) for text in await gather(fetch(3_000), fetch(3_001), fetch(20_000)))

    store = Watched(f"sqlite:///{on_disk.path}")
    async with on_disk.coordinator(big, store=store) as coordinator:
        handles = [await coordinator.start(big(), id=f"s{number}") for number in range(_SAGAS)]
        await gate.arrival(3 * _SAGAS)
        store.batches.clear()
        gate.open()
        with anyio.fail_after(20):
            assert [await handle.result() for handle in handles] == [26_001] * _SAGAS
    sizes = [[len(row.data) for row in batch.rows] for batch in store.batches]
    assert any(len(rows) > 1 for rows in sizes)
    assert [rows for rows in sizes if len(rows) > 1 and sum(rows) > _MOST] == []
    assert sum(len(rows) == 1 and rows[0] > 20_000 for rows in sizes) == _SAGAS
