"""What every store does: notes up to where schedules have been started."""

from __future__ import annotations

import threading

from sagas.stores.keeping import ScheduleRow
from sagas.stores.port import Store
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["ScheduleContract"]

ROW = ScheduleRow("nightly", "every 5 s", 100.25)


class ScheduleContract(StoreCase):
    """Up to where schedules have been started."""

    def test_a_schedule_is_added_once(self, connect: OpenStore) -> None:
        """Whoever is second learns of the first."""
        store = connect()
        assert not store.schedules()
        assert store.add_schedule(ROW)
        assert not connect().add_schedule(ROW._replace(spec="another"))
        assert connect().schedules() == [ROW]
        assert connect().schedules("nightly") == [ROW]
        assert not store.schedules("hourly")

    def test_schedules_are_listed_by_name(self, store: Store) -> None:
        for name in ("b", "c", "a"):
            store.add_schedule(ROW._replace(name=name))
        assert [row.name for row in store.schedules()] == ["a", "b", "c"]

    def test_it_moves_only_from_where_it_was_seen(self, connect: OpenStore) -> None:
        """To the last bit of the time; and an added one is there for every store."""
        store, other = connect(), connect()
        seen = ROW._replace(due_at=1_795_435_789.123457)
        store.add_schedule(seen)
        assert other.move_schedule(seen, "every 5 s", 1_795_435_794.123457)
        assert not store.move_schedule(seen, "every 5 s", 1_795_435_799.123457)
        now = seen._replace(due_at=1_795_435_794.123457)
        assert not store.move_schedule(now._replace(spec="another"), "third", 0.0)
        assert store.move_schedule(now, "another", now.due_at)
        assert store.schedules() == [now._replace(spec="another")]
        assert not store.move_schedule(ROW._replace(name="unknown"), "x", 1.0)

    def test_it_moves_on_while_it_is_paused_and_stays_paused(self, store: Store) -> None:
        """What was started before the pause is noted all the same."""
        store.add_schedule(ROW)
        assert store.pause_schedule("nightly", 0.0, paused=True)
        assert store.move_schedule(ROW, ROW.spec, 200.0)
        assert store.schedules() == [ROW._replace(due_at=200.0, paused=True)]

    def test_resuming_deals_with_what_came_due_meanwhile(self, store: Store) -> None:
        """Only if it was paused, and only with what is past."""
        store.add_schedule(ROW)
        assert store.pause_schedule("nightly", 500.0, paused=False)
        assert store.schedules() == [ROW]
        store.pause_schedule("nightly", 0.0, paused=True)
        store.pause_schedule("nightly", 500.0, paused=True)
        assert store.schedules() == [ROW._replace(paused=True)]
        store.pause_schedule("nightly", 500.0, paused=False)
        assert store.schedules() == [ROW._replace(due_at=500.0)]
        store.pause_schedule("nightly", 0.0, paused=True)
        store.pause_schedule("nightly", 400.0, paused=False)
        assert store.schedules() == [ROW._replace(due_at=500.0)]
        assert not store.pause_schedule("unknown", 0.0, paused=True)

    def test_a_removed_schedule_is_unknown(self, connect: OpenStore) -> None:
        store = connect()
        store.add_schedule(ROW)
        assert connect().remove_schedule("nightly")
        assert not store.remove_schedule("nightly")
        assert not store.schedules()
        assert store.add_schedule(ROW)

    def test_the_time_is_the_callers_where_tests_say_so(self, store: Store) -> None:
        assert store.time(123.456) == 123.456, "`connect` has to open stores that go by the time that they are given"

    def test_of_many_that_move_it_at_once_exactly_one_succeeds(self, connect: OpenStore) -> None:
        """The compare and the set are one."""
        stores = [connect() for _ in range(4)]
        stores[0].add_schedule(ROW)
        ready = threading.Barrier(4)
        moved: list[bool] = []

        def race(store: Store) -> None:
            for number in range(20):
                ready.wait()
                seen = ROW._replace(due_at=ROW.due_at + number)
                moved.append(store.move_schedule(seen, ROW.spec, seen.due_at + 1))

        workers = [threading.Thread(target=race, args=(store,)) for store in stores]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert moved.count(True) == 20
        assert stores[0].schedules() == [ROW._replace(due_at=ROW.due_at + 20)]
