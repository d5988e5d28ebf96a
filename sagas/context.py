"""What a running step can know about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from sagas.errors import OutsideSaga

__all__ = ["StepContext", "current_step", "running_step"]


@dataclass(slots=True)
class Pulse:
    """When a step last said that it is alive, and what it said.

    Attributes:
        at: When, in seconds, by ``now``.
        details: Whatever it last handed to ``heartbeat``; the next attempt in this process can read it.
        now: A clock that nobody sets, for any thread.
    """

    at: float = field(default_factory=time.monotonic)
    details: object = None
    now: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """The attempt that runs here.

    Attributes:
        saga_id: The saga.
        step: Name of the step.
        path: Its place in the saga.
        idempotency_key: The same for every attempt, and after every crash. Hand it to whoever does the work. A
            compensator has one of its own.
        undoes: In a compensator, the idempotency key of the step that it undoes; else ``None``.
        attempt: From 1; counted anew after a crash.
        deadline: POSIX time at which this attempt is given up; ``None`` if it has no timeout.
    """

    saga_id: str
    step: str
    path: str
    idempotency_key: str
    undoes: str | None
    attempt: int
    deadline: float | None
    pulse: Pulse = field(default_factory=Pulse, repr=False)

    def heartbeat(self, details: object = None) -> None:
        """Says that the step is alive; may be called from any thread.

        Args:
            details: How far it got, for the next attempt; kept in memory only.
        """
        self.pulse.details = details
        self.pulse.at = self.pulse.now()

    @property
    def last_heartbeat(self) -> object:
        """What the attempt before this one last handed to ``heartbeat``, or ``None``."""
        return self.pulse.details


# What makes the context, rather than the context itself, where few steps ask for it.
running_step: ContextVar[StepContext | Callable[[], StepContext] | None] = ContextVar(
    "sagas_running_step", default=None
)


def current_step() -> StepContext:
    """Gives the context of the step, compensator or probe that runs here.

    Raises:
        OutsideSaga: None does.
    """
    context = running_step.get()
    if context is None:
        raise OutsideSaga(
            "current_step() was called outside a running step. In a unit test, set "
            "sagas.context.running_step to a StepContext of your own"
        )
    return context if isinstance(context, StepContext) else context()
