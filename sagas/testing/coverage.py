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
    """

    runs: int = 0
    fired: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    offered: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    called: set[str] = field(default_factory=set[str])
    undone: set[str] = field(default_factory=set[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    _noted: set[tuple[str, tuple[str, ...]]] = field(default_factory=set[tuple[str, tuple[str, ...]]], repr=False)

    def add(self, run: Run) -> None:
        """Counts a run."""
        self.runs += 1
        self.outcomes[run.status] += 1
        for fault in run.fired:
            self.fired[fault.what, fault.at] += 1
        for at, _, options in run.opportunities:
            if (at, options) not in self._noted:
                self._noted.add((at, options))
                self.offered.update((what, at) for what in options)
        for call in run.calls:
            (self.undone if call.role == "undo" else self.called).add(call.step)

    @property
    def share(self) -> float:
        """Which share of the faults that could happen did, from 0 to 1."""
        return len(self.offered & set(self.fired)) / len(self.offered) if self.offered else 1.0

    @property
    def missing(self) -> list[tuple[str, str]]:
        """Faults that could have happened and never did, as ``(what, at)``."""
        return sorted(self.offered - set(self.fired), key=lambda x: (x[1], x[0]))
