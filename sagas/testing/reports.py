"""What a check has tried, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.testing.coverage import Coverage

__all__ = ["Report"]

_MOST_ITEMS = 12


@dataclass(frozen=True, slots=True)
class Report:
    """What a check has tried.

    Attributes:
        coverage: What happened in its runs.
        never_called: Steps that the saga can see, and never called.
        never_undone: Steps with a compensator that were called and never undone.
        never_run: Lines of the body that never ran.
        left_behind: Steps without a compensator that acted in runs which were compensated. What they did is left
            there, which ``view`` takes for right.
        seed: Draws the same again.
    """

    coverage: Coverage
    never_called: tuple[str, ...]
    never_undone: tuple[str, ...]
    never_run: tuple[str, ...]
    seed: int
    left_behind: tuple[str, ...] = ()

    def __str__(self) -> str:
        coverage = self.coverage
        ends = ", ".join(f"{count} {status}" for status, count in sorted(coverage.outcomes.items()))
        lines = [
            (
                f"{coverage.runs} runs ({ends}); {coverage.share:.0%} of {len(coverage.offered)} faults happened; "
                f"seed {self.seed}"
            )
        ]
        kinds: dict[str, int] = {}
        for (what, _), count in coverage.fired.items():
            kinds[what] = kinds.get(what, 0) + count
        if coverage.runs and not coverage.outcomes["completed"]:
            why = f"; without any fault, {coverage.error}" if coverage.error is not None else ""
            lines.append(f"no run completed: nothing is known of how the saga succeeds{why}")
        lines.append("faults: " + (", ".join(f"{what} {count}x" for what, count in sorted(kinds.items())) or "none"))
        for title, items in (
            ("steps never called", self.never_called),
            ("steps never undone", self.never_undone),
            ("lines of the body never run", self.never_run),
            ("steps without a compensator, whose effects stay when a saga is compensated", self.left_behind),
            ("faults that never happened", [f"{what} at {at}" for what, at in coverage.missing]),
        ):
            if items:
                lines.append(f"{title}: {_listed(items)}")
        return "\n".join(lines)


def _listed(items: Sequence[str]) -> str:
    """Lists some items, and says how many more there are."""
    more = len(items) - _MOST_ITEMS
    return "; ".join(items) if more <= 0 else f"{'; '.join(items[:_MOST_ITEMS])}; and {more} more"
