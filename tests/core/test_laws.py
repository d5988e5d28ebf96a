"""The laws of the design, held against random sagas (see ``laws.py`` for each), and the sagas that once broke one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from sagas.core.transitions import SagaState
from tests.core.corpus import CANCELLED_BESIDE_PIVOT, ONCE_BROKEN, do
from tests.core.crashes import check
from tests.core.host import Host, Story, stories
from tests.core.plans import Plan
from tests.core.timeline import timeline


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(story=stories())
def test_every_law_holds_for_any_saga_crashed_after_any_record(story: Story) -> None:
    """Random bodies, outcomes, orders, signals, cancels and operators; every prefix of the journal is a crash."""
    check(story)


@pytest.mark.parametrize("story", ONCE_BROKEN.values(), ids=ONCE_BROKEN)
def test_every_law_holds_for_what_once_broke_one(story: Story) -> None:
    """Minimal sagas for which a version of the core broke a law."""
    check(story)


def test_a_pivot_in_doubt_is_parked_though_nobody_waits_for_it() -> None:
    """It can be neither undone nor given up, so the saga is stuck, and not compensated."""
    host = Host(Story(["gather", do(1, ends=("rejected",)), do(2, "commit", ends=("doubt",))], operator="leave"))
    host.run()
    assert host.execution.state is SagaState.RUNNING_STUCK
    assert list(host.execution.halted) == ["1:1"]
    assert host.execution.may_attempt("1:1")
    host.close()


def test_a_cancel_is_not_lost_when_its_pivot_is_given_up() -> None:
    """The cancel waits for the pivot in flight; a sibling's failure ends that; then the cancel takes effect."""
    host = Host(CANCELLED_BESIDE_PIVOT)
    host.run()
    assert host.execution.state is SagaState.COMPENSATED
    assert host.execution.cause is not None
    assert host.execution.cause.type == "cancelled"


def test_side_by_side_branches_are_undone_side_by_side() -> None:
    """Their ends are undone at once, and each branch goes back on its own."""
    branches: Plan = ["gather", ["seq", do(1), do(2)], ["seq", do(3), do(4, undoes=("failed",))]]
    host = Host(Story(["seq", do(0), branches, ["raise"]], operator="leave"))
    host.run()
    undos = [(m.seq, m.tag) for m in timeline(host.journal.records()) if m.what == "undo"]
    assert {tag for seq, tag in undos if seq == undos[0][0]} == {2, 4}
    assert host.execution.state is SagaState.COMPENSATING_STUCK
    assert [tag for _, tag in undos] == [2, 4, 1]
