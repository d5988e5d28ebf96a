"""What every store does: keeps the events that sagas emit until they are sent."""

from __future__ import annotations

import pytest

from sagas.stores.port import Batch, Outgoing, Store
from sagas.testing.contracts.stores._batches import append, row, start
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["OutboxContract"]


def event(saga_id: str, seq: int, number: int = 1, data: bytes = b'{"item":"lamp"}') -> Outgoing:
    """An event that a record emits."""
    return Outgoing(
        f"{saga_id}.ab:{seq}:{number}", saga_id, seq, float(seq), "/sagas/order", "order.placed", "", "", data
    )


def emitting(saga_id: str, seq: int, *events: Outgoing) -> Batch:
    """A record that emits events."""
    batch = start(saga_id) if seq == 0 else Batch(rows=[row(saga_id, seq)])
    batch.outgoing.extend(events or [event(saga_id, seq)])
    return batch


class OutboxContract(StoreCase):
    """Events that are to be sent."""

    def test_events_are_written_with_their_records_and_read_in_order(self, connect: OpenStore) -> None:
        """By whoever reads them, to the last byte."""
        store = connect()
        odd = event("s", 0, 2, bytes(range(256)))._replace(subject="Ä \u2603", trace="00-1-2-01")
        store.commit(emitting("s", 0, event("s", 0), odd))
        store.commit(emitting("s", 1))
        assert [one for _, one in connect().outgoing(10)] == [event("s", 0), odd, event("s", 1)]
        assert [one for _, one in connect().outgoing(2)] == [event("s", 0), odd]
        (last, _) = connect().outgoing(2)[-1]
        assert [one for _, one in connect().outgoing(2, after=last)] == [event("s", 1)]

    def test_what_is_sent_is_forgotten_and_nothing_else_is(self, store: Store) -> None:
        """Also by whoever says so twice."""
        store.commit(emitting("s", 0, *(event("s", 0, number) for number in range(3))))
        (first, _), _, (third, _) = store.outgoing(10)
        for _ in range(2):
            store.sent([first, third])
        assert [one for _, one in store.outgoing(10)] == [event("s", 0, 1)]
        store.commit(emitting("s", 1))
        numbers = [number for number, _ in store.outgoing(10)]
        assert len(numbers) == 2
        assert not {first, third} & set(numbers), "a number names one event for ever"

    def test_a_record_that_is_appended_twice_emits_once(self, store: Store) -> None:
        """As after a commit that nobody heard of."""
        for _ in range(2):
            store.commit(emitting("s", 0))
            store.commit(emitting("s", 1))
        assert [one for _, one in store.outgoing(10)] == [event("s", 0), event("s", 1)]

    def test_a_saga_that_is_fenced_or_taken_emits_nothing(self, store: Store) -> None:
        """Others in the same batch do."""
        store.commit(start("fenced"))
        store.commit(append(row("fenced", 1)))
        other = row("fenced", 1)._replace(digest=b"x" * 16)
        batch = Batch(rows=[other], outgoing=[event("fenced", 1), event("free", 0)])
        more = start("free")
        batch.new, batch.rows = more.new, [*batch.rows, *more.rows]
        assert store.commit(batch).fenced == {"fenced"}
        taken = start("free")
        taken.rows = [taken.rows[0]._replace(digest=b"y" * 16)]
        taken.outgoing.append(event("free", 0, 2))
        assert store.commit(taken).taken == {"free"}
        assert [one for _, one in store.outgoing(10)] == [event("free", 0)]

    @pytest.mark.parametrize("count", [0, 1, 700])
    def test_any_number_of_events_goes_into_a_batch(self, store: Store, count: int) -> None:
        """In order."""
        events = [event("s", 0, number) for number in range(count)]
        batch = start("s")
        batch.outgoing.extend(events)
        store.commit(batch)
        assert [one for _, one in store.outgoing(1_000)] == events
        store.sent([number for number, _ in store.outgoing(1_000)])
        assert list(store.outgoing(10)) == []
