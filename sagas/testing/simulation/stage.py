"""What happens in one run: the faults that are planned, the calls that are made, and the story of it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.core.definitions import Step
from sagas.core.failures import one_line
from sagas.testing.faults import COMMIT, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from sagas.core.definitions import Compensator, Probe
    from sagas.stores.port import JournalRow
    from sagas.testing.faults import Fault
    from sagas.testing.simulation.loop import Time

__all__ = ["Call", "Entry", "Opportunity", "Report", "Stage"]


# More than the attempts of most, so that they are used up first, and not without end for those that never are.
_PATIENCE = 12


class Opportunity(NamedTuple):
    """A place that a run came by, and what could have gone wrong there.

    Attributes:
        at: See ``Fault``.
        nth: See ``Fault``.
        options: Kinds of faults.
    """

    at: str
    nth: int
    options: tuple[str, ...]


class Entry(NamedTuple):
    """A line of the story.

    Attributes:
        time: Seconds since the beginning.
        process: Which one; ``""`` for the world outside.
        what: What happened.
        view: What the world held then, as text by name of the part; see ``stories.snapshot``.
    """

    time: float
    process: str
    what: str
    view: Mapping[str, str]


@dataclass(slots=True)
class Call:
    """One call of a step, a compensator or a probe.

    Attributes:
        role: ``step``, ``undo`` or ``probe``.
        step: Name of the step.
        path: Its place in the saga.
        key: Its idempotency key.
        arguments: What it was called with.
        process: Where it ran.
        began: How many records were durable by then.
        acted: How often the function ran to its end.
        result: What it gave.
        error: What it raised, or was made to.
    """

    role: str
    step: str
    path: str
    key: str
    arguments: Mapping[str, object]
    process: str
    began: int
    acted: int = 0
    result: object = None
    error: BaseException | None = None


class Report(NamedTuple):
    """What whoever asked for the saga was told.

    Attributes:
        status: ``completed``, ``compensated`` or ``stuck``.
        value: The result, or why there is none.
        records: How many records were durable by then.
    """

    status: str
    value: object
    records: int


@dataclass(slots=True)
class Stage:
    """See the module.

    Attributes:
        time: Virtual time.
        faults: The plan.
        commit: What can go wrong with a commit.
        late: See ``options_of``.
        look: Gives what the world holds, for the story; ``None`` if nobody wants one.
        watch: Called after every record and effect.
        mutation: Replaces compensators; see ``mutating``.
        visits: How often each place was visited.
        opportunities: Every place that was visited, in order.
        fired: Faults that happened.
        broken: Places that stay broken until an operator repairs them, and how.
        suffered: How often each of them was in vain.
        calls: Every call.
        rows: What was made durable, in order.
        writers: Which process wrote each.
        reports: What was reported to the caller, in order.
        entries: The story.
        pivoted: Whether a pivot has succeeded.
        of_one: What can go wrong with a commit of a single record.
        problems: Laws that were seen broken while it ran, with what broke them.
        sent: How many signals were sent, by name.
    """

    time: Time
    faults: tuple[Fault, ...]
    commit: tuple[str, ...] = COMMIT
    late: bool = False
    look: Callable[[], Mapping[str, str]] | None = None
    watch: Callable[[], None] | None = None
    mutation: Callable[..., Any] | None = None
    began: float = 0.0
    visits: dict[str, int] = field(default_factory=dict[str, int])
    opportunities: list[Opportunity] = field(default_factory=list[Opportunity])
    fired: list[Fault] = field(default_factory=list["Fault"])
    broken: dict[str, str] = field(default_factory=dict[str, str])
    suffered: dict[str, int] = field(default_factory=dict[str, int])
    calls: list[Call] = field(default_factory=list[Call])
    rows: list[JournalRow] = field(default_factory=list["JournalRow"])
    writers: list[str] = field(default_factory=list[str])
    reports: list[Report] = field(default_factory=list[Report])
    entries: list[Entry] = field(default_factory=list[Entry])
    pivoted: bool = False
    problems: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    sent: dict[str, int] = field(default_factory=dict[str, int])
    of_one: tuple[str, ...] = ()
    _options: dict[object, tuple[str, ...]] = field(default_factory=dict[object, "tuple[str, ...]"])

    def __post_init__(self) -> None:
        self.of_one = _of_one(self.commit)

    def options_at(self, target: Step[..., Any] | Compensator | Probe) -> tuple[str, ...]:
        """Lists what can go wrong with a function, here and now."""
        found = self._options.get(target)
        if found is None:
            found = self._options[target] = options_of(target, late=self.late, deploys="deploy" in self.commit)
        if self.pivoted and found[0] == "rejected" and not _may_refuse(target):
            return found[1:]
        return found

    def visit(self, at: str, options: tuple[str, ...]) -> Iterable[Fault]:
        """Comes by a place; gives what goes wrong there."""
        nth = self.visits[at] = self.visits.get(at, 0) + 1
        self.opportunities.append(Opportunity(at, nth, options))
        if not self.faults:
            return ()
        found = [x for x in self.faults if x.at == at and x.nth == nth and x.what in options]
        self.fired += found
        return found

    def suffer(self, at: str) -> str | None:
        """Comes by a place that may be broken; says how, unless somebody has noticed and repaired it by now."""
        how = self.broken.get(at)
        if how is None:
            return None
        self.suffered[at] = self.suffered.get(at, 0) + 1
        if self.suffered[at] <= _PATIENCE:
            return how
        del self.broken[at], self.suffered[at]
        self.note("", f"somebody has noticed, and repairs {at}")
        return None

    def note(self, process: str, what: str) -> int:
        """Writes a line of the story, if somebody wants one; says how many there are now."""
        if self.look is not None:
            self.entries.append(Entry(self.time.now - self.began, process, what, self.look()))
        return len(self.entries)

    def note_end(self, process: str, at: str, noted: int, error: BaseException | None = None) -> None:
        """Writes down what the world holds after a call, in the line of the call if that is the last one.

        Args:
            process: Where it ran.
            at: What was called.
            noted: How many lines there were when it began.
            error: What it raised.
        """
        if self.look is None:
            return
        if error is not None:
            self.note(process, f"{at} raises {one_line(error)}")
        elif noted == len(self.entries):
            self.entries[-1] = self.entries[-1]._replace(view=self.look())
        else:
            self.note(process, f"{at} has run")


@cache
def _of_one(commit: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves out what can happen only to several records."""
    return tuple(x for x in commit if x != "part")


def _may_refuse(target: Step[..., Any] | Compensator | Probe) -> bool:
    """Says whether a step is declared to be refused at times: after a pivot, others are retried until they succeed."""
    return isinstance(target, Step) and bool(target.options.rejects)
