"""Which steps are slower, or fail more often, than they used to.

The rule is the same for both: a part of the attempts is compared with the same part before, by the test of two
proportions. For failures it is those that failed; for slowness those that took longer than 95 % did before. A step is
unusual if the part has grown by half at least, and by three standard errors, which chance alone does in one of 740
cases; and if there are enough attempts to say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.coordinator.tallies import Attempts, Tallies

__all__ = ["LEAST", "LEAST_PAST", "Unusual", "find_unusual"]

# How many attempts there have to be, now and before.
LEAST, LEAST_PAST = 20, 50
_ERRORS, _GROWTH = 3.0, 1.5
_SLOW = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusual:
    """A step that is not as it used to be.

    Attributes:
        saga: Name of the saga.
        step: Name of the step.
        undo: Whether it is the step's compensator.
        what: ``slower`` or ``failing``.
        part: The part of the attempts that failed, or took longer than ``p95_before``.
        part_before: The same before.
        attempts: How many there were.
        attempts_before: How many there were before.
        p95: Seconds that 95 % of the attempts did not exceed.
        p95_before: The same before.
    """

    saga: str
    step: str
    undo: bool
    what: Literal["slower", "failing"]
    part: float
    part_before: float
    attempts: int
    attempts_before: int
    p95: float
    p95_before: float


def find_unusual(now: Tallies, past: Tallies) -> tuple[Unusual, ...]:
    """Compares every step and undo with its own past."""
    found: list[Unusual] = []
    for (saga, step), tally in sorted(now.steps.items()):
        before = past.steps.get((saga, step))
        if before is not None:
            found += _compare(saga, step, tally.made, before.made, undo=False)
            found += _compare(saga, step, tally.undos, before.undos, undo=True)
    return tuple(found)


def _compare(saga: str, step: str, now: Attempts, past: Attempts, *, undo: bool) -> Iterator[Unusual]:
    """Says in what way attempts are unusual."""
    count, before = now.durations.count, past.durations.count
    p95, p95_before = now.durations.quantile(_SLOW), past.durations.quantile(_SLOW)
    if count < LEAST or before < LEAST_PAST or p95 is None or p95_before is None:
        return
    slow, slow_before = now.durations.above(p95_before), past.durations.above(p95_before)
    parts: tuple[tuple[Literal["slower", "failing"], int, int, bool], ...] = (
        ("failing", now.failed, past.failed, True),
        ("slower", slow, slow_before, p95 >= _GROWTH * p95_before),
    )
    for what, some, some_before, matters in parts:
        if matters and _has_grown(some, count, some_before, before):
            yield Unusual(
                saga=saga, step=step, undo=undo, what=what, part=some / count, part_before=some_before / before,
                attempts=count, attempts_before=before, p95=p95, p95_before=p95_before,
            )  # fmt: skip


def _has_grown(some: int, count: int, some_before: int, before: int) -> bool:
    """Says whether a part is larger than before, by more than chance does."""
    part, part_before = some / count, some_before / before
    together = (some + some_before) / (count + before)
    error = math.sqrt(together * (1 - together) * (1 / count + 1 / before))
    return part >= _GROWTH * part_before and part - part_before > _ERRORS * error
