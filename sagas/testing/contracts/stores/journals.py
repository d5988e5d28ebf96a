"""What every store does: commits. The same tests for each of them."""

from __future__ import annotations

import threading

import pytest

from sagas.stores.port import Batch, Store
from sagas.testing.contracts.stores._batches import append, change, new_saga, row, start
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["JournalContract"]


class JournalContract(StoreCase):
    """Batches: what is committed, what is left out, and how sagas are read."""

    def test_what_was_committed_is_read_back_as_it_was(self, store: Store) -> None:
        """Rows come back in order, sagas with their fields."""
        store.commit(start("s"))
        store.commit(append(row("s", 1, b"\x00\xff"), row("s", 2), changes=(change("s", "compensating"),)))
        assert store.load(["s"]) == {"s": [row("s", 0), row("s", 1, b"\x00\xff"), row("s", 2)]}
        found = store.get("s")
        assert found is not None
        assert (found.id, found.name, found.version, found.fingerprint) == ("s", "order", "1", b"f" * 16)
        assert (found.status, found.active, found.owner, found.ended_at) == ("compensating", True, "a", None)

    def test_another_store_on_the_journal_reads_what_was_committed(self, connect: OpenStore) -> None:
        """A commit is seen by others when it returns."""
        connect().commit(start("s"))
        assert connect().load(["s"]) == {"s": [row("s", 0)]}

    def test_an_empty_batch_changes_nothing(self, store: Store) -> None:
        """Nothing to write is no error."""
        assert store.commit(Batch()) == (frozenset(), frozenset(), ())
        assert not store.select(status=None, name=None, limit=10, before=None)

    def test_a_new_saga_whose_id_is_taken_is_left_out_and_the_rest_of_the_batch_is_kept(
        self, connect: OpenStore
    ) -> None:
        """The first to start a saga keeps it."""
        connect().commit(start("s", owner="a", data=b"1"))
        both = start("s", "t", owner="b", data=b"2")
        both.rows.append(row("s", 1))
        both.changes["s"] = change("s", "completed", owner="b")
        second = connect()
        assert second.commit(both) == (frozenset({"s"}), frozenset(), ())
        assert second.load(["s", "t"]) == {"s": [row("s", 0, b"1")], "t": [row("t", 0, b"2")]}
        found = second.get("s")
        assert found is not None
        assert (found.owner, found.status) == ("a", "running")

    def test_appending_where_a_row_stands_fences_that_saga_and_no_other(self, connect: OpenStore) -> None:
        """A paused owner loses everything it wanted to write about that saga, and nothing else."""
        connect().commit(start("s", "t"))
        connect().commit(append(row("s", 1, b"taken over"), changes=(change("s", owner="b"),)))
        late = append(
            row("s", 1, b"late"), row("s", 2, b"later"), row("t", 1),
            changes=(change("s", "completed", ended_at=9.0), change("t", "compensating")),
        )  # fmt: skip
        store = connect()
        assert store.commit(late) == (frozenset(), frozenset({"s"}), ())
        assert store.load(["s", "t"]) == {
            "s": [row("s", 0), row("s", 1, b"taken over")],
            "t": [row("t", 0), row("t", 1)],
        }
        fenced, other = store.get("s"), store.get("t")
        assert fenced is not None
        assert other is not None
        assert (fenced.status, fenced.owner, other.status) == ("running", "b", "compensating")

    def test_the_very_same_batch_committed_twice_is_committed_once(self, connect: OpenStore) -> None:
        """So a commit whose answer was lost can be repeated."""
        store = connect()
        mail = store.post("s", 1.0, "signal", b"{}")
        batch = start("s", "t")
        batch.rows.append(row("s", 1))
        batch.changes["s"] = change("s", "compensating")
        batch.read.append(mail)
        assert store.commit(batch) == (frozenset(), frozenset(), ())
        assert connect().commit(batch) == (frozenset(), frozenset(), ())
        assert store.load(["s", "t"]) == {"s": [row("s", 0), row("s", 1)], "t": [row("t", 0)]}
        assert not store.mail("a", 2.0, 10)

    def test_a_batch_repeated_after_somebody_else_went_on_is_fenced(self, connect: OpenStore) -> None:
        """Its rows are there, but the saga has moved on, so its changes are history."""
        store = connect()
        store.commit(start("s"))
        batch = append(row("s", 1), changes=(change("s", "compensating", owner="a"),))
        store.commit(batch)
        connect().commit(append(row("s", 2, b"taken over"), changes=(change("s", "stuck", owner="b"),)))
        assert store.commit(batch) == (frozenset(), frozenset({"s"}), ())
        found = store.get("s")
        assert found is not None
        assert (found.status, found.owner) == ("stuck", "b")

    def test_mail_that_a_fenced_record_took_into_account_stays_for_the_new_owner(self, connect: OpenStore) -> None:
        """Whoever sent it was told that it would arrive."""
        store = connect()
        store.commit(start("s", "t"))
        lost, read = (store.post(saga_id, 1.0, "signal", b"{}") for saga_id in ("s", "t"))
        connect().commit(append(row("s", 1, b"taken over")))
        late = append(row("s", 1), row("t", 1))
        late.read.extend((lost, read))
        assert store.commit(late) == (frozenset(), frozenset({"s"}), ())
        assert [mail.id for mail in store.mail("a", 2.0, 10)] == [lost]

    def test_a_large_batch_is_committed_whole(self, store: Store) -> None:
        """More rows than one statement takes."""
        ids = [f"s{number:05}" for number in range(2_345)]
        assert store.commit(start(*ids)) == (frozenset(), frozenset(), ())
        changes = tuple(change(saga_id, "completed", active=False, ended_at=5.0) for saga_id in ids)
        store.commit(append(*(row(saga_id, 1) for saga_id in ids), changes=changes))
        assert store.load(ids) == {saga_id: [row(saga_id, 0), row(saga_id, 1)] for saga_id in ids}
        assert len(store.select(status="completed", name=None, limit=5_000, before=None)) == len(ids)

    def test_loading_leaves_out_what_is_not_there(self, store: Store) -> None:
        """An unknown saga has no journal."""
        store.commit(start("s"))
        assert set(store.load(["s", "nobody"])) == {"s"}
        assert store.load([]) == {}
        assert store.get("nobody") is None

    def test_sagas_are_found_by_their_ids(self, store: Store) -> None:
        """Those that are there, as ``get`` reads them."""
        ids = [f"s{number}" for number in range(1_200)]
        store.commit(start(*ids))
        found = store.find([*ids[::2], "nobody"])
        assert set(found) == set(ids[::2])
        assert found["s0"] == store.get("s0")
        assert store.find([]) == {}

    def test_ids_that_a_database_could_stumble_over_are_kept_apart(self, store: Store) -> None:
        """Ids are compared byte by byte, and never read as SQL."""
        ids = ["a", "A", "a ", "ä", "a%", "a'; DROP TABLE saga; --", "\N{GRINNING FACE}", "x" * 200]
        store.commit(start(*ids))
        assert set(store.load(ids)) == set(ids)
        assert [found.id for saga_id in ids if (found := store.get(saga_id)) is not None] == ids

    def test_sagas_are_listed_newest_first_in_pages(self, store: Store) -> None:
        """Each page goes on before the last saga of the page above; filters hold on every page."""
        for number in range(7):
            store.commit(start(f"s{number}", name="even" if number % 2 == 0 else "odd"))
        store.commit(append(row("s4", 1), changes=(change("s4", "stuck", active=False),)))

        def ids(**wanted: str | int | None) -> list[str]:
            rows = store.select(**({"status": None, "name": None, "limit": 100, "before": None} | wanted))  # type: ignore[arg-type]
            return [found.id for found in rows]

        assert ids() == ["s6", "s5", "s4", "s3", "s2", "s1", "s0"]
        assert ids(limit=3) == ["s6", "s5", "s4"]
        assert ids(limit=3, before="s4") == ["s3", "s2", "s1"]
        assert ids(limit=3, before="s1") == ["s0"]
        assert ids(before="s0") == []
        assert ids(before="nobody") == []
        assert ids(name="odd", before="s5") == ["s3", "s1"]
        assert ids(status="stuck") == ["s4"]
        assert ids(status="stuck", name="odd") == []

    def test_open_sagas_are_read_newest_first_in_pages(self, store: Store) -> None:
        """Running, stuck and waiting ones; none that has ended."""
        for number in range(6):
            store.commit(start(f"s{number}"))
        store.commit(
            append(
                row("s1", 1), row("s3", 1), row("s4", 1),
                changes=(
                    change("s1", "stuck", active=False),
                    change("s3", "completed", active=False, ended_at=1.0),
                    change("s4", active=False),
                ),
            )
        )  # fmt: skip
        assert [found.id for found in store.open_sagas(3, None)] == ["s5", "s4", "s2"]
        assert [found.id for found in store.open_sagas(3, "s2")] == ["s1", "s0"]
        assert store.open_sagas(3, "s0") == []
        assert store.open_sagas(1, "s4")[0] == store.get("s2")

    @pytest.mark.parametrize("threads", [4])
    def test_of_many_that_append_at_once_exactly_one_succeeds(self, connect: OpenStore, threads: int) -> None:
        """Fencing does not depend on timing."""
        stores = [connect() for _ in range(threads)]
        stores[0].commit(start("s"))
        ready = threading.Barrier(threads)
        fenced: list[bool] = []

        def race(number: int) -> None:
            for seq in range(1, 21):
                ready.wait()
                done = stores[number].commit(append(row("s", seq, str(number).encode())))
                fenced.append("s" in done.fenced)

        workers = [threading.Thread(target=race, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert fenced.count(False) == 20
        assert [found.seq for found in stores[0].load(["s"])["s"]] == list(range(21))

    def test_a_new_saga_alone_is_found(self, store: Store) -> None:
        """A row in the table of sagas is enough to be listed."""
        store.commit(Batch(new=[new_saga("s")], rows=[row("s", 0)]))
        assert [found.id for found in store.select(status="running", name="order", limit=1, before=None)] == ["s"]
