"""What is written together: not too much, and what cannot be written keeps nobody else from it."""

from __future__ import annotations

import anyio
import pytest

from sagas import SagaStuck, StoreError, gather, receive, saga, step
from sagas.coordinator import journal
from sagas.stores.port import Batch, Committed
from sagas.stores.sqlite import SqliteStore
from tests.coordinator.places import Gate, Place, until

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


class Picky(SqliteStore):
    """Cannot write what some steps gave, as a driver that finds no bytes for a text."""

    picky = True

    def commit(self, batch: Batch) -> Committed:
        if self.picky and any(b"unwritable" in row.data for row in batch.rows):
            raise UnicodeEncodeError("latin-1", "\u20ac", 0, 1, "ordinal not in range")
        return super().commit(batch)


async def test_a_record_that_cannot_be_written_stops_its_own_saga_and_no_other(on_disk: Place) -> None:
    """It is parked where its journal ends, and goes on from there when an operator says so."""
    gate = Gate()

    @step
    async def say(number: int) -> str:
        await gate.wait()
        return "unwritable" if number in {1, 4} else "fine"

    @saga
    async def talk(number: int) -> str:
        return await say(number)

    store = Picky(f"sqlite:///{on_disk.path}")
    async with on_disk.coordinator(talk, store=store) as coordinator:
        handles = [await coordinator.start(talk(number), id=f"s{number}") for number in range(6)]
        await gate.arrival(6)
        gate.open()
        with anyio.fail_after(20):
            for number in (0, 2, 3, 5):
                assert await handles[number].result() == "fine"
            for number in (1, 4):
                with pytest.raises(SagaStuck, match="ordinal not in range"):
                    await handles[number].result()
        assert gate.arrived == 6
        store.picky = False
        for number in (1, 4):
            await coordinator.resume(f"s{number}")

            async def ended(saga_id: str = f"s{number}") -> bool:
                return (await coordinator.get(saga_id)).status == "completed"

            await until(ended)
    assert gate.arrived == 8


async def test_whoever_asks_for_what_cannot_be_written_is_told(on_disk: Place) -> None:
    """Start or signal; the saga's id is free again, and others go on."""

    @saga
    async def listen(what: str) -> str:
        return what + await receive("more", str)

    store = Picky(f"sqlite:///{on_disk.path}")
    async with on_disk.coordinator(listen, store=store) as coordinator:
        with pytest.raises(StoreError, match="a record of saga s cannot be written"):
            await coordinator.start(listen("unwritable"), id="s")
        handle = await coordinator.start(listen("fine "), id="s")
        other = await coordinator.start(listen("fine "), id="t")
        with anyio.fail_after(20):
            with pytest.raises(StoreError, match="a record of saga s cannot be written"):
                await coordinator.signal("s", "more", "unwritable")
            await coordinator.signal("t", "more", "too")
            assert await other.result() == "fine too"
            with pytest.raises(SagaStuck):
                await handle.result()


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
