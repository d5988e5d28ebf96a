"""What every store does: it finds and counts sagas for people, and says where it stopped."""

from __future__ import annotations

import pytest

from sagas.stores.port import Batch, SagaRow, Store
from sagas.stores.surveying import STATUSES, Wanted, fits
from sagas.testing.contracts.stores._batches import append, change, new_saga, row, start, take
from sagas.testing.contracts.stores._case import StoreCase

__all__ = ["SurveyContract"]

# Ids, names, versions, when they were started, how they stand, when they ended, and why.
_SAGAS: tuple[tuple[str, str, str, float, str, float | None, str | None], ...] = (
    ("order-1", "order", "1", 10.0, "completed", 15.0, None),
    ("order-2", "order", "2", 20.0, "stuck", None, "release (1): OSError: Disk 100% full_"),
    ("order-20", "order", "2", 30.0, "compensated", 90.0, "StepFailed: step charge (2) failed: no card"),
    ("ordeal", "order", "1", 40.0, "running", None, None),
    ("refund-1", "refund", "1", 50.0, "completed", 51.0, None),
    ("refund-2", "refund", "1", 60.0, "stuck", None, "pay (3): OSError: DISK gone"),
    ("späť-1", "refund", "2", 70.0, "compensating", None, "pay (3): Zürich is away"),
    ("\U0010ffff-1", "refund", "2", 80.0, "completed", 85.0, None),
)
_WANTED = (
    Wanted(),
    *(Wanted(statuses=(status,)) for status in STATUSES),
    Wanted(statuses=("running", "compensating", "stuck")),
    Wanted(statuses=("stuck", "completed"), name="refund"),
    Wanted(name="order"),
    Wanted(name="nothing"),
    Wanted(version="2"),
    Wanted(prefix="order-2"),
    Wanted(prefix="orde"),
    Wanted(prefix="Order"),
    Wanted(prefix="sp\u00e4"),
    Wanted(prefix="\U0010ffff"),
    Wanted(prefix="\ud7ff"),
    Wanted(texts=("disk",)),
    Wanted(texts=("DISK", "gone")),
    Wanted(texts=("100%",)),
    Wanted(texts=("0% full_",)),
    Wanted(texts=("0_ full",)),
    Wanted(texts=("zürich",)),
    Wanted(texts=("ZÜRICH",)),
    Wanted(started_from=20.0, started_before=60.0),
    Wanted(started_from=80.0),
    Wanted(started_before=10.0),
    Wanted(ended_from=15.0, ended_before=85.0),
    Wanted(ended_from=85.0),
    Wanted(ended_before=51.0),
    Wanted(statuses=("completed",), prefix="order", ended_before=60.0),
)


def fill(store: Store) -> None:
    """Writes the sagas."""
    for saga_id, name, version, at, status, ended_at, error in _SAGAS:
        new = new_saga(saga_id, name=name)._replace(version=version, created_at=at)
        what = change(saga_id, status, active=status == "running", ended_at=ended_at)._replace(error=error)
        store.commit(Batch(new=[new], rows=[row(saga_id, 0)], changes={saga_id: what}))


def everything(store: Store, wanted: Wanted, limit: int) -> list[SagaRow]:
    """Searches to the end."""
    found: list[SagaRow] = []
    before: int | None = None
    while True:
        page = store.search(wanted, limit=limit, before=before)
        assert len(page.rows) <= limit
        assert before is None or page.before is None or page.before < before
        found.extend(page.rows)
        before = page.before
        if before is None:
            return found


def expected(store: Store, wanted: Wanted) -> list[str]:
    """Says by a look at each saga which ones are wanted."""
    rows = store.find([saga[0] for saga in _SAGAS])
    return [saga[0] for saga in reversed(_SAGAS) if fits(rows[saga[0]], wanted)]


class SurveyContract(StoreCase):
    """See the module."""

    @pytest.fixture
    def narrow_search(self) -> None:
        """Lets one call of ``search`` look at three sagas only; override it where that can be set."""

    def test_a_search_finds_what_is_wanted_newest_first(self, store: Store) -> None:
        """Page by page as in one go."""
        fill(store)
        for wanted in _WANTED:
            for limit in (1, 3, 100):
                assert [x.id for x in everything(store, wanted, limit)] == expected(store, wanted), wanted

    @pytest.mark.usefixtures("narrow_search")
    def test_a_search_that_stops_early_goes_on_where_it_stopped(self, store: Store) -> None:
        """Nothing is left out, and nothing comes twice."""
        fill(store)
        for wanted in _WANTED:
            assert [x.id for x in everything(store, wanted, 2)] == expected(store, wanted), wanted

    def test_a_page_stays_what_it_is_while_sagas_are_started(self, store: Store) -> None:
        """Newer ones move none of those that come after a page."""
        fill(store)
        page = store.search(Wanted(name="refund"), limit=2)
        store.commit(Batch(new=[new_saga("later", name="refund")], rows=[row("later", 0)]))
        assert [x.id for x in store.search(Wanted(name="refund"), limit=2, before=page.before).rows] == [
            "refund-2",
            "refund-1",
        ]

    def test_a_search_in_nothing_finds_nothing(self, store: Store) -> None:
        """Whatever is wanted."""
        for wanted in _WANTED:
            assert store.search(wanted, limit=5) == ([], None)

    def test_sagas_are_counted_by_status(self, store: Store) -> None:
        """Few of them exactly, and every status is there."""
        assert {status: tuple(x) for status, x in store.count_by_status().items()} == dict.fromkeys(
            STATUSES, (0, "exact")
        )
        fill(store)
        numbers = {status: sum(x[4] == status for x in _SAGAS) for status in STATUSES}
        assert {status: tuple(x) for status, x in store.count_by_status().items()} == {
            status: (number, "exact") for status, number in numbers.items()
        }

    def test_open_sagas_are_counted_by_name_and_status(self, store: Store) -> None:
        """Those that have ended are not."""
        fill(store)
        found = store.count_open()
        assert found.complete
        assert dict(found.by) == {
            ("order", "stuck"): 1,
            ("order", "running"): 1,
            ("refund", "stuck"): 1,
            ("refund", "compensating"): 1,
        }

    def test_what_began_and_ended_lately_is_counted(self, store: Store) -> None:
        """Also what began long before it ended."""
        fill(store)
        found = store.tally(50.0)
        assert dict(found.started) == {"refund": 4}
        assert dict(found.ended) == {
            ("order", "compensated"): 1,
            ("refund", "completed"): 2,
        }
        assert (found.started_since, found.ended_since) == (50.0, 50.0)
        assert (store.tally(1_000.0).started, store.tally(1_000.0).ended) == ({}, {})

    def test_the_lines_of_locks_begin_with_their_holders(self, store: Store) -> None:
        """By name, and then as they came."""
        store.commit(start("s", "t", "u"))
        for saga_id, name in (("t", "sku"), ("s", "sku"), ("u", "cart")):
            store.commit(take(saga_id, name))
        found = [(x.name, x.saga_id, x.path, x.held) for x in store.lines(10)]
        assert found == [("cart", "u", "1", True), ("sku", "t", "1", True), ("sku", "s", "1", False)]
        assert len(store.lines(2)) == 2

    def test_a_search_sees_what_was_committed_before_it(self, store: Store) -> None:
        """As people who look again expect."""
        store.commit(start("s"))
        assert store.search(Wanted(ended_from=0.0), limit=5).rows == []
        store.commit(append(row("s", 1), changes=(change("s", "completed", active=False, ended_at=9.0),)))
        assert [x.id for x in store.search(Wanted(ended_from=0.0), limit=5).rows] == ["s"]
