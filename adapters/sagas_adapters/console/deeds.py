"""What an operator can do to a saga."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from sagas.coordinator.views import SagaView, StepView

__all__ = ["DEEDS", "HALTED", "Deed", "concerned", "impossible", "only_forward", "possible"]

# States of a step that halts its saga.
HALTED: Final = ("undo failed", "parked")


class Deed(NamedTuple):
    """Something that can be done.

    Attributes:
        label: What it is called.
        means: What becomes of the saga.
        reason: Whether somebody has to say why.
        dangerous: Whether what it does cannot be taken back, or rests on the operator's word.
    """

    label: str
    means: str
    reason: Literal["needed", "welcome", "none"]
    dangerous: bool = False


DEEDS: Final[Mapping[str, Deed]] = {
    "retry": Deed("Try again", "What halts the saga is tried again, with a new budget of attempts.", "welcome"),
    "skip": Deed(
        "Skip",
        "The saga goes on without what halts it. You vouch that nothing is left to undo there: that you undid it by "
        "hand, say, or that the step did not act. This cannot be taken back.",
        "needed",
        dangerous=True,
    ),
    "resume": Deed(
        "Resume",
        "The saga goes on with the code that its coordinator has now, if that fits its journal; else nothing is "
        "changed.",
        "welcome",
    ),
    "signal": Deed("Send a signal", "The signal is kept until the saga receives it.", "welcome"),
    "cancel": Deed(
        "Cancel", "Everything that the saga did is undone. This cannot be taken back.", "needed", dangerous=True
    ),
}


def only_forward(saga: SagaView) -> bool:
    """Says whether a saga has passed its pivot, so that nothing before that is undone."""
    return any(step.pivot and step.outcome == "succeeded" for step in saga.steps)


def possible(saga: SagaView) -> tuple[str, ...]:
    """Says what can be done to a saga as it stands."""
    return tuple(do for do in ("retry", "skip", "resume", "signal", "cancel") if not impossible(saga, do))


def impossible(saga: SagaView, do: str, path: str = "") -> str:
    """Says why something cannot be done to a saga as it stands, or at a step of it; ``""`` if it can."""
    if saga.ended_at is not None:
        return f"It has ended: {saga.status}."
    if do in ("retry", "skip", "resume") and saga.status != "stuck":
        return f"It is {saga.status}, not stuck, so there is nothing to {do}."
    if do in ("retry", "skip") and path and not concerned(saga, path):
        return f"Nothing at {path} waits for an operator."
    if do == "skip" and not concerned(saga, ""):
        return "No step of it waits for an operator: its code has to go on, so resume it when that is mended."
    return _no_way_back(saga) if do == "cancel" else ""


def _no_way_back(saga: SagaView) -> str:
    """Says why a saga cannot be cancelled, or ``""``."""
    if only_forward(saga):
        return "It has passed its pivot, so it can only go forward."
    undoing = saga.status == "compensating" or any(step.state.startswith("und") for step in saga.steps)
    return "It is being undone already." if undoing else ""


def concerned(saga: SagaView, path: str) -> list[StepView]:
    """Gives the steps that halt a saga; only that of a path, if it is given."""
    return [step for step in saga.steps if step.state in HALTED and path in ("", step.path)]
