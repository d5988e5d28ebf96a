"""Every legal transition of a saga and of a step. Nothing else in this library changes a state.

The diagrams in the documentation are generated from these two tables.
"""

from __future__ import annotations

from enum import Enum

from sagas.errors import IllegalTransition

__all__ = ["SAGA", "STEP", "SagaState", "SagaTrigger", "StepState", "StepTrigger", "next_saga", "next_step"]


class _Word(Enum):
    """A member of a table's key: compared, and so hashed, by identity, which spares every event a slow hash."""

    __hash__ = object.__hash__


class SagaState(_Word):
    """Where a saga stands."""

    RUNNING = "running"
    PIVOTED = "pivoted"
    COMPENSATING = "compensating"
    RUNNING_STUCK = "running, stuck"
    PIVOTED_STUCK = "pivoted, stuck"
    COMPENSATING_STUCK = "compensating, stuck"
    COMPLETED = "completed"
    COMPENSATED = "compensated"

    @property
    def ended(self) -> bool:
        """Whether nothing can change any more."""
        return self in _ENDED

    @property
    def stuck(self) -> bool:
        """Whether an operator has to act."""
        return self in _STUCK

    @property
    def status(self) -> str:
        """The word for it that users see."""
        return _STATUS[self]


_ENDED = frozenset({SagaState.COMPLETED, SagaState.COMPENSATED})
_STUCK = frozenset({SagaState.RUNNING_STUCK, SagaState.PIVOTED_STUCK, SagaState.COMPENSATING_STUCK})
_STATUS = {state: "stuck" if state in _STUCK else state.value for state in SagaState} | {SagaState.PIVOTED: "running"}


class SagaTrigger(_Word):
    """What moves a saga."""

    PIVOT = "a pivot succeeded"
    COMPLETE = "the body returned"
    FAIL = "the body failed"
    STOP = "cancelled or timed out"
    HALT = "a step or undo needs an operator"
    RELEASE = "the operator acted"
    UNDO = "everything is undone"


class StepState(_Word):
    """Where a step stands."""

    SCHEDULED = "scheduled"
    BACKING_OFF = "backing off"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    IN_DOUBT = "in doubt"
    PARKED = "parked"
    UNDOING = "undoing"
    UNDO_BACKING_OFF = "undo backing off"
    UNDO_FAILED = "undo failed"
    UNDONE = "undone"
    UNDO_SKIPPED = "undo skipped"


class StepTrigger(_Word):
    """What moves a step."""

    SUCCEED = "it acted"
    REJECT = "it definitely did not act"
    DOUBT = "nobody knows whether it acted"
    BACK_OFF = "a long pause before the next attempt"
    WAKE = "the pause is over"
    PARK = "it cannot be undone, so an operator decides"
    RETRY = "the operator retries it"
    SKIP = "the operator says it did not act"
    UNDO = "its turn in the rollback"
    UNDO_SUCCEED = "its compensator returned"
    UNDO_BACK_OFF = "a long pause before the next undo"
    UNDO_WAKE = "the pause before the undo is over"
    UNDO_FAIL = "its compensator used up its budget"
    UNDO_RETRY = "the operator retries the undo"
    UNDO_SKIP = "the operator skips the undo"


SAGA: dict[tuple[SagaState, SagaTrigger], SagaState] = {
    (SagaState.RUNNING, SagaTrigger.PIVOT): SagaState.PIVOTED,
    (SagaState.RUNNING, SagaTrigger.COMPLETE): SagaState.COMPLETED,
    (SagaState.RUNNING, SagaTrigger.FAIL): SagaState.COMPENSATING,
    (SagaState.RUNNING, SagaTrigger.STOP): SagaState.COMPENSATING,
    (SagaState.RUNNING, SagaTrigger.HALT): SagaState.RUNNING_STUCK,
    (SagaState.RUNNING_STUCK, SagaTrigger.HALT): SagaState.RUNNING_STUCK,
    (SagaState.RUNNING_STUCK, SagaTrigger.RELEASE): SagaState.RUNNING,
    (SagaState.RUNNING_STUCK, SagaTrigger.PIVOT): SagaState.PIVOTED_STUCK,
    (SagaState.RUNNING_STUCK, SagaTrigger.STOP): SagaState.COMPENSATING_STUCK,
    (SagaState.PIVOTED, SagaTrigger.PIVOT): SagaState.PIVOTED,
    (SagaState.PIVOTED, SagaTrigger.COMPLETE): SagaState.COMPLETED,
    (SagaState.PIVOTED, SagaTrigger.FAIL): SagaState.PIVOTED_STUCK,
    (SagaState.PIVOTED, SagaTrigger.HALT): SagaState.PIVOTED_STUCK,
    (SagaState.PIVOTED_STUCK, SagaTrigger.PIVOT): SagaState.PIVOTED_STUCK,
    (SagaState.PIVOTED_STUCK, SagaTrigger.HALT): SagaState.PIVOTED_STUCK,
    (SagaState.PIVOTED_STUCK, SagaTrigger.RELEASE): SagaState.PIVOTED,
    (SagaState.COMPENSATING, SagaTrigger.HALT): SagaState.COMPENSATING_STUCK,
    (SagaState.COMPENSATING, SagaTrigger.UNDO): SagaState.COMPENSATED,
    (SagaState.COMPENSATING_STUCK, SagaTrigger.HALT): SagaState.COMPENSATING_STUCK,
    (SagaState.COMPENSATING_STUCK, SagaTrigger.RELEASE): SagaState.COMPENSATING,
}

STEP: dict[tuple[StepState, StepTrigger], StepState] = {
    (StepState.SCHEDULED, StepTrigger.SUCCEED): StepState.SUCCEEDED,
    (StepState.SCHEDULED, StepTrigger.REJECT): StepState.REJECTED,
    (StepState.SCHEDULED, StepTrigger.DOUBT): StepState.IN_DOUBT,
    (StepState.SCHEDULED, StepTrigger.BACK_OFF): StepState.BACKING_OFF,
    (StepState.SCHEDULED, StepTrigger.PARK): StepState.PARKED,
    (StepState.BACKING_OFF, StepTrigger.WAKE): StepState.SCHEDULED,
    (StepState.BACKING_OFF, StepTrigger.REJECT): StepState.REJECTED,
    (StepState.BACKING_OFF, StepTrigger.DOUBT): StepState.IN_DOUBT,
    (StepState.PARKED, StepTrigger.RETRY): StepState.SCHEDULED,
    (StepState.PARKED, StepTrigger.SKIP): StepState.REJECTED,
    (StepState.PARKED, StepTrigger.REJECT): StepState.REJECTED,
    (StepState.PARKED, StepTrigger.DOUBT): StepState.IN_DOUBT,
    (StepState.SUCCEEDED, StepTrigger.UNDO): StepState.UNDOING,
    (StepState.IN_DOUBT, StepTrigger.UNDO): StepState.UNDOING,
    (StepState.UNDOING, StepTrigger.UNDO_SUCCEED): StepState.UNDONE,
    (StepState.UNDOING, StepTrigger.UNDO_BACK_OFF): StepState.UNDO_BACKING_OFF,
    (StepState.UNDOING, StepTrigger.UNDO_FAIL): StepState.UNDO_FAILED,
    (StepState.UNDO_BACKING_OFF, StepTrigger.UNDO_WAKE): StepState.UNDOING,
    (StepState.UNDO_FAILED, StepTrigger.UNDO_RETRY): StepState.UNDOING,
    (StepState.UNDO_FAILED, StepTrigger.UNDO_SKIP): StepState.UNDO_SKIPPED,
}


def next_saga(state: SagaState, trigger: SagaTrigger, saga: str) -> SagaState:
    """Looks up where a trigger leads a saga.

    Raises:
        IllegalTransition: Nowhere.
    """
    target = SAGA.get((state, trigger))
    if target is None:
        raise IllegalTransition(state.value, f"{trigger.name} ({trigger.value})", f"saga {saga}")
    return target


def next_step(state: StepState, trigger: StepTrigger, path: str) -> StepState:
    """Looks up where a trigger leads a step.

    Raises:
        IllegalTransition: Nowhere.
    """
    target = STEP.get((state, trigger))
    if target is None:
        raise IllegalTransition(state.value, f"{trigger.name} ({trigger.value})", f"step {path}")
    return target
