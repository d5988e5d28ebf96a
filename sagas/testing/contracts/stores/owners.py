"""What every store does: who drives a saga, and what others want from it."""

from __future__ import annotations

from sagas.stores.port import Batch, Lease, Store
from sagas.testing.contracts.stores._batches import append, change, row, start
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["OwnerContract"]


def _ids(store: Store, owner: str, now: float, limit: int = 10) -> list[str]:
    return [found.id for found in store.claim(owner, now, limit, ["order@1"])]


class OwnerContract(StoreCase):
    """Who drives a saga, and what others want from it."""

    def test_a_lease_holds_until_it_expires(self, store: Store) -> None:
        """To the moment."""
        assert not store.alive("a", 0.0)
        store.renew(Lease("a", "host", 10.0), 0.0)
        assert store.alive("a", 9.9)
        assert not store.alive("a", 10.0)

    def test_a_lease_is_extended_by_renewing_it(self, store: Store) -> None:
        """However often."""
        for expires_at in (10.0, 20.0, 30.0):
            store.renew(Lease("a", "host", expires_at), 0.0)
        assert store.alive("a", 29.9)

    def test_a_lease_given_back_is_over_at_once(self, connect: OpenStore) -> None:
        """For everybody; and giving it back twice does no harm."""
        store = connect()
        store.renew(Lease("a", "host", 10.0), 0.0)
        assert connect().alive("a", 1.0)
        store.release("a")
        store.release("a")
        assert not connect().alive("a", 1.0)

    def test_leases_of_the_living_are_listed_with_their_code(self, connect: OpenStore) -> None:
        """Those that are over, or were given back, are not."""
        store = connect()
        living = [Lease("a", "host a", 10.0, ("order@1", "refund@2")), Lease("b", "host b", 20.0)]
        for lease in (*living, Lease("c", "host c", 5.0), Lease("d", "host d", 20.0)):
            store.renew(lease, 0.0)
        store.release("d")
        assert sorted(connect().leases(7.0)) == living
        assert [lease.id for lease in store.leases(10.0)] == ["b"]

    def test_what_one_has_claimed_is_kept_from_others_for_a_while(self, connect: OpenStore) -> None:
        """So that many share the work; but not for long, and not for one who dies."""
        store, other = connect(), connect()
        for owner in ("a", "b"):
            store.renew(Lease(owner, "host", 100.0), 0.0)
        store.commit(start("s", "t", "u", owner="dead"))
        assert _ids(store, "a", 1.0, limit=2) == ["s", "t"]
        assert _ids(other, "b", 1.5) == ["u"]
        assert sorted(_ids(other, "b", 60.0)) == ["s", "t", "u"]
        assert _ids(store, "a", 60.5) == []
        store.release("b")
        assert sorted(_ids(store, "a", 61.0)) == ["s", "t", "u"]

    def test_what_is_handed_over_is_claimable_at_once(self, connect: OpenStore) -> None:
        """Though its owner is alive; but only what is its own, is named, and has not ended."""
        store, other = connect(), connect()
        for owner in ("a", "b"):
            store.renew(Lease(owner, "host", 100.0), 0.0)
        store.commit(start("given", "kept", "ended", owner="a"))
        store.commit(start("theirs", owner="b"))
        ended = change("ended", "completed", active=False, ended_at=1.0)
        store.commit(append(row("ended", 1), changes=(ended,)))
        assert _ids(other, "c", 1.0) == []
        store.hand_over("a", ["given", "theirs", "ended", "nobody"])
        store.hand_over("a", [])
        assert _ids(other, "c", 1.0) == ["given"]
        found = store.find(["kept", "ended", "theirs"])
        assert {saga_id: row.owner for saga_id, row in found.items()} == {"kept": "a", "ended": "a", "theirs": "b"}

    def test_active_sagas_of_the_dead_are_claimable(self, store: Store) -> None:
        """Those of the living, one's own and ended ones are not."""
        store.commit(start("mine", owner="me"))
        store.commit(start("theirs", owner="alive"))
        store.commit(start("orphan", owner="dead"))
        store.commit(start("ended", owner="dead"))
        store.commit(
            append(row("ended", 1), changes=(change("ended", "completed", active=False, ended_at=1.0, owner="dead"),))
        )
        store.renew(Lease("alive", "host", 10.0), 0.0)
        assert _ids(store, "me", 4.0) == ["orphan"]
        assert _ids(store, "me", 10.0) == ["theirs", "orphan"]

    def test_orphans_are_counted_by_name_and_version(self, store: Store) -> None:
        """What anybody could claim: active sagas of the dead, and due timers; whoever has claimed them by now."""
        assert store.orphans(4.0) == []
        store.commit(start("living", owner="alive"))
        store.commit(start("one", "two", "timer", "later", "ended", "signal", owner="dead"))
        store.commit(start("refund", owner="", name="refund"))
        store.commit(
            append(
                row("timer", 1), row("later", 1), row("ended", 1), row("signal", 1),
                changes=(
                    change("timer", active=False, wake_at=4.0, owner="dead"),
                    change("later", active=False, wake_at=50.0, owner="dead"),
                    change("ended", "completed", active=False, ended_at=1.0, owner="dead"),
                    change("signal", active=False, owner="dead"),
                ),
            )
        )  # fmt: skip
        store.renew(Lease("alive", "host", 10.0), 0.0)
        assert sorted(store.orphans(4.0)) == [("order", "1", 3), ("refund", "1", 1)]
        assert _ids(store, "me", 4.0) == ["one", "two", "timer"]
        assert sorted(store.orphans(4.0)) == [("order", "1", 3), ("refund", "1", 1)]
        assert sorted(store.orphans(10.0)) == [("order", "1", 4), ("refund", "1", 1)]
        assert sorted(store.orphans(50.0)) == [("order", "1", 5), ("refund", "1", 1)]

    def test_a_saga_that_waits_is_claimable_when_its_timer_is_due(self, store: Store) -> None:
        """Not before; and one that waits for ever, never."""
        store.commit(start("timer", "signal", "stuck", owner="dead"))
        store.commit(
            append(
                row("timer", 1), row("signal", 1), row("stuck", 1),
                changes=(
                    change("timer", active=False, wake_at=50.0, owner="dead"),
                    change("signal", active=False, owner="dead"),
                    change("stuck", "stuck", active=False, owner="dead"),
                ),
            )
        )  # fmt: skip
        assert _ids(store, "me", 49.9) == []
        assert _ids(store, "me", 50.0) == ["timer"]

    def test_what_is_claimable_comes_oldest_first_and_limited(self, store: Store) -> None:
        """So that nobody waits for ever."""
        for number in range(5):
            store.commit(start(f"s{number}", owner="dead"))
        assert _ids(store, "me", 1.0, limit=3) == ["s0", "s1", "s2"]

    def test_the_next_timer_is_the_earliest_of_sagas_that_wait(self, store: Store) -> None:
        """Active and ended ones do not count."""
        assert store.next_wake() is None
        store.commit(start("a", "b", "c", "d"))
        store.commit(
            append(
                row("a", 1), row("b", 1), row("c", 1), row("d", 1),
                changes=(
                    change("a", active=False, wake_at=70.0),
                    change("b", active=False, wake_at=60.0),
                    change("c", active=True),
                    change("d", "completed", active=False, ended_at=1.0),
                ),
            )
        )  # fmt: skip
        assert store.next_wake() == 60.0

    def test_mail_is_read_in_order_and_stays_until_it_is_taken_into_account(self, connect: OpenStore) -> None:
        """Reading it twice gives it twice; a batch that read it removes it."""
        store = connect()
        store.commit(start("s"))
        first = connect().post("s", 1.0, "signal", b'{"name": "x"}')
        second = connect().post("s", 2.0, "cancel", b"{}")
        assert first < second
        for _ in range(2):
            assert [(mail.id, mail.kind, mail.body) for mail in store.mail("a", 3.0, 10)] == [
                (first, "signal", b'{"name": "x"}'),
                (second, "cancel", b"{}"),
            ]
        assert [mail.id for mail in store.mail("a", 3.0, 1)] == [first]
        batch = append(row("s", 1))
        batch.read.append(first)
        store.commit(batch)
        assert [mail.id for mail in store.mail("a", 3.0, 10)] == [second]

    def test_ids_of_mail_are_never_given_twice(self, connect: OpenStore) -> None:
        """Whoever is late to discard what others have dealt with discards nothing newer."""
        store, late = connect(), connect()
        store.commit(start("s"))
        first = store.post("s", 1.0, "signal", b"{}")
        store.discard([first])
        second = store.post("s", 2.0, "signal", b"{}")
        late.discard([first])
        batch = append(row("s", 1))
        batch.read.append(first)
        late.commit(batch)
        assert first < second
        assert [mail.id for mail in store.mail("a", 3.0, 10)] == [second]

    def test_mail_is_for_the_owner_while_it_lives_and_for_anybody_afterwards(self, store: Store) -> None:
        """Mail for nobody's saga comes to everybody, who discards it."""
        store.commit(start("s", owner="a"))
        store.renew(Lease("a", "host", 10.0), 0.0)
        mine = store.post("s", 1.0, "signal", b"{}")
        lost = store.post("nobody", 1.0, "signal", b"{}")
        assert [mail.id for mail in store.mail("a", 5.0, 10)] == [mine, lost]
        assert [mail.id for mail in store.mail("b", 5.0, 10)] == [lost]
        assert [mail.id for mail in store.mail("b", 10.0, 10)] == [mine, lost]
        store.discard([lost])
        store.discard([lost])
        assert [mail.id for mail in store.mail("a", 5.0, 10)] == [mine]

    def test_mail_is_read_by_whoever_has_the_code_of_its_saga(self, store: Store) -> None:
        """What is stuck, has ended or is not there needs no code."""
        store.commit(start("mine", "stuck", "ended", owner="dead"))
        store.commit(start("theirs", owner="dead", name="refund"))
        ended = change("ended", "completed", active=False, ended_at=1.0, owner="dead")
        stuck = change("stuck", "stuck", active=False, owner="dead")
        store.commit(append(row("ended", 1), row("stuck", 1), changes=(ended, stuck)))
        posted = {
            saga_id: store.post(saga_id, 1.0, "signal", b"{}")
            for saga_id in ("theirs", "mine", "stuck", "ended", "nobody")
        }
        for code, left_out in ((["order@1"], {"theirs"}), (["refund@1"], {"mine"}), ([], {"theirs", "mine"})):
            assert [mail.id for mail in store.mail("a", 2.0, 10, code=code)] == [
                mail_id for saga_id, mail_id in posted.items() if saga_id not in left_out
            ]
        assert len(store.mail("a", 2.0, 10)) == 5
        assert [mail.saga_id for mail in store.mail("a", 2.0, 1, posted["theirs"], ["refund@1"])] == ["stuck"]

    def test_a_store_notices_what_another_one_committed(self, connect: OpenStore) -> None:
        """It may also say so in vain, but it never misses a commit."""
        store, other = connect(), connect()
        store.changed()
        other.commit(start("s"))
        assert store.changed()
        store.changed()
        other.post("s", 1.0, "signal", b"{}")
        assert store.changed()

    def test_a_store_can_be_closed_and_opened_again(self, connect: OpenStore) -> None:
        """Closing loses nothing within the process."""
        store = connect()
        store.commit(start("s"))
        store.close()
        store.open(migrate=True)
        assert set(store.load(["s"])) == {"s"}

    def test_mail_that_only_a_fenced_saga_has_read_is_kept(self, connect: OpenStore, store: Store) -> None:
        """Whoever drives it now has not."""
        store.commit(start("s", "t"))
        mine, others = store.post("s", 1.0, "signal", b"{}"), store.post("t", 1.0, "signal", b"{}")
        connect().commit(Batch(rows=[row("s", 1, b"taken over")], changes={"s": change("s", owner="b")}))
        late = store.commit(Batch(rows=[row("s", 1), row("t", 1)], read=[mine, others]))
        assert late.fenced == {"s"}
        assert [item.id for item in store.mail("b", 2.0, 10)] == [mine]
