"""What a check has tried, and what it has not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sagas.testing.runs import Run

__all__ = ["Coverage"]


@dataclass(slots=True)
class Coverage:
    """See the module.

    Attributes:
        runs: How many runs there were.
        fired: How often each fault happened at each place, as ``(what, at)``.
        offered: Every fault that could have happened somewhere.
        called: Steps that were called.
        undone: Steps that were undone.
        outcomes: How runs ended.
        error: What the first run raised, if it was no fault that caused that.
        left_behind: Steps without a compensator that acted in runs which were compensated.
    """

    runs: int = 0
    fired: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    offered: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    called: set[str] = field(default_factory=set[str])
    undone: set[str] = field(default_factory=set[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    _noted: set[tuple[str, tuple[str, ...]]] = field(default_factory=set[tuple[str, tuple[str, ...]]], repr=False)
    error: BaseException | None = None
    left_behind: set[str] = field(default_factory=set[str])

    def add(self, run: Run) -> None:
        """Counts a run."""
        self.runs += 1
        if self.error is None and not run.scenario.faults:
            self.error = run.error
        self.outcomes[run.status] += 1
        for fault in run.fired:
            self.fired[fault.what, fault.at] += 1
        for at, _, options in run.opportunities:
            if (at, options) not in self._noted:
                self._noted.add((at, options))
                self.offered.update((what, at) for what in options)
        for call in run.calls:
            (self.undone if call.role == "undo" else self.called).add(call.step)
            if call.acted and call.role == "step" and run.status == "compensated":
                self._note_left_behind(call.step, run)

    def _note_left_behind(self, name: str, run: Run) -> None:
        """Notes a step whose effect nothing takes back."""
        step = run.steps.get(name)
        if step is not None and step.undo is None:
            self.left_behind.add(name)

    @property
    def share(self) -> float:
        """Which share of the faults that could happen did, from 0 to 1."""
        return len(self.offered & set(self.fired)) / len(self.offered) if self.offered else 1.0

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Faults that could have happened and never did, as ``(what, at)``."""
        return sorted(self.offered - set(self.fired), key=lambda x: (x[1], x[0]))
