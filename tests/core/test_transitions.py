"""One table says what may follow what; anything else is refused, and changes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sagas.core
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.fibers import Entry
from sagas.core.transitions import SAGA, STEP, SagaState, SagaTrigger, StepState, StepTrigger, next_saga, next_step
from sagas.errors import IllegalTransition
from tests.core.host import Host, Story, stories
from tests.core.laws import snapshot


def reachable(table: dict[tuple[Any, Any], Any], start: Any) -> set[Any]:
    """Walks the table."""
    found = {start}
    while more := {after for (before, _), after in table.items() if before in found} - found:
        found |= more
    return found


@pytest.mark.parametrize("state", SagaState)
@pytest.mark.parametrize("trigger", SagaTrigger)
def test_a_saga_moves_only_as_the_table_says(state: SagaState, trigger: SagaTrigger) -> None:
    """Whatever the table does not name is illegal, and the error says what was kept."""
    if (state, trigger) in SAGA:
        assert next_saga(state, trigger, "s") is SAGA[state, trigger]
        return
    with pytest.raises(IllegalTransition, match="nothing was changed") as caught:
        next_saga(state, trigger, "s")
    assert (caught.value.state, caught.value.subject) == (state.value, "saga s")


@pytest.mark.parametrize("state", StepState)
@pytest.mark.parametrize("trigger", StepTrigger)
def test_a_step_moves_only_as_the_table_says(state: StepState, trigger: StepTrigger) -> None:
    """And where it may not move it stays."""
    entry = Entry("1", "x", None, b"{}", 0.0)
    entry.state = state
    if (state, trigger) in STEP:
        entry.move(trigger)
        assert entry.state is STEP[state, trigger] is next_step(state, trigger, "1")
        return
    with pytest.raises(IllegalTransition, match="nothing was changed"):
        entry.move(trigger)
    assert entry.state is state


def test_every_state_can_be_reached() -> None:
    """From where sagas and steps begin."""
    assert reachable(SAGA, SagaState.RUNNING) == set(SagaState)
    assert reachable(STEP, StepState.SCHEDULED) == set(StepState)


def test_only_completed_and_compensated_are_final() -> None:
    """Every other state of a saga leads on, and these two lead nowhere: what was reported never changes."""
    assert set(SagaState) - {before for before, _ in SAGA} == {SagaState.COMPLETED, SagaState.COMPENSATED}
    assert all(state.ended is (state in (SagaState.COMPLETED, SagaState.COMPENSATED)) for state in SagaState)


def test_what_is_undone_or_rejected_stays_so() -> None:
    """A step is undone once."""
    final = set(StepState) - {before for before, _ in STEP}
    assert final == {StepState.REJECTED, StepState.UNDONE, StepState.UNDO_SKIPPED}


def test_a_saga_that_is_undone_never_completes() -> None:
    """And one that passed its pivot is never undone."""
    undoing = reachable(SAGA, SagaState.COMPENSATING)
    assert undoing == {SagaState.COMPENSATING, SagaState.COMPENSATING_STUCK, SagaState.COMPENSATED}
    assert reachable(SAGA, SagaState.PIVOTED) == {SagaState.PIVOTED, SagaState.PIVOTED_STUCK, SagaState.COMPLETED}


def test_every_stuck_state_has_a_way_out() -> None:
    """An operator can always act."""
    assert all((state, SagaTrigger.RELEASE) in SAGA for state in SagaState if state.stuck)
    assert all(state.status == "stuck" for state in SagaState if state.stuck)


def test_the_table_holds_what_the_core_uses_and_nothing_else() -> None:
    """No trigger is missing, and none is dead."""
    code = "".join(x.read_text("utf-8") for x in Path(str(sagas.core.__file__)).parent.glob("*.py"))
    code_but_the_tables = re.sub(r"(?m)^    \(S.*$", "", code)
    for triggers, table in ((SagaTrigger, SAGA), (StepTrigger, STEP)):
        used = set(re.findall(rf"{triggers.__name__}\.([A-Z_]+)", code_but_the_tables))
        assert used == {trigger.name for _, trigger in table} == {x.name for x in triggers}


def _impossible(execution: Execution) -> list[e.Event]:
    """Lists events that a saga does not allow now."""
    error = e.ErrorInfo("x", "y")
    events: list[e.Event] = [e.StepSucceeded("99", b"1"), e.UndoSucceeded("99"), e.Recorded("99", b"1")]
    events += [e.TimerFired("99"), e.StepSkipped("99", "x"), e.LockGranted("99"), e.LockRefused("99", "x")]
    events += [e.LockGranted(path) for path in execution.locks.values() if not execution.waits_for_lock(path)]
    for path, entry in execution.steps.items():
        if entry.state is not StepState.SCHEDULED:
            events += [e.StepSucceeded(path, b"1"), e.StepRejected(path, error), e.StepInDoubt(path, error)]
            events += [e.StepBackedOff(path, 1, 0.0, True, error)]
        if entry.state is not StepState.UNDOING:
            events += [e.UndoSucceeded(path), e.UndoFailed(path, error), e.UndoBackedOff(path, 1, 0.0, error)]
        if entry.state is not StepState.PARKED:
            events += [e.StepRetried(path), e.StepSkipped(path, "x")]
        if entry.state is not StepState.UNDO_FAILED:
            events += [e.UndoRetried(path), e.UndoSkipped(path, "x")]
    return [*events, e.SagaStarted("interpret", "1", b"{}", "k"), e.SagaSubmitted("interpret", "1", b"{}", "k")]


@given(story=stories(), moves=st.integers(0, 30))
def test_an_illegal_event_changes_nothing(story: Story, moves: int) -> None:
    """Wherever the saga stands: it raises, and the saga is as it was, and goes on."""
    host, twin = Host(story), Host(story)
    for one in (host, twin):
        one.run(moves)
    before = snapshot(host.execution)
    for event in _impossible(host.execution):
        with pytest.raises(IllegalTransition):
            host.execution.apply(event, host.execution.at + 5)
        assert snapshot(host.execution) == before
    host.run()
    twin.run()
    assert host.journal.facts() == twin.journal.facts()
    host.close()
    twin.close()
