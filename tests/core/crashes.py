"""The laws about crashes, takeovers and changed code: each brings a saga back from a prefix of its journal."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.recording import Recording
from sagas.core.records import encode
from sagas.core.replay import abandon, replay
from sagas.core.transitions import SagaState
from sagas.errors import ReplayDiverged
from tests.core.host import Crashed, Fenced, Host, Journal, Ledger, Story
from tests.core.laws import run, snapshot
from tests.core.plans import STEPS, altered, emptied, interpret, relocked
from tests.core.timeline import LawBroken, hold

__all__ = ["check"]


def check(story: Story) -> Host:
    """Runs a script, crashes it after every record, and holds all of it against every law.

    Raises:
        LawBroken: One does not hold.
    """
    live: list[dict[str, Any]] = []
    host = run(story, keep=lambda running: live.append(snapshot(running.execution)))
    _law_replay(host.journal)
    for length in range(1, len(live) + 1):
        _law_crash(host, length, live[length - 1])
        if length == len(live):
            break
        _law_durable(host, length)
        if (length + story.choices[0]) % 3 == 0:  # enough of them, in the end
            _law_fenced(host, length)
            _law_diverged(host, length)
            _law_abandoned(host, length)
    return host


def _law_replay(journal: Journal) -> None:
    """7, 9: fed its journal, a fresh execution gives the same commands at every record."""
    execution = Execution(interpret, "saga", STEPS)
    execution.recording = recording = Recording(journal.records(), strict=True)
    with closing(execution):
        for row, record in zip(journal.rows, journal.records(), strict=True):
            recording.meet(record)
            kind, path, data = encode(record.event, execution.apply(record.event, record.at))
            hold("replay asks for the same", (kind, path, data) == (row.kind, row.path, row.data), row)


def _law_crash(host: Host, length: int, live: dict[str, Any]) -> None:
    """7: after a crash at any record the saga is as it was, and goes on to the same end, record by record."""
    with closing(Host(host.story, host.journal.prefix(length))) as recovered:
        now = snapshot(recovered.execution)
        hold("replayed state is live state", now == live, (length, now, live))
        recovered.run()
        _hold_same("a crash changes nothing", recovered, host)


def _hold_same(law: str, one: Host, other: Host) -> None:
    """Compares two journals, leaving out who drove the saga."""
    ours, theirs = one.journal.facts(), other.journal.facts()
    if ours != theirs:
        pairs = zip(ours, theirs, strict=False)
        raise LawBroken(law, next((pair for pair in pairs if pair[0] != pair[1]), "one goes on longer"))


def _law_durable(host: Host, length: int) -> None:
    """7: nothing is begun before the record that asks for it is durable."""
    with closing(Host(host.story, host.journal.prefix(length), Ledger())) as dying:
        dying.dies = True
        try:
            dying.move()
        except Crashed:
            asked = [x for r in dying.journal.records() for x in r.commands if isinstance(x, (c.RunStep, c.RunUndo))]
            begun = {*dying.ledger.begun, *dying.ledger.undos}
            hold("nothing is begun before it is durable", begun <= {x.path for x in asked}, begun)


def _law_fenced(host: Host, length: int) -> None:
    """8: when another owner has gone on, the old one is stopped by its next append and does nothing more."""
    journal = host.journal.prefix(length)
    with closing(Host(host.story, journal)) as old, closing(Host(host.story, journal)) as new:
        begins = new.execution.submitted
        new.feed(e.SagaTakenOver("new"), new.execution.at)
        begun = {path: set(keys) for path, keys in old.ledger.begun.items()}
        try:
            old.move()
        except Fenced:
            hold("an old owner is fenced", old.ledger.begun == begun)
        else:
            raise LawBroken("an old owner is fenced", length)
        hold("a saga ends", new.run())
        if not begins:  # the body starts with the first takeover, so it matters when that comes
            _hold_same("a takeover changes nothing", new, host)


def _law_diverged(host: Host, length: int) -> None:
    """10: a body that does other things than the journal says is refused, and the operation is named."""
    records = host.journal.prefix(length).records()
    asked = [x for r in records for x in r.commands if isinstance(x, c.RunStep)]
    locks = [x for r in records for x in r.commands if isinstance(x, c.TakeLock)]
    reserves = [x for x in asked if x.name == "reserve"]
    for body, differs in ((altered, reserves), (emptied, [*asked, *locks]), (relocked, locks)):
        if not differs:
            continue
        try:
            replay(body, "saga", STEPS, records).close()
        except ReplayDiverged as error:
            paths = [x.path for x in asked] + [x.path for x in locks]
            named = any(f"operation {path}:" in str(error) for path in paths) or "record " in str(error)
            hold("the first difference is named", named, error)
        else:
            raise LawBroken("a changed body is refused", (body, length))


def _law_abandoned(host: Host, length: int) -> None:
    """10: the rollback of a saga that no code fits works from the journal alone."""
    with closing(Host(host.story, host.journal.prefix(length))) as parked:
        names = {x.name for x in parked.execution.steps.values()}
        if parked.execution.state is not SagaState.RUNNING or "commit" in names or not parked.execution.can_cancel():
            return
        at = parked.execution.at
        parked.feed(e.SagaParked(e.ErrorInfo("ReplayDiverged", "")), at)
    cancel = e.CancelRequested("no code for it")
    rebuilt = abandon("saga", STEPS, parked.journal.records())
    parked.journal.append(parked.seq, at, cancel, rebuilt.apply(cancel, at))
    alone = Host(replace(host.story, cancel_at=None, operator="retry"), parked.journal, body=None)
    hold("a saga ends", alone.run())
    hold("a rollback needs no body", alone.execution.state is SagaState.COMPENSATED, alone.execution.state)
    left = {x.path for x in alone.execution.steps.values() if x.undoable}
    hold("every step that may have acted is undone", not left, left)
    hold("only what is held is left to release", all(x.granted for x in (alone.execution.tickets or {}).values()))
