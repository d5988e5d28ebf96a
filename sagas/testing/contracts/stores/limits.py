"""What every store does: permits and tokens of limits that hold across processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sagas.stores.port import Holding, Lease, Store
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["LimitContract"]


def _hold(store: Store, owner: str, want: int, *, used: int = 0, slots: int = 4, now: float = 1.0) -> Holding:
    return store.hold_permits("bank", owner, now, slots=slots, used=used, want=want)


def _held(store: Store, owner: str, want: int, *, used: int = 0, slots: int = 4, now: float = 1.0) -> int:
    return _hold(store, owner, want, used=used, slots=slots, now=now).held


class LimitContract(StoreCase):
    """Permits and tokens of limits that hold across processes."""

    @pytest.fixture
    def shared(self, store: Store) -> Store:
        """A store on which some coordinators are alive until 100."""
        for owner in "abcd":
            store.renew(Lease(owner, "host", 100.0), 0.0)
        return store

    def test_no_more_permits_are_held_than_there_are(self, shared: Store) -> None:
        """Whoever comes first."""
        assert _held(shared, "a", 3) == 3
        assert _held(shared, "b", 3) == 1
        assert _held(shared, "c", 3) == 0

    def test_holding_twice_is_the_same_as_once(self, shared: Store) -> None:
        """So that a lost answer loses no permit."""
        for _ in range(3):
            assert _held(shared, "a", 2) == 2
        assert _held(shared, "b", 4) == 2

    def test_what_is_given_back_is_free_for_others(self, connect: OpenStore, shared: Store) -> None:
        """At once, also through another connection."""
        _hold(shared, "a", 4)
        assert _held(connect(), "b", 1) == 0
        assert _held(shared, "a", 1) == 1
        assert _held(connect(), "b", 1) == 1

    def test_what_is_used_is_not_given_back(self, shared: Store) -> None:
        """Whatever is wanted, and whoever waits."""
        _hold(shared, "a", 4)
        assert _held(shared, "b", 4) == 0
        assert _held(shared, "a", 0, used=3) == 3

    def test_limits_of_different_names_have_nothing_to_do_with_each_other(self, shared: Store) -> None:
        """Neither their permits nor their tokens."""
        _hold(shared, "a", 4)
        assert shared.hold_permits("post", "b", 1.0, slots=4, used=0, want=4).held == 4
        assert shared.draw_tokens("bank", 1.0, speed=1.0, burst=2.0, want=2).tokens == 2
        assert shared.draw_tokens("post", 1.0, speed=1.0, burst=2.0, want=2).tokens == 2

    def test_permits_of_the_dead_are_free(self, shared: Store) -> None:
        """When their lease ends, or is given back."""
        _hold(shared, "a", 2)
        _hold(shared, "b", 2)
        assert _held(shared, "c", 4, now=2.0) == 0
        shared.release("a")
        assert _held(shared, "c", 4, now=2.0) == 2
        shared.renew(Lease("c", "host", 200.0), 2.0)
        assert _held(shared, "c", 4, now=101.0) == 4

    def test_whoever_comes_back_after_his_lease_keeps_what_nobody_took(self, shared: Store) -> None:
        """And learns what somebody did."""
        _hold(shared, "a", 2)
        _hold(shared, "b", 2)
        shared.renew(Lease("c", "host", 200.0), 2.0)
        assert _held(shared, "c", 1, now=101.0) == 1
        shared.renew(Lease("a", "host", 200.0), 102.0)
        shared.renew(Lease("b", "host", 200.0), 102.0)
        kept = [shared.keep_permits(owner, 102.0).get("bank", 0) for owner in "ab"]
        assert sorted(kept) == [1, 2]
        assert _held(shared, "c", 4, used=1, now=103.0) == 1

    def test_whoever_has_more_than_his_share_gives_back_what_he_does_not_use(self, shared: Store) -> None:
        """As soon as somebody else waits; and until then, he may have it all."""
        assert _hold(shared, "a", 4) == Holding(4, 4, starving=False)
        assert _hold(shared, "b", 4).held == 0
        assert _hold(shared, "a", 4, used=3) == Holding(3, 2, starving=True)
        assert _hold(shared, "b", 4).held == 1
        assert _hold(shared, "a", 4, used=2) == Holding(2, 2, starving=True)
        assert _hold(shared, "b", 4).held == 2
        assert _hold(shared, "a", 4, used=2) == Holding(2, 2, starving=False)

    def test_who_has_waited_longest_is_first(self, shared: Store) -> None:
        """Whoever asks in between."""
        _hold(shared, "a", 1, slots=1)
        assert _held(shared, "b", 1, slots=1, now=1.0) == 0
        assert _held(shared, "c", 1, slots=1, now=1.5) == 0
        _hold(shared, "a", 0, slots=1, now=2.0)
        assert _held(shared, "a", 1, slots=1, now=2.0) == 0
        assert _held(shared, "c", 1, slots=1, now=2.0) == 0
        assert _held(shared, "b", 1, slots=1, now=2.0) == 1
        _hold(shared, "b", 0, slots=1, now=2.5)
        assert _held(shared, "a", 1, slots=1, now=2.5) == 0
        assert _held(shared, "c", 1, slots=1, now=2.5) == 1

    def test_nobody_waits_for_one_who_fell_silent_or_wants_no_more(self, shared: Store) -> None:
        """A permit is not kept free for long."""
        _hold(shared, "a", 1, slots=1)
        _hold(shared, "b", 1, slots=1, now=1.0)
        _hold(shared, "a", 0, slots=1, now=2.0)
        assert _held(shared, "c", 1, slots=1, now=2.0) == 0
        assert _held(shared, "c", 1, slots=1, now=9.0) == 1
        _hold(shared, "b", 1, slots=1, now=9.0)
        _hold(shared, "b", 0, slots=1, now=9.5)
        _hold(shared, "c", 0, slots=1, now=9.5)
        assert _held(shared, "d", 1, slots=1, now=9.5) == 1

    def test_with_several_numbers_about_the_largest_holds_for_all_together(self, shared: Store) -> None:
        """And each coordinator takes only permits that its own number has."""
        assert _held(shared, "a", 4, slots=4) == 4
        assert _held(shared, "b", 2, slots=2) == 0
        _hold(shared, "a", 0, slots=4, now=2.0)
        assert _held(shared, "b", 9, slots=2, now=2.0) == 2
        assert _held(shared, "a", 4, slots=4, now=2.0) == 2

    def test_a_bucket_is_full_at_first_and_fills_with_time(self, connect: OpenStore) -> None:
        """For all who draw from it together."""
        store, other = connect(), connect()
        assert store.draw_tokens("bank", 1.0, speed=2.0, burst=4.0, want=3).tokens == 3
        assert other.draw_tokens("bank", 1.0, speed=2.0, burst=4.0, want=3) == (1, 0.5)
        assert store.draw_tokens("bank", 1.25, speed=2.0, burst=4.0, want=1) == (0, 0.25)
        assert other.draw_tokens("bank", 1.5, speed=2.0, burst=4.0, want=9).tokens == 1
        assert store.draw_tokens("bank", 99.0, speed=2.0, burst=4.0, want=9).tokens == 4

    def test_tokens_are_drawn_ahead_as_long_as_the_bucket_stays_half_full(self, shared: Store) -> None:
        """So that whoever needs one finds one."""
        draws = [shared.draw_tokens("bank", 1.0, speed=1.0, burst=8.0, want=1, ahead=2).tokens for _ in range(5)]
        assert draws == [3, 1, 1, 1, 1]
        assert shared.draw_tokens("bank", 1.0, speed=1.0, burst=8.0, want=9, ahead=9).tokens == 1

    def test_who_was_killed_while_he_waited_is_forgotten(self, connect: OpenStore, shared: Store) -> None:
        """Else the table would grow with every restart."""
        _hold(shared, "a", 1, slots=1)
        for number in range(10):
            assert _held(shared, f"dead{number}", 1, slots=1, now=2.0) == 0
        assert _held(shared, "b", 1, slots=1, now=90.0) == 0
        assert self.waiting(connect()) in {1, None}

    def test_permits_and_tokens_survive_the_store_being_opened_again(self, connect: OpenStore, shared: Store) -> None:
        """A restart of one process gives nobody more."""
        _hold(shared, "a", 3)
        shared.draw_tokens("bank", 1.0, speed=0.001, burst=2.0, want=2)
        again = connect()
        assert _held(again, "b", 4) == 1
        assert again.draw_tokens("bank", 1.0, speed=0.001, burst=2.0, want=1).tokens == 0

    def test_side_by_side_no_permit_has_two_holders(self, connect: OpenStore) -> None:
        """However much they are passed around, by threads with connections of their own."""
        owners, slots = [f"o{number}" for number in range(4)], 3
        stores = {owner: connect() for owner in owners}
        lock, held, most = threading.Lock(), 0, 0
        for owner, store in stores.items():
            store.renew(Lease(owner, "host", 100.0), 0.0)

        def note(change: int) -> None:
            nonlocal held, most
            with lock:
                held += change
                most = max(most, held)

        def pass_around(owner: str) -> int:
            got = 0
            for turn in range(25):
                mine = _held(stores[owner], owner, 1 + turn % 3, slots=slots)
                note(mine)
                got += mine
                note(-mine)
                assert _held(stores[owner], owner, 0, slots=slots) == 0
            return got

        with ThreadPoolExecutor(len(owners)) as pool:
            assert sum(pool.map(pass_around, owners)) > 0
        assert most <= slots
        assert _held(stores["o0"], "o0", slots, slots=slots, now=9.0) == slots
