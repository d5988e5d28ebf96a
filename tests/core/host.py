"""The smallest host: it drives an ``Execution`` from a script, in virtual time, over a journal of bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from hypothesis import strategies as st

from sagas import Saga
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.failures import describe_rejection
from sagas.core.records import Record, chain, decode, encode
from sagas.core.replay import replay
from sagas.core.transitions import StepState
from tests.core.plans import STEPS, Plan, Refused, interpret, plans

__all__ = ["Crashed", "Fenced", "Host", "Journal", "Ledger", "Row", "Story", "stories"]

_FAILURE = e.ErrorInfo("builtins:OSError", "broke")
_STEP_EVENTS = ("StepSucceeded", "StepRejected", "StepInDoubt", "StepBackedOff")
_UNDO_EVENTS = ("UndoSucceeded", "UndoFailed", "UndoBackedOff")


class Fenced(Exception):
    """Another owner has written this record already."""


class Crashed(Exception):
    """The process ended after it took a fact in, and before the fact was durable."""


class Row(NamedTuple):
    """A record as a store keeps it."""

    seq: int
    at: float
    kind: str
    path: str
    data: bytes
    digest: bytes


class Journal:
    """Durable rows; everything that comes back from it went through bytes."""

    def __init__(self, rows: list[Row] | None = None) -> None:
        self.rows = rows if rows is not None else []

    def append(self, seq: int, at: float, event: e.Event, commands: list[c.Command]) -> None:
        """Writes a record; (saga, seq) is unique."""
        self._fence(seq)
        previous = self.rows[-1].digest if self.rows else b"saga"
        kind, path, data = encode(event, commands)
        self.rows.append(Row(seq, at, kind, path, data, chain(previous, seq, at, kind, path, data)))

    def _fence(self, seq: int) -> None:
        if seq != len(self.rows):
            raise Fenced(seq)

    def prefix(self, length: int) -> Journal:
        """What was durable at a crash."""
        return Journal(self.rows[:length])

    def records(self) -> list[Record]:
        """Reads it back."""
        return [decode(row.seq, row.at, row.kind, row.path, row.data) for row in self.rows]

    def facts(self) -> list[tuple[Any, ...]]:
        """What it says, leaving out who drove the saga."""
        return [(row.at, row.kind, row.path, row.data) for row in self.rows if row.kind != "SagaTakenOver"]


@dataclass
class Ledger:
    """What the world saw: it survives every crash. Keys by path of the steps that were begun and undone."""

    begun: dict[str, set[str]] = field(default_factory=dict)
    undos: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Story:
    """A script: the body, in which order things happen, and what people do.

    Attributes:
        plan: The body.
        choices: Which of the possible events comes next, round and round.
        signals: How many signals come without anybody waiting for them.
        cancel_at: Cancel at the first chance after so many records.
        submitted: Whether whoever asks for it leaves it to others to run it.
        operator: What the operator does about what is stuck: ``retry`` (three times, then skip), ``skip``, ``leave``.
    """

    plan: Plan
    choices: tuple[int, ...] = (0,)
    signals: int = 0
    cancel_at: int | None = None
    operator: str = "retry"
    submitted: bool = False


def stories(depth: int = 3) -> st.SearchStrategy[Story]:
    """Draws a script."""
    return st.builds(
        Story,
        plan=plans(depth),
        choices=st.lists(st.integers(0, 5), min_size=1, max_size=8).map(tuple),
        signals=st.integers(0, 2),
        cancel_at=st.none() | st.integers(1, 12),
        operator=st.sampled_from(["retry", "retry", "skip", "leave"]),
        submitted=st.booleans(),
    )


class Host:
    """One owner of one saga.

    Args:
        story: The script.
        journal: What is durable; if it has rows, the saga is brought back from them.
        ledger: What the world saw.
        body: The code at hand; ``None`` for none.
    """

    def __init__(
        self,
        story: Story,
        journal: Journal | None = None,
        ledger: Ledger | None = None,
        *,
        body: Saga[..., Any] | None = interpret,
    ) -> None:
        self.story = story
        self.journal = journal if journal is not None else Journal()
        self.ledger = ledger if ledger is not None else Ledger()
        self.dies = False
        if self.journal.rows:
            self.execution = replay(body, "saga", STEPS, self.journal.records(), strict=True)
            self.seq = len(self.journal.rows)
            self._dispatch(list(self.execution.outstanding()))
            return
        self.execution = Execution(interpret, "saga", STEPS)
        self.seq = 0
        begun = e.SagaSubmitted if story.submitted else e.SagaStarted
        self.feed(begun("interpret", "1", orjson.dumps({"plan": story.plan}), "key"), 1000.0)

    # --- journal first, then the world --------------------------------------------------------------------------

    def feed(self, event: e.Event, at: float) -> None:
        """Takes a fact: its commands are carried out when it is durable."""
        given = self.execution.apply(event, at)
        self.commit(event, at, given)

    def commit(self, event: e.Event, at: float, given: list[c.Command]) -> None:
        """Makes a fact durable, and only then carries out what it led to."""
        self._write(event, at, given)
        self._dispatch(given)

    def _write(self, event: e.Event, at: float, given: list[c.Command]) -> None:
        if self.dies:
            raise Crashed
        self.journal.append(self.seq, at, event, given)
        self.seq += 1

    def _dispatch(self, commands: list[c.Command]) -> None:
        for command in commands:
            if isinstance(command, c.RunStep):
                key = f"{self.execution.key}/{command.path}"
                self.ledger.begun.setdefault(command.path, set()).add(key)
            elif isinstance(command, c.RunUndo):
                self.ledger.undos.append(command.path)

    def close(self) -> None:
        """Lets go of the body."""
        self.execution.close()

    # --- the script ---------------------------------------------------------------------------------------------

    def run(self, moves: int = 500) -> bool:
        """Goes on until nothing can happen any more; says whether that was reached."""
        return any(not self.move() for _ in range(moves))

    def move(self) -> bool:
        """Lets the next thing happen; ``False`` if there is none."""
        execution = self.execution
        if execution.state.ended:
            return False
        kinds = Counter(row.kind for row in self.journal.rows)
        turn = len(self.journal.rows) - kinds["SagaTakenOver"]
        cancel = self.story.cancel_at
        if cancel is not None and turn >= cancel and not kinds["CancelRequested"] and execution.can_cancel():
            self.feed(e.CancelRequested("changed my mind"), execution.at + 1)
            return True
        events = self._possible(kinds["SignalReceived"])
        if not events:
            return False
        event = events[self.story.choices[turn % len(self.story.choices)] % len(events)]
        at = execution.at + (0.25 if not isinstance(event, e.SagaTakenOver) else 0.0)
        if isinstance(event, e.TimerFired):
            at = max(at, execution.timers[event.path])
        self.feed(event, at)
        return True

    def _possible(self, signalled: int) -> list[e.Event]:
        execution = self.execution
        events: list[e.Event] = [e.SagaTakenOver("the first")] if execution.submitted else []
        events += [self._answer(execution.open[path]) for path in sorted(execution.open)]
        events += [self._answer_lock(path, name) for name, path in execution.locks.items() if self._waits(path, name)]
        timers = self._timers()
        if timers:
            events.append(e.TimerFired(min(timers, key=lambda path: (timers[path], path))))
        if self.story.operator != "leave":
            events += [self._operate(path) for path in sorted(execution.halted) if path]
        if signalled < self.story.signals or (not events and execution.awaited_signals()):
            events.append(e.SignalReceived("go", orjson.dumps(signalled)))
        return events

    def _timers(self) -> dict[str, float]:
        return self.execution.timers

    def _waits(self, path: str, name: str) -> bool:
        return name != "never" and self.execution.waits_for_lock(path)

    def _answer_lock(self, path: str, name: str) -> e.Event:
        return e.LockRefused(path, "a circle") if name == "refused" else e.LockGranted(path)

    def _ended_before(self, path: str, kinds: tuple[str, ...]) -> int:
        return sum(row.path == path and row.kind in kinds for row in self.journal.rows)

    def _answer(self, command: c.RunStep | c.RunUndo | c.RunLocal) -> e.Event:
        path = command.path
        if isinstance(command, c.RunLocal):
            return e.Recorded(path, command.schema.encode(command.make()))
        call = orjson.loads(command.arguments)
        if isinstance(command, c.RunUndo):
            return self._answer_undo(path, call["undoes"])
        number = self._ended_before(path, _STEP_EVENTS)
        match call["ends"][number] if number < len(call["ends"]) else "ok":
            case "rejected":
                return e.StepRejected(path, describe_rejection(Refused(call["tag"])))
            case "failed":
                return e.StepRejected(path, _FAILURE)
            case "doubt":
                return e.StepInDoubt(path, _FAILURE)
            case "later" | "unsure" as end:
                until = self.execution.at + 30
                return e.StepBackedOff(path, number + 1, until, end == "unsure", _FAILURE)
            case _:
                return e.StepSucceeded(path, orjson.dumps(call["tag"]), (e.Attempt(self.execution.at, 0.5, None),))

    def _answer_undo(self, path: str, ends: list[str]) -> e.Event:
        number = self._ended_before(path, _UNDO_EVENTS)
        match ends[number] if number < len(ends) else "ok":
            case "failed":
                return e.UndoFailed(path, _FAILURE)
            case "later":
                return e.UndoBackedOff(path, number + 1, self.execution.at + 30, _FAILURE)
            case _:
                return e.UndoSucceeded(path)

    def _operate(self, path: str) -> e.Event:
        undoing = self.execution.steps[path].state is StepState.UNDO_FAILED
        tired = self._ended_before(path, _UNDO_EVENTS if undoing else _STEP_EVENTS) >= 3
        if self.story.operator == "skip" or tired:
            return e.UndoSkipped(path, "looked") if undoing else e.StepSkipped(path, "looked")
        return e.UndoRetried(path) if undoing else e.StepRetried(path)
