"""The laws that hold in every run, whatever goes wrong; each checks what the journal and the calls say.

They are the numbered semantics of the design. None asks the core about order or outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.paths import follows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sagas.testing.history import History
    from sagas.testing.runs import Run

__all__ = ["LAWS"]

_ENDS = ("completed", "compensated")
# Whoever takes a saga over and cannot go on with it writes that down instead, which fences the owner before it too.
_TAKES_OVER = (e.SagaTakenOver, e.SagaParked)


def _ends_one_way(run: Run, _: History) -> Iterator[str]:
    """1: it ends completed or compensated, or waits for an operator, and what was reported never changes."""
    ends = [x for record in run.records for x in record.commands if isinstance(x, c.Complete)]
    if len(ends) > 1:
        yield "its journal has two ends"
    told = [x for x in run.reports if x.status in _ENDS]
    first = told[0] if told else None
    for other in told[1:]:
        assert first is not None, "there is one before"
        if other.status != first.status or (other.status == "completed" and other.value != first.value):
            yield f"it was reported {first.status} ({first.value!r}), and later {other.status} ({other.value!r})"


def _reported_is_durable(run: Run, _: History) -> Iterator[str]:
    """1, 7: nothing is reported and then lost."""
    for report in run.reports:
        known = run.records[: report.records]
        ended = any(isinstance(x, c.Complete) for record in known for x in record.commands)
        if report.status in _ENDS and not ended:
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
    cancelled = any(isinstance(record.event, e.CancelRequested) for record in run.records)
    pivoted = any(x.what == "acted" and history.asked[x.path].pivot for x in history.moments if x.path in history.asked)
    if cancelled and not pivoted and run.status == "completed":
        yield "it was cancelled before any pivot, and completed"


def _keys(run: Run, _: History) -> Iterator[str]:
    """7: a step is repeated only under the same idempotency key, which nothing else has."""
    keys: dict[str, str] = {}
    for call in run.calls:
        place = f"{'step' if call.role == 'probe' else call.role} {call.path}"
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
}
