"""How coordinators share permits, whatever they want: nobody has what is another's, and nobody starves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sagas.stores.memory import MemoryStore
from sagas.stores.port import Lease
from sagas.stores.sharing import Standing, plan

_STANDINGS = st.builds(Standing, st.integers(0, 8), st.one_of(st.none(), st.floats(0, 10)))
_OWNERS = "abcd"


def _store() -> MemoryStore:
    store = MemoryStore()
    for owner in _OWNERS:
        store.renew(Lease(owner, owner, 1e9), 0.0)
    return store


@given(
    slots=st.integers(1, 12),
    me=_STANDINGS,
    others=st.lists(_STANDINGS, max_size=5),
    used=st.integers(0, 8),
    want=st.integers(0, 12),
)
def test_a_plan_keeps_what_is_used_and_aims_at_no_more_than_is_wanted(
    slots: int, me: Standing, others: list[Standing], used: int, want: int
) -> None:
    planned = plan(slots, me, others, 10.0, used=used, want=want)
    assert planned.aim >= min(used, me.held)
    assert planned.aim <= max(want, min(used, me.held))
    assert 1 <= planned.share <= slots
    assert planned.reserved >= 0
    if not any(other.since is not None for other in others):
        assert (planned.share, planned.reserved, planned.starving) == (slots, 0, False)


@given(
    slots=st.integers(1, 6),
    turns=st.lists(
        st.tuples(st.sampled_from(_OWNERS), st.integers(0, 8), st.integers(0, 8), st.floats(0, 2)), max_size=60
    ),
)
def test_whatever_is_asked_no_permit_has_two_holders(slots: int, turns: list[tuple[str, int, int, float]]) -> None:
    """And nobody loses one that is in use."""
    store, held, now = _store(), dict.fromkeys(_OWNERS, 0), 0.0
    for owner, used, want, later in turns:
        now += later
        in_use = min(used, held[owner])
        holding = store.hold_permits("bank", owner, now, slots=slots, used=in_use, want=want)
        assert in_use <= holding.held <= max(want, in_use)
        held[owner] = holding.held
        assert sum(held.values()) <= slots


@given(slots=st.integers(1, 6), wants=st.lists(st.integers(0, 8), min_size=4, max_size=4), hog=st.integers(0, 3))
def test_whoever_keeps_asking_gets_his_share(slots: int, wants: list[int], hog: int) -> None:
    """Within a few rounds, if the others give back what is not in use; where there are too few, after each other."""
    store, now = _store(), 0.0
    most = dict.fromkeys(_OWNERS, 0)
    store.hold_permits("bank", _OWNERS[hog], now, slots=slots, used=0, want=slots)
    parties = sum(want > 0 for want in wants)
    for _ in range(4 * len(_OWNERS)):
        for owner, want in zip(_OWNERS, wants, strict=True):
            now += 0.1
            holding = store.hold_permits("bank", owner, now, slots=slots, used=0, want=want)
            most[owner] = max(most[owner], holding.held)
            if holding.starving and holding.share <= 1:
                store.hold_permits("bank", owner, now, slots=slots, used=0, want=0)
    for owner, want in zip(_OWNERS, wants, strict=True):
        assert most[owner] >= min(want, max(1, slots // max(1, parties)))
