"""What a store says of records that were durable once."""

from __future__ import annotations

from sagas.stores.port import Store
from sagas.testing.contracts.stores._batches import append, change, row, start
from sagas.testing.contracts.stores._case import StoreCase

__all__ = ["LostCommitsContract"]


class LostCommitsContract(StoreCase):
    """What a store says of records that were durable once."""

    def test_what_is_there_as_it_was_is_not_lost(self, store: Store) -> None:
        store.commit(start("s", "t"))
        store.commit(append(row("s", 1)))
        assert set(store.lost([("s", 1, row("s", 1).digest), ("t", 0, row("t", 0).digest)])) == set()
        assert set(store.lost([])) == set()

    def test_what_is_gone_or_another_record_is_lost(self, store: Store) -> None:
        store.commit(start("s", "t", "u"))
        store.commit(append(row("t", 1, b"another's")))
        last = [("s", 1, row("s", 1).digest), ("t", 1, row("t", 1).digest), ("u", 0, row("u", 0).digest)]
        assert set(store.lost([*last, ("v", 0, row("v", 0).digest)])) == {"s", "t", "v"}

    def test_of_very_many_records_each_is_looked_after(self, store: Store) -> None:
        ids = [f"s{number}" for number in range(1_200)]
        store.commit(start(*ids))
        last = [(saga_id, 0, row(saga_id, 0).digest) for saga_id in ids]
        assert set(store.lost([*last, ("gone", 0, b"")])) == {"gone"}

    def test_unfinished_is_what_has_something_to_do_or_whose_time_has_come(self, store: Store) -> None:
        store.commit(start("active", "due", "waits", "ended"))
        store.commit(start("another's", owner="b"))
        changes = (
            change("due", active=False, wake_at=5.0),
            change("waits", active=False, wake_at=50.0),
            change("ended", "completed", active=False, ended_at=4.0),
        )
        store.commit(append(*(row(each.id, 1) for each in changes), changes=changes))
        assert set(store.unfinished("a", 10.0)) == {"active", "due"}
