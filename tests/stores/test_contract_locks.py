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
from tests.core.lock_table import LockTable
from tests.stores.batches import change, end, free, joined, row, start, take
from tests.stores.conftest import OpenStore

NOTHING = (frozenset[str](), frozenset[str](), ())


def told(done: Committed | list[Mail]) -> list[tuple[str, str, bool]]:
    """Says who heard what: saga, path, and whether it holds the lock."""
    mail = done.mailed if isinstance(done, Committed) else done
    assert all(item.kind == "lock" for item in mail)
    return [(item.saga_id, (body := orjson.loads(item.body))["path"], body["granted"]) for item in mail]


@pytest.fixture
def store(connect: OpenStore) -> Store:
    """A store with some sagas that have begun."""
    store = connect()
    store.commit(start("r", "s", "t", "u"))
    return store


def test_who_asks_first_holds_a_lock_at_once(store: Store) -> None:
    """The answer is durable mail, and comes back with the commit."""
    done = store.commit(take("s", "a"))
    assert told(done) == [("s", "1", True)]
    assert store.mail("a", 2.0, 10) == list(done.mailed)
    assert done.mailed[0].at == 1.0


def test_others_hold_it_in_the_order_in_which_they_asked(connect: OpenStore, store: Store) -> None:
    """Each when the one before gives it up, whichever store hears of that."""
    other = connect()
    store.commit(take("s", "a"))
    assert other.commit(take("t", "a")) == NOTHING
    assert store.commit(joined(take("u", "a"), take("r", "a"))) == NOTHING
    assert told(other.commit(free("s", "a"))) == [("t", "1", True)]
    assert told(store.commit(end("t"))) == [("u", "1", True)]
    assert told(other.commit(free("u", "a"))) == [("r", "1", True)]
    assert other.commit(free("r", "a")) == NOTHING


def test_locks_of_different_names_have_nothing_to_do_with_each_other(store: Store) -> None:
    """Also not if one name begins with the other, or is written in other letters."""
    for saga_id, name in (("s", "sku-1"), ("t", "sku-10"), ("u", "SKU-1"), ("r", "sku\u20111")):
        assert told(store.commit(take(saga_id, name))) == [(saga_id, "1", True)]


def test_who_gives_up_waiting_is_passed_over(store: Store) -> None:
    """From the middle of a line, without anybody hearing of it."""
    store.commit(joined(take("r", "a"), take("s", "a"), take("t", "a")))
    assert store.commit(free("s", "a")) == NOTHING
    assert told(store.commit(free("r", "a"))) == [("t", "1", True)]


def test_a_saga_that_ends_leaves_every_line(store: Store) -> None:
    """It holds nothing, and waits for nothing."""
    store.commit(joined(take("r", "a"), take("s", "b")))
    store.commit(joined(take("s", "a", 2), take("t", "a"), take("u", "b")))
    assert told(store.commit(end("s", 3))) == [("u", "1", True)]
    assert told(store.commit(end("r"))) == [("t", "1", True)]


def test_a_lock_given_back_and_asked_for_again_puts_a_saga_at_the_end(store: Store) -> None:
    """Even in one batch."""
    store.commit(joined(take("s", "a"), take("t", "a")))
    assert told(store.commit(joined(free("s", "a", 2), take("s", "a", 3)))) == [("t", "1", True)]
    assert told(store.commit(end("t"))) == [("s", "3", True)]


def test_what_was_asked_for_and_given_up_in_one_batch_leaves_no_trace(store: Store) -> None:
    """Nobody hears of it, and nothing is left behind."""
    assert store.commit(joined(take("s", "a"), free("s", "a"))) == NOTHING
    assert store.commit(joined(take("t", "a"), end("t"))) == NOTHING
    assert told(store.commit(take("u", "a"))) == [("u", "1", True)]


# --- circles --------------------------------------------------------------------------------------------------------


def test_who_would_close_a_circle_of_waiters_is_refused(store: Store) -> None:
    """That one alone, with the reason; its ticket is gone, and the other goes on when it ends."""
    store.commit(joined(take("s", "a"), take("t", "b")))
    assert store.commit(take("s", "b", 2)) == NOTHING
    refused = store.commit(take("t", "a", 2))
    assert told(refused) == [("t", "2", False)]
    reason = orjson.loads(refused.mailed[0].body)["reason"]
    assert reason == "waiting for lock 'a' would never end: t waits for 'a' behind s, s waits for 'b' behind t"
    assert told(store.commit(end("t", 3))) == [("s", "2", True)]


def test_a_circle_of_many_is_found(store: Store) -> None:
    """However long."""
    ids = [f"s{number}" for number in range(12)]
    store.commit(start(*ids))
    store.commit(joined(*(take(saga_id, f"lock {saga_id}") for saga_id in ids)))
    for saga_id, behind in pairwise(ids):
        assert store.commit(take(saga_id, f"lock {behind}", 2)) == NOTHING
    refused = store.commit(take(ids[-1], f"lock {ids[0]}", 2))
    assert told(refused) == [(ids[-1], "2", False)]
    assert b"and 7 more" in refused.mailed[0].body


def test_a_circle_may_lead_through_those_who_wait(store: Store) -> None:
    """Who stands behind somebody waits for everybody before that one."""
    store.commit(joined(take("r", "a"), take("s", "a"), take("t", "b")))
    assert store.commit(take("t", "a", 2)) == NOTHING
    assert told(store.commit(take("s", "b", 2))) == [("s", "2", False)]


def test_of_two_that_close_a_circle_together_the_later_is_refused(store: Store) -> None:
    """As if they had come one after the other."""
    store.commit(joined(take("s", "a"), take("t", "b")))
    assert told(store.commit(joined(take("s", "b", 2), take("t", "a", 2)))) == [("t", "2", False)]


def test_a_line_without_a_circle_is_waited_in(store: Store) -> None:
    """Though everybody holds something that others wait for."""
    store.commit(joined(take("s", "a"), take("t", "b"), take("u", "c")))
    assert store.commit(joined(take("t", "a", 2), take("u", "b", 2), take("r", "c"))) == NOTHING


def test_a_circle_that_is_given_up_in_the_same_batch_is_none(store: Store) -> None:
    """What is given up comes first."""
    store.commit(joined(take("s", "a"), take("t", "b")))
    store.commit(take("s", "b", 2))
    assert store.commit(joined(take("t", "a", 2), free("s", "b", 3, path="2"))) == NOTHING


# --- when things go wrong ------------------------------------------------------------------------------------------


def test_the_very_same_batch_committed_twice_asks_once(connect: OpenStore, store: Store) -> None:
    """A commit whose answer was lost is repeated: one ticket, one mail."""
    both = joined(take("s", "a"), take("t", "a"))
    answered = store.commit(both)
    assert connect().commit(both) == NOTHING
    assert store.mail("a", 9.0, 10) == list(answered.mailed)
    assert told(store.commit(free("s", "a"))) == [("t", "1", True)]


def test_a_repeated_batch_takes_nothing_from_those_who_came_since(connect: OpenStore, store: Store) -> None:
    """Neither does what was given back come again, nor what was refused."""
    store.commit(joined(take("s", "a"), take("t", "b")))
    store.commit(take("s", "b", 2))
    batch = joined(take("t", "a", 2), free("s", "a", 3))
    late = joined(take("t", "a", 2))
    assert told(store.commit(late)) == [("t", "2", False)]
    store.commit(free("s", "a", 3))
    assert told(store.commit(take("u", "a"))) == [("u", "1", True)]
    assert connect().commit(batch) == NOTHING
    assert told(store.commit(end("t", 3))) == [("s", "2", True)]
    assert store.commit(end("u")) == NOTHING


def test_the_part_of_a_batch_that_is_new_still_counts(connect: OpenStore, store: Store) -> None:
    """Of a batch that was cut in two by a lost connection, say."""
    store.commit(take("s", "a"))
    assert told(connect().commit(joined(take("s", "a"), free("s", "a", 2), take("t", "a")))) == [("t", "1", True)]


def test_a_fenced_saga_neither_takes_locks_nor_gives_them_back(connect: OpenStore, store: Store) -> None:
    """Its new owner has asked in its name."""
    store.commit(take("s", "a"))
    connect().commit(Batch(rows=[row("s", 2, b"taken over")], changes={"s": change("s", owner="b")}))
    late = store.commit(joined(free("s", "a", 2), take("s", "b", 3), take("t", "b"), take("u", "a")))
    assert late.fenced == {"s"}
    assert told(late) == [("t", "1", True)]


def test_a_transaction_of_steps_changes_locks_too(store: Store) -> None:
    """The record of a transactional step may ask for a lock as any other."""
    if store.in_memory:
        with pytest.raises(StoreError):
            store.transact([], lambda: take("s", "a"))
        return
    assert told(store.transact([], lambda: take("s", "a"))) == [("s", "1", True)]
    assert store.transact([], lambda: take("t", "a")) == NOTHING
    assert told(store.transact([], lambda: end("s"))) == [("t", "1", True)]


# --- as a whole -----------------------------------------------------------------------------------------------------

IDS, NAMES = "wxyz", "abc"
ROUNDS = count()
Moves = list[list[tuple[str, str, str]]]
MOVE = st.tuples(st.sampled_from(["take", "take", "take", "free", "end"]), st.sampled_from(IDS), st.sampled_from(NAMES))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(MOVE, min_size=1, max_size=4), min_size=1, max_size=12))
def test_a_store_answers_as_the_smallest_table_does(store: Store, batches: Moves) -> None:
    """Whatever is asked for and given up, in whatever order and however it is put into batches."""
    number = next(ROUNDS)
    store.commit(start(*(f"{number}-{letter}" for letter in IDS)))
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
        answers = told(store.commit(joined(*asked)))
        held = {(saga_id, path) for _, saga_id, path in table.held()}
        assert {(saga_id, path) for saga_id, path, granted in answers if not granted} == table.refused - known
        assert {(saga_id, path) for saga_id, path, granted in answers if granted} == held - known
        known |= held | table.refused


def test_processes_that_want_one_lock_hold_it_one_at_a_time(connect: OpenStore) -> None:
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
