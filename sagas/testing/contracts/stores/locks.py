"""What every store does: semantic locks. The same tests for each of them."""

from __future__ import annotations

import threading
from itertools import count, pairwise

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas.errors import StoreError, StoreUnavailable
from sagas.stores.port import Batch, Committed, Mail, Store
from sagas.testing.contracts.stores._batches import change, end, free, joined, row, start, take
from sagas.testing.contracts.stores._case import OpenStore, StoreCase
from sagas.testing.contracts.stores._lock_table import LockTable

__all__ = ["LockContract"]

NOTHING = (frozenset[str](), frozenset[str](), ())


def told(done: Committed | list[Mail]) -> list[tuple[str, str, bool]]:
    """Says who heard what: saga, path, and whether it holds the lock."""
    mail = done.mailed if isinstance(done, Committed) else done
    assert all(item.kind == "lock" for item in mail)
    return [(item.saga_id, (body := orjson.loads(item.body))["path"], body["granted"]) for item in mail]


IDS, NAMES = "wxyz", "abc"
ROUNDS = count()
# A round has sagas of its own, so a journal serves many; and what failed on one store may be tried on another.
HEALTHY = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
Moves = list[list[tuple[str, str, str]]]
MOVE = st.tuples(st.sampled_from(["take", "take", "take", "free", "end"]), st.sampled_from(IDS), st.sampled_from(NAMES))


class LockContract(StoreCase):
    """Semantic locks."""

    @pytest.fixture
    def begun(self, connect: OpenStore) -> Store:
        """A store with some sagas that have begun."""
        store = connect()
        store.commit(start("r", "s", "t", "u"))
        return store

    def test_who_asks_first_holds_a_lock_at_once(self, begun: Store) -> None:
        """The answer is durable mail, and comes back with the commit."""
        done = begun.commit(take("s", "a"))
        assert told(done) == [("s", "1", True)]
        assert begun.mail("a", 2.0, 10) == list(done.mailed)
        assert done.mailed[0].at == 1.0

    def test_others_hold_it_in_the_order_in_which_they_asked(self, connect: OpenStore, begun: Store) -> None:
        """Each when the one before gives it up, whichever store hears of that."""
        other = connect()
        begun.commit(take("s", "a"))
        assert other.commit(take("t", "a")) == NOTHING
        assert begun.commit(joined(take("u", "a"), take("r", "a"))) == NOTHING
        assert told(other.commit(free("s", "a"))) == [("t", "1", True)]
        assert told(begun.commit(end("t"))) == [("u", "1", True)]
        assert told(other.commit(free("u", "a"))) == [("r", "1", True)]
        assert other.commit(free("r", "a")) == NOTHING

    def test_locks_of_different_names_have_nothing_to_do_with_each_other(self, begun: Store) -> None:
        """Also not if one name begins with the other, or is written in other letters."""
        for saga_id, name in (("s", "sku-1"), ("t", "sku-10"), ("u", "SKU-1"), ("r", "sku\u20111")):
            assert told(begun.commit(take(saga_id, name))) == [(saga_id, "1", True)]

    def test_who_gives_up_waiting_is_passed_over(self, begun: Store) -> None:
        """From the middle of a line, without anybody hearing of it."""
        begun.commit(joined(take("r", "a"), take("s", "a"), take("t", "a")))
        assert begun.commit(free("s", "a")) == NOTHING
        assert told(begun.commit(free("r", "a"))) == [("t", "1", True)]

    def test_a_saga_that_ends_leaves_every_line(self, begun: Store) -> None:
        """It holds nothing, and waits for nothing."""
        begun.commit(joined(take("r", "a"), take("s", "b")))
        begun.commit(joined(take("s", "a", 2), take("t", "a"), take("u", "b")))
        assert told(begun.commit(end("s", 3))) == [("u", "1", True)]
        assert told(begun.commit(end("r"))) == [("t", "1", True)]

    def test_a_lock_given_back_and_asked_for_again_puts_a_saga_at_the_end(self, begun: Store) -> None:
        """Even in one batch."""
        begun.commit(joined(take("s", "a"), take("t", "a")))
        assert told(begun.commit(joined(free("s", "a", 2), take("s", "a", 3)))) == [("t", "1", True)]
        assert told(begun.commit(end("t"))) == [("s", "3", True)]

    def test_what_was_asked_for_and_given_up_in_one_batch_leaves_no_trace(self, begun: Store) -> None:
        """Nobody hears of it, and nothing is left behind."""
        assert begun.commit(joined(take("s", "a"), free("s", "a"))) == NOTHING
        assert begun.commit(joined(take("t", "a"), end("t"))) == NOTHING
        assert told(begun.commit(take("u", "a"))) == [("u", "1", True)]

    # --- circles

    def test_who_would_close_a_circle_of_waiters_is_refused(self, begun: Store) -> None:
        """That one alone, with the reason; its ticket is gone, and the other goes on when it ends."""
        begun.commit(joined(take("s", "a"), take("t", "b")))
        assert begun.commit(take("s", "b", 2)) == NOTHING
        refused = begun.commit(take("t", "a", 2))
        assert told(refused) == [("t", "2", False)]
        reason = orjson.loads(refused.mailed[0].body)["reason"]
        assert reason == "waiting for lock 'a' would never end: t waits for 'a' behind s, s waits for 'b' behind t"
        assert told(begun.commit(end("t", 3))) == [("s", "2", True)]

    def test_a_circle_of_many_is_found(self, begun: Store) -> None:
        """However long."""
        ids = [f"s{number}" for number in range(12)]
        begun.commit(start(*ids))
        begun.commit(joined(*(take(saga_id, f"lock {saga_id}") for saga_id in ids)))
        for saga_id, behind in pairwise(ids):
            assert begun.commit(take(saga_id, f"lock {behind}", 2)) == NOTHING
        refused = begun.commit(take(ids[-1], f"lock {ids[0]}", 2))
        assert told(refused) == [(ids[-1], "2", False)]
        assert b"and 7 more" in refused.mailed[0].body

    def test_a_circle_may_lead_through_those_who_wait(self, begun: Store) -> None:
        """Who stands behind somebody waits for everybody before that one."""
        begun.commit(joined(take("r", "a"), take("s", "a"), take("t", "b")))
        assert begun.commit(take("t", "a", 2)) == NOTHING
        assert told(begun.commit(take("s", "b", 2))) == [("s", "2", False)]

    def test_of_two_that_close_a_circle_together_the_later_is_refused(self, begun: Store) -> None:
        """As if they had come one after the other."""
        begun.commit(joined(take("s", "a"), take("t", "b")))
        assert told(begun.commit(joined(take("s", "b", 2), take("t", "a", 2)))) == [("t", "2", False)]

    def test_a_line_without_a_circle_is_waited_in(self, begun: Store) -> None:
        """Though everybody holds something that others wait for."""
        begun.commit(joined(take("s", "a"), take("t", "b"), take("u", "c")))
        assert begun.commit(joined(take("t", "a", 2), take("u", "b", 2), take("r", "c"))) == NOTHING

    def test_a_circle_that_is_given_up_in_the_same_batch_is_none(self, begun: Store) -> None:
        """What is given up comes first."""
        begun.commit(joined(take("s", "a"), take("t", "b")))
        begun.commit(take("s", "b", 2))
        assert begun.commit(joined(take("t", "a", 2), free("s", "b", 3, path="2"))) == NOTHING

    # --- when things go wrong

    def test_the_very_same_batch_committed_twice_asks_once(self, connect: OpenStore, begun: Store) -> None:
        """A commit whose answer was lost is repeated: one ticket, one mail."""
        both = joined(take("s", "a"), take("t", "a"))
        answered = begun.commit(both)
        assert connect().commit(both) == NOTHING
        assert begun.mail("a", 9.0, 10) == list(answered.mailed)
        assert told(begun.commit(free("s", "a"))) == [("t", "1", True)]

    def test_a_repeated_batch_takes_nothing_from_those_who_came_since(self, connect: OpenStore, begun: Store) -> None:
        """Neither does what was given back come again, nor what was refused."""
        begun.commit(joined(take("s", "a"), take("t", "b")))
        begun.commit(take("s", "b", 2))
        batch = joined(take("t", "a", 2), free("s", "a", 3))
        late = joined(take("t", "a", 2))
        assert told(begun.commit(late)) == [("t", "2", False)]
        begun.commit(free("s", "a", 3))
        assert told(begun.commit(take("u", "a"))) == [("u", "1", True)]
        assert connect().commit(batch) == NOTHING
        assert told(begun.commit(end("t", 3))) == [("s", "2", True)]
        assert begun.commit(end("u")) == NOTHING

    def test_the_part_of_a_batch_that_is_new_still_counts(self, connect: OpenStore, begun: Store) -> None:
        """Of a batch that was cut in two by a lost connection, say."""
        begun.commit(take("s", "a"))
        assert told(connect().commit(joined(take("s", "a"), free("s", "a", 2), take("t", "a")))) == [("t", "1", True)]

    def test_a_fenced_saga_neither_takes_locks_nor_gives_them_back(self, connect: OpenStore, begun: Store) -> None:
        """Its new owner has asked in its name."""
        begun.commit(take("s", "a"))
        connect().commit(Batch(rows=[row("s", 2, b"taken over")], changes={"s": change("s", owner="b")}))
        late = begun.commit(joined(free("s", "a", 2), take("s", "b", 3), take("t", "b"), take("u", "a")))
        assert late.fenced == {"s"}
        assert told(late) == [("t", "1", True)]

    def test_a_transaction_of_steps_changes_locks_too(self, begun: Store) -> None:
        """The record of a transactional step may ask for a lock as any other."""
        if begun.in_memory:
            with pytest.raises(StoreError):
                begun.transact([], lambda: take("s", "a"))
            return
        assert told(begun.transact([], lambda: take("s", "a"))) == [("s", "1", True)]
        assert begun.transact([], lambda: take("t", "a")) == NOTHING
        assert told(begun.transact([], lambda: end("s"))) == [("t", "1", True)]

    @settings(max_examples=40, deadline=None, suppress_health_check=[*HEALTHY])
    @given(batches=st.lists(st.lists(MOVE, min_size=1, max_size=4), min_size=1, max_size=12))
    def test_a_store_answers_as_the_smallest_table_does(self, begun: Store, batches: Moves) -> None:
        """Whatever is asked for and given up, in whatever order and however it is put into batches."""
        number = next(ROUNDS)
        begun.commit(start(*(f"{number}-{letter}" for letter in IDS)))
        table, last = LockTable(), dict.fromkeys(IDS, 0)
        known: set[tuple[str, str]] = set()
        for batch in batches:
            asked: list[Batch] = []
            wanted: set[tuple[str, str]] = set()  # nobody asks again before there is an answer
            # Of one saga in one batch, what is given up comes first here too.
            for what, saga, lock in sorted(batch, key=lambda move: move[0] == "take"):
                last[saga] += 1
                saga_id, name, seq = f"{number}-{saga}", f"{number}-{lock}", last[saga]
                path = table.lines.get(name, {}).get(saga_id)
                if what == "take" and path is None and (saga_id, name) not in wanted:
                    wanted.add((saga_id, name))
                    table.take(saga_id, name, str(seq))
                    asked.append(take(saga_id, name, seq))
                elif what == "free" and path is not None:
                    table.free(saga_id, name, path)
                    asked.append(free(saga_id, name, seq, path=path))
                elif what == "end":
                    table.end(saga_id)
                    asked.append(end(saga_id, seq))
                else:
                    last[saga] -= 1
            answers = told(begun.commit(joined(*asked)))
            held = {(saga_id, path) for _, saga_id, path in table.held()}
            assert {(saga_id, path) for saga_id, path, granted in answers if not granted} == table.refused - known
            assert {(saga_id, path) for saga_id, path, granted in answers if granted} == held - known
            known |= held | table.refused

    def test_processes_that_want_one_lock_hold_it_one_at_a_time(self, connect: OpenStore) -> None:
        """Each on a store of its own, again and again; nobody is told twice, and nobody is forgotten."""
        rounds, ids = 12, [f"p{number}" for number in range(4)]
        connect().commit(start(*ids))
        answers = {saga_id: threading.Semaphore(0) for saga_id in ids}
        inside: list[str] = []
        together: list[list[str]] = []
        failures: list[BaseException] = []

        def commit(store: Store, batch: Batch) -> None:
            while True:
                try:
                    done = store.commit(batch)
                except StoreUnavailable:  # SQLite's writers wait for each other only so long
                    continue
                for saga_id, _, _ in told(done):
                    answers[saga_id].release()
                return

        def work(saga_id: str) -> None:
            store = connect()
            try:
                for seq in range(1, 2 * rounds, 2):
                    commit(store, take(saga_id, "a", seq))
                    assert answers[saga_id].acquire(timeout=60)
                    inside.append(saga_id)
                    together.append(list(inside))
                    inside.remove(saga_id)
                    commit(store, free(saga_id, "a", seq + 1, path=str(seq)))
            except BaseException as failure:
                failures.append(failure)
                raise

        threads = [threading.Thread(target=work, args=(saga_id,)) for saga_id in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(together) == rounds * len(ids)
        assert all(len(who) == 1 for who in together)
