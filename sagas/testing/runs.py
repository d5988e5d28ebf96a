"""A finished simulated run, and its story."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.core.commands import RunStep
from sagas.testing.stories import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.core.definitions import Step
    from sagas.core.operations import SagaCall
    from sagas.core.records import Record
    from sagas.testing.faults import Fault
    from sagas.testing.simulation.stage import Call, Entry, Opportunity, Report

__all__ = ["Broken", "Run", "Scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run is played from.

    Attributes:
        call: The saga with its input.
        faults: What goes wrong.
        answers: What the signals say, in the order in which they are sent; see ``play``.
    """

    call: SagaCall[Any]
    faults: tuple[Fault, ...] = ()
    answers: tuple[int, ...] = ()

    def but(self, fault: Fault) -> Scenario:
        """Gives the same with one more fault."""
        return replace(self, faults=(*self.faults, fault))

    def __repr__(self) -> str:
        faults = "".join(f", {fault!r}" for fault in self.faults)
        answers = f", answers={self.answers!r}" if any(self.answers) else ""
        return f"@reproduce({self.call!r}{faults}{answers})"


class Broken(NamedTuple):
    """A law that does not hold in a run.

    Attributes:
        law: Its name.
        how: What breaks it.
    """

    law: str
    how: str


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """See the module.

    Attributes:
        scenario: What it was played from.
        status: How it ended: ``completed``, ``compensated`` or ``stuck``; ``running`` if it did not.
        result: What the saga returned.
        error: Why it did not complete.
        world: What ``world()`` had made, as it was at the end.
        fired: The faults that happened.
        calls: Every call of a step, compensator or probe, in order.
        records: The journal.
        writers: Which process wrote each record.
        reports: What whoever asked for the saga was told, in order.
        opportunities: Where else something could have gone wrong.
        entries: The story, if it was watched.
        broken: The laws that do not hold.
        steps: The steps of the code that it began with, by name.
        sent: How many signals were sent, by name.
    """

    scenario: Scenario
    status: str
    result: object
    error: BaseException | None
    world: Any
    fired: tuple[Fault, ...]
    calls: Sequence[Call]
    records: Sequence[Record]
    writers: Sequence[str]
    reports: Sequence[Report]
    opportunities: Sequence[Opportunity]
    entries: Sequence[Entry]
    broken: list[Broken] = field(default_factory=list[Broken])
    steps: Mapping[str, Step[..., Any]] = field(default_factory=dict[str, "Step[..., Any]"])
    sent: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def missed(self) -> tuple[Fault, ...]:
        """Faults that were planned, and for which the run never came by."""
        return tuple(x for x in self.scenario.faults if x not in self.fired)

    @property
    def shape(self) -> tuple[tuple[str, str], ...]:
        """What happened, without times and payloads."""
        return tuple([(type(x.event).__name__, getattr(x.event, "path", "")) for x in self.records])

    def undone(self, step: str) -> bool:
        """Says whether a compensator of a step has run to its end."""
        return any(x.role == "undo" and x.step == step and x.acted for x in self.calls)

    def timeline(self, *, width: int | None = None) -> str:
        """Tells the story as a table: when, which process, what happens, and what of the world has changed by then.

        Args:
            width: How many letters a line may have; that of the terminal by default.
        """
        return "\n".join(table(self.entries, self._names(), width))

    def _names(self) -> dict[str, str]:
        """Names the steps, by their places."""
        commands = (x for record in self.records for x in record.commands)
        return {x.path: x.name for x in commands if isinstance(x, RunStep)}
