"""What became of broken compensators: which breakage some check noticed, and which none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Mutant", "Mutants"]

Fate = Literal["killed", "survived", "harmless", "never reached"]


class Mutant(NamedTuple):
    """A compensator, broken in one way.

    Attributes:
        step: Whose compensator it is.
        undo: Name of the compensator.
        breakage: What it does wrong.
        fate: ``killed`` (a check noticed), ``survived``, ``harmless`` (it leaves the same as the right one does), or
            ``never reached`` (it was not tried: no run came by what is broken).
        why: What noticed it; what is different, and nobody noticed; or what never happened.
        advice: Which kind of check would have noticed.
        runs: In how many runs it was tried.
    """

    step: str
    undo: str
    breakage: str
    fate: Fate
    why: str
    advice: str
    runs: int

    @property
    def name(self) -> str:
        """What ``accept=`` calls it."""
        return f"{self.undo} {self.breakage}"


@dataclass(frozen=True, slots=True)
class Mutants:
    """See the module; printed, a table.

    Attributes:
        saga: Name of the saga.
        all: Every one that was tried.
        never_undone: Steps with a compensator that were called, and undone in no run.
        runs: How many runs there were in all, those of the unbroken saga included.
        seed: Draws the same again.
    """

    saga: str
    all: tuple[Mutant, ...]
    never_undone: tuple[str, ...]
    runs: int
    seed: int

    @property
    def killed(self) -> tuple[Mutant, ...]:
        """Those that a check noticed."""
        return self._with("killed")

    @property
    def survivors(self) -> tuple[Mutant, ...]:
        """Those that do something else than the right one, or may do so, and that no check noticed."""
        return self._with("survived")

    @property
    def harmless(self) -> tuple[Mutant, ...]:
        """Those that leave a world just as the right one leaves it, so that there is nothing to notice."""
        return self._with("harmless")

    @property
    def unreached(self) -> tuple[Mutant, ...]:
        """Those of which no run came by what is broken."""
        return self._with("never reached")

    def _with(self, fate: Fate) -> tuple[Mutant, ...]:
        return tuple(x for x in self.all if x.fate == fate)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{len(found)} {what}"
            for what, found in (
                ("killed", self.killed),
                ("survived", self.survivors),
                ("harmless", self.harmless),
                ("never reached", self.unreached),
            )
            if found
        )
        lines = [f"saga {self.saga}: {len(self.all)} mutants: {counts or 'none'} (seed {self.seed})"]
        rows = [("compensator", "breakage", "fate", "noticed by"), *(_row(x) for x in self.all)]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines += ["", *("  ".join((*map(str.ljust, row, widths), row[3])).rstrip() for row in rows)]
        lines += self.explained()
        return "\n".join(lines)

    def explained(self) -> list[str]:
        """Says of each survivor what is different with it, and what would notice."""
        lines: list[str] = []
        for mutant in self.survivors:
            lines += ["", f"nothing notices if {mutant.name}", f"  {mutant.why}", f"  to notice: {mutant.advice}"]
        for step in self.never_undone:
            lines += ["", f"step {step} is undone in no run, so nothing is known of its compensator"]
        return lines


def _row(mutant: Mutant) -> tuple[str, str, str, str]:
    """Shows one in a table."""
    fate = "SURVIVED" if mutant.fate == "survived" else mutant.fate
    return mutant.undo, mutant.breakage, fate, "" if mutant.fate == "survived" else mutant.why
