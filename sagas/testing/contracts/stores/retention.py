"""What every store does: finished sagas are archived or deleted, and no others are ever touched."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas.errors import StoreError
from sagas.stores.keeping import ENDED, HANDOVERS, Purge, Purged
from sagas.stores.port import Batch, JournalRow, Store
from sagas.testing.contracts.stores._batches import append, change, row, start
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["RetentionContract"]

_LATER = 1_000.0
# Whoever was paused knows by then.
_SETTLED = 1_000_000.0


def end(store: Store, *saga_ids: str, status: str = "completed", at: float = 10.0) -> None:
    """Starts sagas and ends them."""
    store.commit(start(*saga_ids))
    ends = (change(saga_id, status, active=False, ended_at=at) for saga_id in saga_ids)
    store.commit(append(*(row(saga_id, 1) for saga_id in saga_ids), changes=tuple(ends)))


def archive(**before: float) -> Purge:
    """Archives what ended before a time, by status."""
    return Purge(archive=before, settled=_SETTLED)


def delete(**before: float) -> Purge:
    """Deletes what ended before a time, by status."""
    return Purge(delete=before, settled=_SETTLED)


def purge_all(store: Store, what: Purge, *, limit: int = 100) -> tuple[Counter[str], Counter[str]]:
    """Goes on to the end."""
    archived: Counter[str] = Counter()
    deleted: Counter[str] = Counter()
    after: int | None = 0
    while after is not None:
        done = store.purge(what, limit=limit, after=after)
        assert sum(done.archived.values()) + sum(done.deleted.values()) <= limit
        archived.update(done.archived)
        deleted.update(done.deleted)
        after = done.after
    return archived, deleted


def ids(store: Store) -> set[str]:
    """Lists every saga."""
    return {found.id for found in store.select(status=None, name=None, limit=10_000, before=None)}


def _handed(store: Store, saga_id: str, *kinds: str) -> None:
    """Writes records of these kinds, and ends the saga at 10.0."""
    records = [row(saga_id, seq)._replace(kind=kind) for seq, kind in enumerate(kinds)]
    store.commit(Batch(new=start(saga_id).new, rows=records))
    last = row(saga_id, len(kinds))
    store.commit(append(last, changes=(change(saga_id, "completed", active=False, ended_at=10.0),)))


class Model(NamedTuple):
    """What a saga has to be."""

    status: str
    ended_at: float | None
    moved: bool
    mail: int
    packed: bool = False

    def after(self, what: Purge) -> Model | None:
        """What a purge makes of it; ``None`` for nothing."""
        if self.ended_at is None or (self.moved and not self.packed and self.ended_at >= what.settled):
            return self
        if self.ended_at < what.delete.get(self.status, -1.0):
            return None
        if not self.packed and self.ended_at < what.unarchived.get(self.status, -1.0):
            return None
        if self.packed or self.ended_at >= what.archive.get(self.status, -1.0):
            return self
        return self._replace(packed=True, mail=0)


_STATUSES = ("running", "compensating", "stuck", *ENDED)
_times = st.integers(0, 9).map(float)
_populations = st.lists(
    st.tuples(st.sampled_from(_STATUSES), _times, st.booleans(), st.integers(0, 2)).map(
        lambda x: Model(x[0], x[1] if x[0] in ENDED else None, x[2], x[3])
    ),
    max_size=12,
)
_limits = st.dictionaries(st.sampled_from(ENDED), _times, max_size=2)
_purges = st.builds(Purge, archive=_limits, delete=_limits, unarchived=_limits, settled=_times)


def _journal(saga_id: str, saga: Model) -> list[JournalRow]:
    return [row(saga_id, 0), row(saga_id, 1)._replace(kind=HANDOVERS[0] if saga.moved else "StepSucceeded")]


def _make(store: Store, saga_id: str, saga: Model) -> None:
    first, second = _journal(saga_id, saga)
    store.commit(Batch(new=start(saga_id).new, rows=[first]))
    store.commit(append(second, changes=(change(saga_id, saga.status, active=False, ended_at=saga.ended_at),)))
    for _ in range(saga.mail):
        store.post(saga_id, 1.0, "signal", b"{}")


def _compare(store: Store, model: dict[str, Model]) -> None:
    found = {x.id: x for x in store.select(status=None, name=None, limit=100_000, before=None)}
    assert {key: (x.status, x.ended_at) for key, x in found.items()} == {key: x[:2] for key, x in model.items()}
    assert store.load(list(model)) == {key: _journal(key, x) for key, x in model.items()}
    assert Counter(x.saga_id for x in store.mail("a", 2.0, 100_000)) == Counter({k: x.mail for k, x in model.items()})


class RetentionContract(StoreCase):
    """Finished sagas are archived or deleted, and no others are ever touched."""

    def test_what_is_archived_can_be_read_as_before(self, connect: OpenStore) -> None:
        """Its row, and every byte of its journal, whatever a codec made of it."""
        store = connect()
        store.commit(start("s", data=b"\x00\xff not text"))
        store.commit(
            append(row("s", 1, "ü".encode()), changes=(change("s", "compensated", active=False, ended_at=9.0),))
        )
        before = store.get("s"), store.load(["s"])
        assert purge_all(store, archive(compensated=9.5)) == ({"compensated": 1}, {})
        for place in (store, connect()):
            assert (place.get("s"), place.load(["s"])) == before

    def test_an_archived_saga_keeps_its_id(self, connect: OpenStore) -> None:
        """Starting it again finds it taken; the very same batch again changes nothing."""
        store = connect()
        end(store, "s")
        purge_all(store, archive(completed=_LATER))
        again = start("s", "t", data=b"another")
        assert connect().commit(again) == (frozenset({"s"}), frozenset(), ())
        assert ids(store) == {"s", "t"}
        assert [found.data for found in store.load(["s"])["s"]] == [b"{}", b"{}"]

    def test_archiving_again_finds_nothing(self, store: Store) -> None:
        end(store, "s")
        assert purge_all(store, archive(completed=_LATER)) == ({"completed": 1}, {})
        assert purge_all(store, archive(completed=_LATER)) == ({}, {})

    def test_what_is_deleted_is_gone_and_its_id_is_free(self, connect: OpenStore) -> None:
        """The next one of this id is another saga."""
        store = connect()
        end(store, "s", "t")
        assert purge_all(store, delete(completed=_LATER)) == ({}, {"completed": 2})
        assert store.get("s") is None
        assert store.load(["s", "t"]) == {}
        assert connect().commit(start("s", data=b"another")) == (frozenset(), frozenset(), ())
        assert store.load(["s"]) == {"s": [row("s", 0, b"another")]}

    def test_what_was_archived_can_be_deleted_later(self, store: Store) -> None:
        end(store, "old", at=10.0)
        end(store, "new", at=20.0)
        purge_all(store, archive(completed=_LATER))
        both = Purge(archive={"completed": _LATER}, delete={"completed": 15.0}, settled=_SETTLED)
        assert purge_all(store, both) == ({}, {"completed": 1})
        assert store.load(["old", "new"]) == {"new": [row("new", 0), row("new", 1)]}
        assert ids(store) == {"new"}

    def test_those_that_are_archived_can_outlast_those_that_are_not(self, store: Store) -> None:
        """Each by its own age."""
        end(store, "archived", at=10.0)
        end(store, "ancient", at=5.0)
        purge_all(store, archive(completed=_LATER))
        end(store, "plain", at=10.0)
        end(store, "young", at=20.0)
        what = Purge(unarchived={"completed": 15.0}, delete={"completed": 6.0}, settled=_SETTLED)
        assert purge_all(store, what, limit=2) == ({}, {"completed": 2})
        assert ids(store) == {"archived", "young"}
        assert store.load(["archived"])["archived"] == [row("archived", 0), row("archived", 1)]

    def test_outcomes_have_ages_of_their_own(self, store: Store) -> None:
        """To the moment; an outcome that is not named stays."""
        for number, status in itertools.product(range(3), ENDED):
            end(store, f"{status}-{number}", status=status, at=float(number))
        assert purge_all(store, delete(completed=2.0)) == ({}, {"completed": 2})
        assert purge_all(store, archive(completed=3.0, compensated=1.0)) == ({"completed": 1, "compensated": 1}, {})
        assert ids(store) == {"completed-2", "compensated-0", "compensated-1", "compensated-2"}

    def test_mail_for_sagas_that_go_goes_with_them(self, store: Store) -> None:
        """Mail for others stays."""
        end(store, "archived")
        end(store, "deleted", at=5.0)
        store.commit(start("open"))
        kept = [store.post(saga_id, 1.0, "signal", b"{}") for saga_id in ("archived", "deleted", "open", "nobody")][2:]
        purge_all(store, Purge(archive={"completed": 20.0}, delete={"completed": 6.0}, settled=_SETTLED))
        assert [mail.id for mail in store.mail("a", 2.0, 10)] == kept

    def test_a_dry_run_counts_and_changes_nothing(self, store: Store) -> None:
        end(store, "old", at=5.0)
        end(store, "new", status="compensated")
        store.post("old", 1.0, "signal", b"{}")
        what = Purge(archive={"compensated": _LATER}, delete={"completed": 6.0}, settled=_SETTLED)
        assert store.purge(what, limit=10, dry_run=True) == Purged({"compensated": 1}, {"completed": 1}, None)
        assert ids(store) == {"old", "new"}
        assert len(store.mail("a", 2.0, 10)) == 1
        assert purge_all(store, what) == ({"compensated": 1}, {"completed": 1})

    @pytest.mark.parametrize("status", ["running", "compensating", "stuck", "anything"])
    def test_only_what_has_ended_may_be_named(self, store: Store, status: str) -> None:
        with pytest.raises(StoreError, match="only sagas that have ended"):
            store.purge(archive(**{status: _LATER}), limit=1)
        with pytest.raises(StoreError, match="only sagas that have ended"):
            store.purge(delete(**{status: _LATER}), limit=1)
        with pytest.raises(StoreError, match="only sagas that have ended"):
            store.purge(Purge(unarchived={status: _LATER}, settled=_SETTLED), limit=1)

    @pytest.mark.parametrize("kind", HANDOVERS)
    @pytest.mark.parametrize("how", [archive, delete])
    def test_a_saga_that_changed_hands_stays_until_its_old_owners_must_know(
        self, connect: OpenStore, kind: str, how: Callable[..., Purge]
    ) -> None:
        """An owner that was paused is still fenced by the record that took the saga from it."""
        store = connect()
        end(store, "plain", at=10.0)
        store.commit(start("moved"))
        theirs = row("moved", 1, b"theirs")._replace(kind=kind)
        store.commit(append(theirs, changes=(change("moved", "completed", active=False, ended_at=10.0),)))
        what = how(completed=_LATER)
        early = Purge(archive=what.archive, delete=what.delete, settled=10.0)
        assert sum(map(sum, ((x.values()) for x in purge_all(store, early)))) == 1
        assert connect().commit(append(row("moved", 1, b"late"))).fenced == {"moved"}
        assert store.load(["moved"])["moved"][1] == theirs
        late = Purge(archive=what.archive, delete=what.delete, settled=10.5)
        assert sum(map(sum, ((x.values()) for x in purge_all(store, late)))) == 1

    @pytest.mark.parametrize("how", [archive, delete])
    def test_a_saga_that_was_submitted_has_not_changed_hands_when_it_is_begun(
        self, store: Store, how: Callable[..., Purge]
    ) -> None:
        """Nobody drove it before; but whoever takes it over later does so from somebody."""
        _handed(store, "begun", "SagaSubmitted", "SagaTakenOver")
        _handed(store, "twice", "SagaSubmitted", "SagaTakenOver", "SagaTakenOver")
        _handed(store, "late", "SagaSubmitted", "SignalReceived", "SagaTakenOver")
        _handed(store, "cancelled", "SagaSubmitted", "CancelRequested")
        _handed(store, "started", "SagaStarted", "SagaTakenOver")
        what = how(completed=_LATER)
        purge_all(store, Purge(archive=what.archive, delete=what.delete, settled=10.0))
        late = Purge(delete={"completed": _LATER}, settled=10.0)
        assert purge_all(store, late)[1] == ({"completed": 1} if what.archive else {})
        assert ids(store) == {"twice", "late", "cancelled", "started"}

    def test_what_is_appended_to_an_archived_saga_does_not_change_what_is_read(self, store: Store) -> None:
        """As by a process that was paused for a day, or repeats a commit whose answer was lost."""
        end(store, "s")
        before = store.load(["s"])
        purge_all(store, archive(completed=_LATER))
        store.commit(append(row("s", 1), changes=(change("s", "completed", active=False, ended_at=10.0),)))
        store.commit(append(row("s", 2, b"late"), changes=(change("s", "running"),)))
        assert store.load(["s"]) == before
        found = store.get("s")
        assert found is not None
        assert (found.status, found.ended_at) == ("completed", 10.0)

    @pytest.mark.usefixtures("narrow_purge")
    def test_a_purge_passes_by_what_stays_and_reaches_the_end(self, store: Store) -> None:
        """However many there are that only wait: each call looks at so many, and says where to go on."""
        store.commit(start(*(f"parked-{number}" for number in range(35))))
        end(store, *(f"ended-{number}" for number in range(8)))
        store.commit(start(*(f"young-{number}" for number in range(20))))
        assert purge_all(store, delete(completed=_LATER), limit=3) == ({}, {"completed": 8})
        assert len(ids(store)) == 55

    def test_no_open_or_stuck_saga_is_ever_touched(self, connect: OpenStore) -> None:
        """For any population and any rules; and exactly what may go goes."""
        store = connect()
        model: dict[str, Model] = {}
        numbers = itertools.count()

        @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(_populations, _purges, st.integers(1, 5))
        def check(population: list[Model], what: Purge, limit: int) -> None:
            for new in population:
                saga_id = f"s{next(numbers)}"
                _make(store, saga_id, new)
                model[saga_id] = new
            purge_all(store, what, limit=limit)
            for saga_id in list(model):
                after = model.pop(saga_id).after(what)
                if after is not None:
                    model[saga_id] = after
            _compare(store, model)

        check()
