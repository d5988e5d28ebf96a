"""The library itself is tested by what it ships for tests: its own mutants break a law in simulated runs."""

# ruff: noqa: SLF001 - a mutant changes what nobody else may touch
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sagas.coordinator import attempting, commits, coordinator, engine, local_invocation, parking, runtime
from sagas.coordinator.loading import read_history
from sagas.coordinator.writes import batch_of
from sagas.core import attempts, commands, execution, rollback, strands
from sagas.core import events as e
from sagas.core.definitions import Saga
from sagas.core.failures import describe
from sagas.core.fibers import Entry
from sagas.core.retry import Retry
from sagas.core.transitions import STEP, StepState, StepTrigger
from sagas.errors import StoreError
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Batch, Committed, JournalRow
from sagas.testing import CheckFailed, Fault, Scenario, Simulator, check
from sagas.testing.scenarios import further
from tests.testing.right_sagas import errand, patient, plain, talk, trip, view, world

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]

NOTHING = Committed(frozenset(), frozenset())


# --- durability -----------------------------------------------------------------------------------------------------


def dispatched_before_durable(patch: Patch) -> None:
    original = runtime.Runtime._append

    def append(self: runtime.Runtime, write: Any) -> Any:
        given, write.dispatch = write.dispatch, ()
        written = original(self, write)
        for command in given:
            self._hub.dispatch(self, command)
        return written

    patch.setattr(runtime.Runtime, "_append", append)


def reported_before_durable(patch: Patch) -> None:
    original = runtime.Runtime._append

    def append(self: runtime.Runtime, write: Any) -> Any:
        written = original(self, write)
        if self.execution.state.ended:
            self.reported = self.execution.state.status
            if self.changed is not None:
                self.changed.set()
        return written

    patch.setattr(runtime.Runtime, "_append", append)


def failed_commit_taken_for_done(patch: Patch) -> None:
    async def insist(self: commits.Commits, writes: list[Any]) -> Committed:
        try:
            batch = batch_of(writes)
            done: Committed = await self._calls.call(self._store.commit, batch, limiter=self._thread)
        except StoreError:
            return NOTHING
        return done

    patch.setattr(commits.Commits, "_insist", insist)


def failed_commit_forgotten(patch: Patch) -> None:
    async def insist(self: commits.Commits, writes: list[Any]) -> Committed:
        try:
            batch = batch_of(writes)
            done: Committed = await self._calls.call(self._store.commit, batch, limiter=self._thread)
        except StoreError:
            writes.clear()
            return NOTHING
        return done

    patch.setattr(commits.Commits, "_insist", insist)


def rows_of_a_batch_in_two_commits(patch: Patch) -> None:
    original = MemoryStore._commit

    def commit(self: MemoryStore, batch: Batch) -> Committed:
        if len(batch.rows) > 1:
            batch = Batch(new=batch.new, rows=batch.rows[:-1], changes=batch.changes, read=batch.read)
        return original(self, batch)

    patch.setattr(MemoryStore, "_commit", commit)


# --- owners ---------------------------------------------------------------------------------------------------------


def fence_not_told(patch: Patch) -> None:
    original = MemoryStore._commit
    patch.setattr(MemoryStore, "_commit", lambda self, batch: original(self, batch)._replace(fenced=frozenset()))


def fence_dropped(patch: Patch) -> None:
    original = MemoryStore._commit

    def commit(self: MemoryStore, batch: Batch) -> Committed:
        rows: list[JournalRow] = []
        for row in batch.rows:
            length = len(self._journal(row.saga_id)) + sum(x.saga_id == row.saga_id for x in rows)
            rows.append(row._replace(seq=length) if row.seq < length else row)
        return original(self, Batch(batch.new, rows, batch.changes, batch.read, batch.locks))

    patch.setattr(MemoryStore, "_commit", commit)


def taken_over_without_a_record(patch: Patch) -> None:
    def go_on(self: engine.Engine, row: Any, history: Any, execution: Any) -> None:
        saga = self.adopt(row, history, execution)
        for command in parking.outstanding(execution):
            self.dispatch(saga, command)

    patch.setattr(engine.Engine, "_go_on", go_on)


def live_owner_not_respected(patch: Patch) -> None:
    patch.setattr(MemoryStore, "alive", lambda self, owner, now: False)


def pause_not_noticed(patch: Patch) -> None:
    async def drop(self: engine.Engine) -> None: ...

    patch.setattr(engine.Engine, "drop_what_was_taken", drop)


def lapsed_lease_not_waited_for(patch: Patch) -> None:
    patch.setattr(attempting.Attempting, "lapsed", False)


# --- recovery -------------------------------------------------------------------------------------------------------


def _outstanding(patch: Patch, make: Callable[[Any], Sequence[Any]]) -> None:
    patch.setattr(engine, "outstanding", make)
    patch.setattr(parking, "outstanding", make)


def outstanding_commands_forgotten(patch: Patch) -> None:
    original = parking.outstanding
    _outstanding(patch, lambda run: [x for x in original(run) if isinstance(x, commands.StartTimer)])


def outstanding_undos_forgotten(patch: Patch) -> None:
    original = parking.outstanding
    _outstanding(patch, lambda run: [x for x in original(run) if not isinstance(x, commands.RunUndo)])


def timers_forgotten(patch: Patch) -> None:
    original = parking.outstanding
    _outstanding(patch, lambda run: [x for x in original(run) if not isinstance(x, commands.StartTimer)])


def pauses_of_steps_forgotten(patch: Patch) -> None:
    original = parking.outstanding
    _outstanding(
        patch,
        lambda run: [x for x in original(run) if not (isinstance(x, commands.StartTimer) and x.path in run.steps)],
    )


def finished_steps_repeated(patch: Patch) -> None:
    original = parking.outstanding

    def outstanding(run: execution.Execution) -> list[Any]:
        done = [x for x in run.steps.values() if x.state is StepState.SUCCEEDED]
        again = [commands.RunStep(x.path, x.name, x.step, x.arguments, x.scheduled_at) for x in done]
        return [*original(run), *again]

    _outstanding(patch, outstanding)


def redelivery_not_told(patch: Patch) -> None:
    original = execution.Execution.outstanding

    def outstanding(self: execution.Execution) -> list[Any]:
        return [replace(x, redelivered=False) if isinstance(x, commands.RunStep) else x for x in original(self)]

    patch.setattr(execution.Execution, "outstanding", outstanding)


def last_record_not_read(patch: Patch) -> None:
    original = read_history

    def read(saga_id: str, rows: Sequence[Any], codec: Any) -> Any:
        return original(saga_id, rows[:-1] if len(rows) > 1 else rows, codec)

    patch.setattr(engine, "read_history", read)


def attempts_counted_anew(patch: Patch) -> None:
    original = execution.Execution._step_backed_off

    def back_off(self: execution.Execution, event: e.StepBackedOff) -> None:
        original(self, event)
        self.steps[event.path].tried = 0

    patch.setitem(execution._REACTIONS, e.StepBackedOff, back_off)


# --- keys, signals, starts ------------------------------------------------------------------------------------------


def a_key_an_attempt(patch: Patch) -> None:
    original = local_invocation.LocalInvocation._context

    def context(self: Any, deadline: float | None, attempt: int) -> Any:
        made = original(self, deadline, attempt)
        return replace(made, idempotency_key=f"{made.idempotency_key}/{attempt}")

    patch.setattr(local_invocation.LocalInvocation, "_context", context)


def a_key_a_process(patch: Patch) -> None:
    original = local_invocation.LocalInvocation._context

    def context(self: Any, deadline: float | None, attempt: int) -> Any:
        made = original(self, deadline, attempt)
        return replace(made, idempotency_key=f"{made.idempotency_key}/{self._runtime._hub.owner}")

    patch.setattr(local_invocation.LocalInvocation, "_context", context)


def one_key_for_step_and_undo(patch: Patch) -> None:
    original = local_invocation.LocalInvocation._context

    def context(self: Any, deadline: float | None, attempt: int) -> Any:
        made = original(self, deadline, attempt)
        return replace(made, idempotency_key=made.idempotency_key.removesuffix(":undo"))

    patch.setattr(local_invocation.LocalInvocation, "_context", context)


def signal_given_twice(patch: Patch) -> None:
    original = runtime.Runtime.feed

    def feed(self: runtime.Runtime, event: e.Event, **options: Any) -> Any:
        written = original(self, event, **options)
        return original(self, event) if isinstance(event, e.SignalReceived) else written

    patch.setattr(runtime.Runtime, "feed", feed)


def mail_read_twice(patch: Patch) -> None:
    original = MemoryStore._commit

    def commit(self: MemoryStore, batch: Batch) -> Committed:
        kept = {x: self._mail[x] for x in batch.read if x in self._mail}
        done = original(self, batch)
        if not getattr(self, "mailed", False):
            self._mail |= kept
        return done

    patch.setattr(MemoryStore, "_commit", commit)


def other_input_taken_for_the_same(patch: Patch) -> None:
    async def is_same(self: Any, wish: Any, row: Any) -> bool:
        return True

    original = coordinator.Coordinator._wish

    def wish(self: Any, *args: Any) -> Any:
        return original(self, *args)._replace(fingerprint=b"same")

    patch.setattr(coordinator.Coordinator, "_wish", wish)
    patch.setattr(coordinator.Coordinator, "_is_same", is_same)


# --- rollback -------------------------------------------------------------------------------------------------------


def undo_in_forward_order(patch: Patch) -> None:
    def ready(self: Any) -> list[str]:
        if self.path is not None:
            return [self.path]
        left = [self.children[index] for index in sorted(self.children) if self.children[index].left]
        return [path for child in (left if self.side_by_side else left[:1]) for path in child.ready()]

    patch.setattr(rollback._Node, "ready", ready)


def undo_does_not_wait(patch: Patch) -> None:
    patch.setattr(rollback.UndoOrder, "first", lambda self: list(self._leaves))
    original = rollback.UndoOrder.undone

    def undone(self: rollback.UndoOrder, path: str) -> list[str]:
        original(self, path)
        return []

    patch.setattr(rollback.UndoOrder, "undone", undone)


def doubt_not_undone(patch: Patch) -> None:
    patch.setattr(Entry, "undoable", property(lambda x: x.state is StepState.SUCCEEDED and not x.final and x.has_undo))


def doubt_taken_for_rejection(patch: Patch) -> None:
    patch.setattr(attempts.StepAttempts, "_in_doubt", attempts.StepAttempts._rejected)


def rejected_steps_undone(patch: Patch) -> None:
    patch.setitem(STEP, (StepState.REJECTED, StepTrigger.UNDO), StepState.UNDOING)
    states = (StepState.SUCCEEDED, StepState.IN_DOUBT, StepState.REJECTED)
    patch.setattr(Entry, "undoable", property(lambda x: x.state in states and not x.final and x.has_undo))


def pivot_ignored(patch: Patch) -> None:
    patch.setattr(execution.Execution, "_pivot", lambda *_: None)


def failed_undo_taken_for_done(patch: Patch) -> None:
    original = attempts.UndoAttempts.failed

    def failed(self: attempts.UndoAttempts, *args: Any, **options: Any) -> Any:
        found = original(self, *args, **options)
        if isinstance(found, attempts.Done) and isinstance(found.event, e.UndoFailed):
            return attempts.Done(e.UndoSucceeded(found.event.path))
        return found

    patch.setattr(attempts.UndoAttempts, "failed", failed)


def undo_given_up_at_once(patch: Patch) -> None:
    def failed(self: attempts.UndoAttempts, error: BaseException, *_: Any, **__: Any) -> Any:
        return attempts.Done(e.UndoFailed(self._command.path, describe(error)))

    patch.setattr(attempts.UndoAttempts, "failed", failed)


def undo_tried_too_often(patch: Patch) -> None:
    original = attempts.UndoAttempts.failed

    def failed(self: attempts.UndoAttempts, *args: Any, **options: Any) -> Any:
        if self._tried == 1 and not self._log:
            return original(self, *args, **options)
        self._tried -= 1 if len(self._log) == 1 else 0
        return original(self, *args, **options)

    patch.setattr(attempts.UndoAttempts, "failed", failed)


def undo_tried_for_ever(patch: Patch) -> None:
    original = attempts.UndoAttempts.__init__

    def init(self: attempts.UndoAttempts, command: commands.RunUndo) -> None:
        original(self, command)
        self._retry = Retry(attempts=None)

    patch.setattr(attempts.UndoAttempts, "__init__", init)


def cancel_ignored(patch: Patch) -> None:
    patch.setitem(execution._REACTIONS, e.CancelRequested, lambda self, event: None)


def siblings_not_stopped(patch: Patch) -> None:
    def decide(self: strands.Strands, group: Any) -> None:
        group.decided = True
        group.more = []

    patch.setattr(strands.Strands, "_decide", decide)


def siblings_not_waited_for(patch: Patch) -> None:
    original = strands.Strands._decide

    def decide(self: strands.Strands, group: Any) -> None:
        original(self, group)
        if group.kind == "gather" and group.left > 0:
            group.left = 0
            self._group_ended(group)

    patch.setattr(strands.Strands, "_decide", decide)


DURABLE = "nothing is begun before its cause is durable, or again after its end"
ENDS = "it terminates"
SAME = "a body does the same every time"
TRUE = "the journal says what happened"
BUDGET = "nothing is tried more often, or less, than its budget says"

# Each with a right saga that shows it, and the laws of which one has to say so.
MUTANTS: dict[Mutant, tuple[Saga[..., Any], tuple[str, ...]]] = {
    dispatched_before_durable: (plain, (DURABLE,)),
    reported_before_durable: (plain, ("nothing is reported before it is durable",)),
    failed_commit_taken_for_done: (plain, (DURABLE,)),
    failed_commit_forgotten: (plain, (ENDS,)),
    rows_of_a_batch_in_two_commits: (trip, (DURABLE, ENDS)),
    fence_not_told: (plain, ("nothing is reported before it is durable",)),
    fence_dropped: (plain, (ENDS, "one owner writes")),
    taken_over_without_a_record: (plain, ("one owner writes",)),
    live_owner_not_respected: (plain, ("one owner writes", DURABLE)),
    pause_not_noticed: (plain, (DURABLE,)),
    lapsed_lease_not_waited_for: (plain, (DURABLE,)),
    outstanding_commands_forgotten: (plain, (ENDS,)),
    outstanding_undos_forgotten: (plain, (ENDS,)),
    timers_forgotten: (trip, (ENDS,)),
    pauses_of_steps_forgotten: (plain, (ENDS,)),
    finished_steps_repeated: (plain, (DURABLE, "one owner writes")),
    redelivery_not_told: (plain, (TRUE,)),
    last_record_not_read: (plain, (ENDS,)),
    attempts_counted_anew: (plain, (BUDGET,)),
    a_key_an_attempt: (plain, ("one idempotency key a step",)),
    a_key_a_process: (plain, ("one idempotency key a step", "undone is as if it had never been")),
    one_key_for_step_and_undo: (plain, ("one idempotency key a step",)),
    signal_given_twice: (talk, ("a signal is received once",)),
    mail_read_twice: (talk, ("a signal is received once",)),
    other_input_taken_for_the_same: (plain, ("an id stands for one saga",)),
    undo_in_forward_order: (plain, ("undo goes in reverse causal order",)),
    undo_does_not_wait: (plain, ("undo goes in reverse causal order",)),
    doubt_not_undone: (plain, ("compensated means undone",)),
    doubt_taken_for_rejection: (plain, (TRUE,)),
    rejected_steps_undone: (plain, ("undo goes in reverse causal order",)),
    pivot_ignored: (errand, ("nothing before a pivot is undone",)),
    failed_undo_taken_for_done: (plain, (TRUE,)),
    undo_given_up_at_once: (plain, (BUDGET,)),
    undo_tried_too_often: (plain, (BUDGET,)),
    undo_tried_for_ever: (plain, (ENDS, BUDGET)),
    cancel_ignored: (plain, ("cancelling compensates",)),
    siblings_not_stopped: (patient, ("a failure stops what runs beside it",)),
    siblings_not_waited_for: (patient, ("undo goes in reverse causal order",)),
}


# Those that one fault does not show; a check finds them by chance, and here it is not to take so long.
SHOWN_BY: dict[Mutant, tuple[Fault, ...]] = {
    pauses_of_steps_forgotten: (Fault("error", at="reserve"), Fault("crash after", at="commit", nth=2)),
    redelivery_not_told: (Fault("crash after", at="charge"), Fault("rejected", at="charge", nth=2)),
    siblings_not_stopped: (Fault("slow", at="book"), Fault("rejected", at="charge")),
}


def broken_by(saga: Saga[..., Any], runs: int = 200) -> set[str]:
    """Names the laws that the first wrong run of a saga breaks, while every fault happens once at every place."""
    simulator = Simulator(saga, world=world, view=view)
    queue = deque([simulator.run(Scenario(saga(1)))])
    tried: set[Fault] = set()
    count = 0
    while queue and count < runs:
        run = queue.popleft()
        if run.broken:
            return {x.law for x in run.broken}
        for _, fault in further(run):
            if fault not in tried:
                tried.add(fault)
                count += 1
                queue.append(simulator.run(replace(run.scenario, faults=(*run.scenario.faults, fault))))
                if queue[-1].broken:
                    return {x.law for x in queue[-1].broken}
    return set()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_breaks_a_law(mutant: Mutant, monkeypatch: Patch) -> None:
    saga, laws = MUTANTS[mutant]
    mutant(monkeypatch)
    if mutant in SHOWN_BY:
        run = Simulator(saga, world=world, view=view).run(Scenario(saga(1), SHOWN_BY[mutant]))
        broken = {x.law for x in run.broken}
    else:
        broken = broken_by(saga)
    assert broken & set(laws)


@pytest.mark.parametrize(
    ("mutant", "law"),
    [(dispatched_before_durable, DURABLE), (undo_in_forward_order, "undo goes in reverse causal order")],
)
def test_a_check_of_a_user_finds_it_too(mutant: Mutant, law: str, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    with pytest.raises(CheckFailed) as caught:
        check(plain, world=world, view=view, runs=200, seed=1)
    assert caught.value.law == law


@pytest.mark.parametrize("saga", [plain, trip, errand, talk, patient], ids=lambda saga: saga.name)
def test_without_a_mutant_no_law_is_broken(saga: Saga[..., Any]) -> None:
    assert broken_by(saga) == set()
