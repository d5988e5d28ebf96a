"""Writes the golden journals: ``python -m tests.golden.make``. Those that exist are left alone, and must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.failures import describe_rejection
from sagas.core.records import chain, encode
from sagas.core.strands import Awaits
from tests.golden.bodies import SAGAS, STEPS, Line, SoldOut

__all__ = ["HERE", "summary"]

HERE = Path(__file__).parent
_LINES = [Line("a", Decimal("1.10")), Line("b", Decimal("2.20")), Line("c", Decimal("3.30"))]
_BROKEN = e.ErrorInfo("builtins:ConnectionError", "reset by peer")
_RESULTS: dict[str, bytes] = {"reserve": b"1", "charge": b'"ch-1"', "ship": b'"_w=="', "notify": b"null"}

Script = Iterator[e.Event]


def summary(execution: Execution) -> dict[str, Any]:
    """Says where a saga stands, as JSON can."""
    return {
        "state": execution.state.value,
        "at": execution.at,
        "steps": {
            x.path: [x.name, x.state.value, x.arguments.decode(), None if x.result is None else x.result.decode()]
            for x in execution.steps.values()
        },
        "open": {path: type(command).__name__ for path, command in execution.open.items()},
        "timers": execution.timers,
        "halted": {path: error.type for path, error in execution.halted.items()},
        "result": None if execution.result is None else execution.result.decode(),
        "cause": None if execution.cause is None else execution.cause.type,
        "unread": execution.unread_signals(),
        "awaited": execution.awaited_signals(),
    } | _locks(execution)


def _locks(execution: Execution) -> dict[str, Any]:
    """Says which locks a saga holds or waits for; nothing for journals from before there were any."""
    locks, awaited = execution.locks, execution.awaited_locks()
    return {"locks": locks, "awaited locks": awaited} if locks else {}


def _act(execution: Execution, path: str) -> e.StepSucceeded:
    """The step at a path acts."""
    return e.StepSucceeded(path, _RESULTS[execution.steps[path].name], (e.Attempt(execution.at, 0.5, None, "ab"),))


def _act_all(execution: Execution) -> Script:
    """Everything open succeeds, until nothing is."""
    while execution.open:
        path = min(execution.open)
        command = execution.open[path]
        if isinstance(command, c.RunUndo):
            yield e.UndoSucceeded(path, (e.Attempt(execution.at, 0.5, None),))
        elif isinstance(command, c.RunLocal):
            yield e.Recorded(path, command.schema.encode(command.make()))
        else:
            yield _act(execution, path)


def completed(execution: Execution) -> Script:
    """A retry, a long pause, a takeover; then all is well."""
    failed = e.Attempt(execution.at, 1.5, "ConnectionError: reset by peer")
    yield e.StepBackedOff("1:1", 2, execution.at + 30, True, _BROKEN, (failed, failed))
    yield e.SagaTakenOver("another")
    yield e.TimerFired("1:1")
    yield from _act_all(execution)


def compensated(execution: Execution) -> Script:
    """The scope is undone and the body goes on; then it is cancelled."""
    yield _act(execution, "1")
    yield _act(execution, "2.1:0")
    yield e.StepRejected("2.1:1", describe_rejection(SoldOut("b", Decimal("0.5"))))
    yield _act(execution, "2.1:2")
    yield e.UndoBackedOff("2.1:2", 3, execution.at + 9, _BROKEN)
    yield e.UndoSucceeded("2.1:0")
    yield e.TimerFired("2.1:2")
    yield e.UndoSucceeded("2.1:2")
    yield e.CancelRequested("changed my mind", "ann")
    yield from _act_all(execution)


def in_doubt(execution: Execution) -> Script:
    """A step in doubt is undone without a result."""
    yield _act(execution, "1:0:0.1")
    yield e.StepInDoubt("1:0:1.1", _BROKEN, (e.Attempt(execution.at, 3.0, "TimeoutError"),))
    yield _act(execution, "1:1")
    yield from _act_all(execution)


def pivoted(execution: Execution) -> Script:
    """After the pivot a step that fails is parked."""
    for path in ("1:1", "1:0:0.1", "1:0:1.1", "1:0:2.1", "2"):
        yield _act(execution, path)
    yield e.StepRejected("3", _BROKEN)


def waited(execution: Execution) -> Script:
    """Signals that come early, timers, a child saga."""
    yield e.SignalReceived("approval", b'"yes"')
    yield e.Recorded("1", b'{"limit": 3}')
    yield e.TimerFired("2")
    yield e.TimerFired("3")
    yield e.TimerFired("4:1")
    yield from _act_all(execution)


def stuck(execution: Execution) -> Script:
    """Compensators that fail: one is skipped, one is retried, and fails again."""
    for path in ("1", "2.1:0", "2.1:1", "2.1:2"):
        yield _act(execution, path)
    yield e.StepRejected("2.2", describe_rejection(SoldOut("b", Decimal("0.5"))))
    yield e.UndoFailed("2.1:0", _BROKEN)
    yield e.UndoFailed("2.1:1", _BROKEN)
    yield e.UndoSucceeded("2.1:2")
    yield e.UndoSkipped("2.1:0", "looked", "ann")
    yield e.UndoRetried("2.1:1", "ann")
    yield e.UndoFailed("2.1:1", _BROKEN)


def decided(execution: Execution) -> Script:
    """People say who they are, and why."""
    yield e.SignalReceived("unasked", b"1", "ann", "by phone")
    for path in ("1", "2.1:0", "2.1:1", "2.1:2"):
        yield _act(execution, path)
    yield e.StepRejected("2.2", describe_rejection(SoldOut("b", Decimal("0.5"))))
    yield e.UndoFailed("2.1:0", _BROKEN)
    yield e.UndoRetried("2.1:0", "ann", "the depot is back")
    yield e.UndoFailed("2.1:1", _BROKEN)
    yield e.UndoRetried("2.1:1", "", "nobody says who")
    yield e.SagaResumed("bob", "perhaps")


def locked(execution: Execution) -> Script:
    """Two branches share a lock, one gives up, one gives way; it stops while the first lock is still held."""
    yield e.LockGranted("1")
    yield e.LockGranted("2:0.1")
    yield e.LockRefused("2:3.1", "a circle")
    yield _act(execution, "2:0.2")
    yield e.TimerFired("2:1.1")
    yield _act(execution, "2:2.2")
    yield e.SagaTakenOver("another")
    yield _act(execution, "3")


def waiting(execution: Execution) -> Script:
    """Undone while one branch holds a lock and others wait."""
    yield e.LockGranted("1")
    yield e.LockGranted("2:1.1")
    yield _act(execution, "2:1.2")
    yield e.CancelRequested("changed my mind", "ann")
    yield from _act_all(execution)


def submitted(execution: Execution) -> Script:
    """A signal comes before anybody runs it; the body starts with the first takeover, and goes on after the second."""
    yield e.SignalReceived("approval", b'"yes"')
    yield e.SagaTakenOver("another")
    yield e.Recorded("1", b'{"limit": 3}')
    yield e.TimerFired("2")
    yield e.SagaTakenOver("a third")
    yield e.TimerFired("3")
    yield e.TimerFired("4:1")
    yield from _act_all(execution)


def awaiting(execution: Execution) -> Script:
    """Signals are waited for, in vain, in a race and in a child; the journal says which."""
    yield e.Recorded("1", b'{"limit": 3}')
    yield e.TimerFired("2")
    yield e.TimerFired("3")
    yield e.SagaTakenOver("another")
    yield e.TimerFired("4:1")
    yield from _act_all(execution)


JOURNALS: dict[str, tuple[str, dict[str, object], Callable[[Execution], Script]]] = {
    "completed": ("shop", {"lines": _LINES}, completed),
    "compensated": ("scoped", {"lines": _LINES}, compensated),
    "in-doubt": ("shop", {"lines": _LINES}, in_doubt),
    "pivoted": ("shop", {"lines": _LINES}, pivoted),
    "waited": ("patient", {"by": "ann"}, waited),
    "stuck": ("scoped", {"lines": _LINES}, stuck),
    "decided": ("scoped", {"lines": _LINES}, decided),
    "locked": ("careful", {"sku": "a"}, locked),
    "waiting": ("careful", {"sku": "a"}, waiting),
    "submitted": ("patient", {"by": "ann"}, submitted),
    "compensators-noted": ("shop", {"lines": _LINES}, in_doubt),
    "carried": ("shop", {"lines": _LINES}, completed),
    "awaiting": ("patient", {"by": "ann"}, awaiting),
}


def journal(saga_id: str) -> dict[str, Any]:
    """Runs a script, and gives its journal with where it led."""
    name, arguments, script = JOURNALS[saga_id]
    saga = SAGAS[name]
    execution = Execution(saga, saga_id, STEPS)
    rows: list[list[Any]] = []
    digest, at = saga_id.encode(), 1_700_000_000.0
    awaits: Awaits = {}

    def feed(event: e.Event, at: float) -> None:
        nonlocal digest, awaits
        commands, before, awaits = execution.apply(event, at), awaits, execution.awaits()
        kind, path, data = encode(event, commands, None if awaits == before else awaits)
        data = data.replace(str(HERE.parents[1]).encode() + b"/", b"")  # tracebacks name files
        digest = chain(digest, len(rows), at, kind, path, data)
        rows.append([len(rows), at, kind, path, data.decode(), digest.hex()])

    begun = e.SagaSubmitted if saga_id == "submitted" else e.SagaStarted
    carried = ("shop=x", "tenant=blue") if saga_id == "carried" else ()
    feed(begun(name, saga.version, saga.arguments_schema.encode(arguments), "k-1", "00-ab", "00-cd", *carried), at)
    for event in script(execution):
        at = max(execution.at + 1.25, execution.timers[event.path] if isinstance(event, e.TimerFired) else 0.0)
        feed(event, at)
    end = summary(execution)
    execution.close()
    return {"saga": name, "rows": rows, "end": end}


def main() -> None:
    """Writes what is missing."""
    for saga_id in JOURNALS:
        file = HERE / f"{saga_id}.json"
        if not file.exists():
            file.write_bytes(orjson.dumps(journal(saga_id), option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
