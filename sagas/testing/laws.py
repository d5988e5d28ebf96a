"""The laws that hold in every run, whatever goes wrong; each checks what the journal and the calls say.

They are the numbered semantics of the design. None asks the core about order or outcome.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import is_rejection
from sagas.core.paths import follows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sagas.core.definitions import Step
    from sagas.testing.history import History
    from sagas.testing.runs import Run
    from sagas.testing.simulation.stage import Call

__all__ = ["LAWS"]

_ENDS = ("completed", "compensated")
# Whoever takes a saga over and cannot go on with it writes that down instead, which fences the owner before it too.
_TAKES_OVER = (e.SagaTakenOver, e.SagaParked)


def _ends_one_way(run: Run, history: History) -> Iterator[str]:
    """1: it ends completed or compensated, or waits for an operator, and what was reported never changes."""
    if len(history.ends) > 1:
        yield "its journal has two ends"
    told = [x for x in run.reports if x.status in _ENDS]
    first = told[0] if told else None
    for other in told[1:]:
        assert first is not None, "there is one before"
        if other.status != first.status or (other.status == "completed" and other.value != first.value):
            yield f"it was reported {first.status} ({first.value!r}), and later {other.status} ({other.value!r})"


def _reported_is_durable(run: Run, history: History) -> Iterator[str]:
    """1, 7: nothing is reported and then lost."""
    for report in run.reports:
        if report.status in _ENDS and not any(seq < report.records for seq in history.ends):
            yield f"it was reported {report.status} before that was durable"


def _undo_order(_: Run, history: History) -> Iterator[str]:
    """2: undo in reverse causal order; and only of what may have acted."""
    if not history.undoing:
        return
    acted: set[str] = set()
    for moment, alive, running in history.alive():
        path = moment.path
        if moment.what == "undo":
            before = sorted(x for x in alive | running if x != path and follows(x, path))
            if before:
                yield f"{_name(history, path)} is undone while {_name(history, before[0])} after it is not"
            if path not in acted:
                yield f"{_name(history, path)} is undone, and never acted"
        elif moment.what in ("acted", "doubt"):
            acted.add(path)
        elif moment.what in ("rejected", "undone"):
            acted.discard(path)


def _all_undone(run: Run, history: History) -> Iterator[str]:
    """2, 5: nothing is called compensated that was not."""
    if run.status != "compensated":
        return
    left: set[str] = set()
    for _, alive, _ in history.alive():
        left = set(alive)
    for path in sorted(left):
        yield f"it is called compensated, and {_name(history, path)} may have acted and is not undone"


def _pivot(run: Run, history: History) -> Iterator[str]:
    """After a pivot succeeded, nothing before it is undone, and the saga only goes forward."""
    pivots: list[str] = []
    if not any(x.pivot for x in history.asked.values()):
        return
    for moment in history.moments:
        step = history.asked.get(moment.path)
        if moment.what == "acted" and step is not None and step.pivot:
            pivots.append(moment.path)
        elif moment.what == "undo":
            for pivot in pivots:
                if follows(pivot, moment.path):
                    yield f"{_name(history, moment.path)} is undone after the pivot {_name(history, pivot)}"
    if pivots and run.status == "compensated":
        yield f"it is compensated after the pivot {_name(history, pivots[0])}"


def _cancel(run: Run, history: History) -> Iterator[str]:
    """6: cancelling compensates, unless a pivot succeeds."""
    if e.CancelRequested not in history.kinds or run.status != "completed":
        return
    if not any(x.what == "acted" and history.asked[x.path].pivot for x in history.moments if x.path in history.asked):
        yield "it was cancelled before any pivot, and completed"


def _keys(run: Run, _: History) -> Iterator[str]:
    """7: a step is repeated only under the same idempotency key, which nothing else has."""
    keys: dict[str, str] = {}
    for call in run.calls:
        place = f"{call.role} {call.path}" if call.role != "probe" else f"step {call.path}"
        if keys.setdefault(call.key, place) != place:
            yield f"{place} has the idempotency key of {keys[call.key]}"
    if len(set(keys.values())) != len(keys):
        yield f"a step has two idempotency keys: {keys}"


def _causes_are_durable(run: Run, history: History) -> Iterator[str]:
    """7: nothing is begun before what caused it is durable, and nothing again whose outcome is."""
    asked: dict[tuple[str, str], int] = {}
    settled: dict[tuple[str, str], int] = {}
    for moment in history.moments:
        if moment.what == "asked":
            asked.setdefault(("step", moment.path), moment.seq)
        elif moment.what == "undo":
            asked.setdefault(("undo", moment.path), moment.seq)
        elif moment.what == "acted":
            settled.setdefault(("step", moment.path), moment.seq)
        elif moment.what == "undone":
            settled.setdefault(("undo", moment.path), moment.seq)
    for call in run.calls:
        if call.role == "probe":
            continue
        what = (call.role, call.path)
        if what not in asked or asked[what] >= call.began:
            yield f"the {call.role} of {call.step} ({call.path}) is begun before what asks for it is durable"
        if what in settled and settled[what] < call.began:
            yield f"the {call.role} of {call.step} ({call.path}) is run again although its success is durable"


def _ownership(run: Run, _: History) -> Iterator[str]:
    """8: only the process that took the saga over last writes its journal."""
    owner: str | None = None
    for record, writer in zip(run.records, run.writers, strict=True):
        if owner is None or isinstance(record.event, _TAKES_OVER):
            owner = writer
        elif writer != owner:
            yield f"record {record.seq} is written by process {writer}, though {owner} had taken the saga over"


def _siblings(run: Run, history: History) -> Iterator[str]:
    """3: when a step that is a branch by itself fails, no step is called for the first time beside it.

    Whether another branch fails with a step in it is for its own code to say, and so it is not decided here.
    """
    if history.kinds.isdisjoint(_FAILS):
        return
    called: set[str] = set()
    failed: dict[str, str] = {}
    for record in run.records:
        event = record.event
        halts = any(isinstance(x, c.Halt) for x in record.commands)
        if isinstance(event, (e.StepRejected, e.StepInDoubt)) and _BRANCH.search(event.path) and not halts:
            failed.setdefault(event.path.rpartition(":")[0], event.path)
        for command in record.commands:
            if isinstance(command, c.RunStep) and command.path not in called:
                called.add(command.path)
                for group, path in failed.items():
                    if command.path.startswith(f"{group}:"):
                        yield f"{command.name} ({command.path}) is called although {path} beside it had failed"


_BRANCH = re.compile(r":\d+$")
_FAILS = frozenset({e.StepRejected, e.StepInDoubt})


def _budgets(run: Run, history: History) -> Iterator[str]:
    """5: a step and a compensator are tried as often as their budget says before an operator or the body is asked.

    A new owner begins anew, as one does that never heard the end of a commit.
    """
    if any(x.what == "deploy" for x in run.fired) or _within_all_budgets(run, history):
        return
    anew = sum(x.what == "doubtful" for x in run.fired)
    begun: dict[tuple[str, str], tuple[int, int]] = {}  # where a budget began, and how many owners there were since
    for record in run.records:
        event = record.event
        for command in record.commands:
            if isinstance(command, (c.RunStep, c.RunUndo)):
                begun.setdefault(("step" if isinstance(command, c.RunStep) else "undo", command.path), (record.seq, 1))
        if isinstance(event, _TRIED):
            role = "undo" if isinstance(event, (e.UndoFailed, e.UndoSucceeded)) else "step"
            if (role, event.path) in begun:
                since, owners = begun.pop((role, event.path))
                yield from _budget_broken(run, role, event, (since, record.seq), owners + anew)
        elif isinstance(event, _TAKES_OVER):
            begun = {place: (since, owners + 1) for place, (since, owners) in begun.items()}
        elif isinstance(event, (e.UndoRetried, e.StepRetried)):
            begun["undo" if isinstance(event, e.UndoRetried) else "step", event.path] = (record.seq, 1)


def _within_all_budgets(run: Run, history: History) -> bool:
    """Says of a run that nothing was called more often than one budget allows, and nothing was given up."""
    if e.UndoFailed in history.kinds:
        return False
    times: dict[tuple[str, str, str], int] = {}
    for call in run.calls:
        if call.role != "probe":
            place = (call.role, call.path, call.step)
            times[place] = times.get(place, 0) + 1
    return all(_is_within(run.steps.get(step), role, count) for (role, _, step), count in times.items())


def _is_within(step: Step[..., Any] | None, role: str, count: int) -> bool:
    """Says whether so many calls are no more than a budget."""
    owner = None if step is None else step.options if role == "step" else step.undo
    budget = None if owner is None else owner.retry.attempts
    return budget is None or count <= budget


_TRIED = (e.StepSucceeded, e.StepRejected, e.StepInDoubt, e.UndoSucceeded, e.UndoFailed)


def _budget_broken(run: Run, role: str, event: Any, between: tuple[int, int], owners: int) -> Iterator[str]:
    """Holds how often something was tried against its budget."""
    calls = [x for x in run.calls if x.role == role and x.path == event.path and between[0] < x.began <= between[1]]
    step = run.steps.get(calls[0].step) if calls else None
    if step is None or (role == "undo" and step.undo is None):
        return
    budget = step.undo.retry.attempts if role == "undo" and step.undo is not None else step.options.retry.attempts
    if budget is None:
        return
    if len(calls) > budget * owners:
        yield f"the {role} of {step.name} ({event.path}) is tried {len(calls)} times, and may be {budget} times"
    if isinstance(event, e.UndoFailed) and len(calls) < budget and not _refused_at_commit(step, event):
        yield f"the undo of {step.name} ({event.path}) is given up after {len(calls)} of {budget} tries"


def _refused_at_commit(step: Step[..., Any], event: e.UndoFailed) -> bool:
    """Says whether the database refused what a transactional undo had written, so that no call of it is left."""
    return step.undo is not None and step.undo.transactional and not event.attempts


def _true(run: Run, _: History) -> Iterator[str]:
    """1, 5: what the journal says of a step and of its undo is what happened."""
    acted = {(x.role, x.path) for x in run.calls if x.acted}
    asked = {x.path for x in run.calls if x.role == "probe"}
    for record in run.records:
        event = record.event
        path = getattr(event, "path", "")
        if isinstance(event, e.StepSucceeded) and ("step", path) not in acted and path not in asked:
            yield f"step {path} is said to have succeeded, and was never run to its end"
        elif isinstance(event, e.UndoSucceeded) and ("undo", path) not in acted:
            yield f"step {path} is said to be undone, and its compensator was never run to its end"
        elif isinstance(event, e.StepRejected) and ("step", path) in acted and path not in asked:
            before = [x for x in run.calls if x.role == "step" and x.path == path and x.acted and x.began <= record.seq]
            if before and not _says_so(run, before[0]):
                yield f"step {before[0].step} ({path}) is said to have done nothing, and it acted"


def _says_so(run: Run, call: Call) -> bool:
    """Says whether it is the step itself that says so of what it did: by a rejection, or because it is atomic."""
    step = run.steps.get(call.step)
    if step is None or step.options.atomic or step.options.transactional:
        return True
    return call.error is not None and is_rejection(call.error, step.options.rejects)


def _signals(run: Run, history: History) -> Iterator[str]:
    """7: a signal that was sent is received once, however often its delivery is tried."""
    if e.SignalReceived not in history.kinds:
        return
    received: dict[str, int] = {}
    for record in run.records:
        if isinstance(record.event, e.SignalReceived):
            received[record.event.name] = received.get(record.event.name, 0) + 1
    for name, count in received.items():
        if count > run.sent.get(name, 0):
            yield f"signal {name} was sent {run.sent.get(name, 0)} times, and received {count} times"


def _name(history: History, path: str) -> str:
    """Names a step."""
    step = history.asked.get(path)
    return f"{step.name} ({path})" if step is not None else f"step {path}"


LAWS: dict[str, Callable[[Run, History], Iterator[str]]] = {
    "a saga ends one way, and that is final": _ends_one_way,
    "nothing is reported before it is durable": _reported_is_durable,
    "undo goes in reverse causal order": _undo_order,
    "compensated means undone": _all_undone,
    "nothing before a pivot is undone": _pivot,
    "cancelling compensates": _cancel,
    "one idempotency key a step": _keys,
    "nothing is begun before its cause is durable, or again after its end": _causes_are_durable,
    "one owner writes": _ownership,
    "a failure stops what runs beside it": _siblings,
    "nothing is tried more often, or less, than its budget says": _budgets,
    "the journal says what happened": _true,
    "a signal is received once": _signals,
}
