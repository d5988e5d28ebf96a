"""Tells a saga's trace once more, from its journal.

The process that ran it may have died before its spans were sent, and spans are not worth a transaction. All that the
journal knows can be told again, by anybody and at any time, under the same ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.attempts import last_span
from sagas.telemetry.story import find_story
from sagas.telemetry.tracing import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.core.records import Record
    from sagas.telemetry.tracing import Held, Tracing

__all__ = ["retell"]


class _Wait(NamedTuple):
    """What a body waited for; see ``story.Waiting``."""

    kind: str
    path: str
    since: float
    signal: str = ""
    name: str = ""


def retell(tracing: Tracing, saga_id: str, records: Sequence[Record], children: Mapping[str, str]) -> list[Held]:
    """Makes the spans of a saga's coordinators again: attempts, waits, and if it has ended what its end shows.

    Not those of pauses: the journal does not tell a ``sleep`` from other timers.

    Args:
        tracing: Makes the spans.
        saga_id: The saga.
        records: Its whole journal.
        children: Names of the child sagas, by path, as far as they are known.

    Returns:
        The spans, to be shown; none if the saga was not traced.
    """
    start = records[0].event
    if not isinstance(start, (e.SagaStarted, e.SagaSubmitted)):
        return []
    story = find_story(tracing, Origin(start.trace, start.parent, start.state, start.baggage), saga_id)
    if story is None:
        return []
    spans: list[Held] = []
    acted: dict[str, str] = {}
    waits: dict[str, _Wait] = {}
    for record in records:
        event = record.event
        path, attempts = getattr(event, "path", ""), getattr(event, "attempts", ())
        spans += story.retell(path, attempts, acted.get(path, ""), getattr(event, "error", None))
        if isinstance(event, (e.StepSucceeded, e.StepInDoubt, e.StepRejected, e.StepBackedOff)):
            acted[path] = last_span(attempts) or acted.get(path, "")
        story.take(record.seq, record.at, event, record.commands)
        before, waits = waits, _after(waits, record)
        spans += story.waited([*before.values()], waits, event)
    return [*spans, *(story.endings(children) if story.ended else ())]


def _after(waits: Mapping[str, _Wait], record: Record) -> dict[str, _Wait]:
    """Says what a body waits for after a record, as far as the journal tells: signals, and locks."""
    gone = {getattr(record.event, "path", ""), *(x.path for x in record.commands if isinstance(x, c.FreeLock))}
    left = {path: wait for path, wait in waits.items() if wait.kind == "receive" or path not in gone}
    if record.awaits is not None:
        asked = {
            path: waits.get(path) or _Wait("receive", path, record.at, signal=name)
            for path, (name, _) in record.awaits.items()
        }
        left = {path: wait for path, wait in left.items() if wait.kind != "receive"} | asked
    locks = {
        x.path: _Wait("lock", x.path, record.at, name=x.name) for x in record.commands if isinstance(x, c.TakeLock)
    }
    return {} if any(isinstance(x, c.Complete) for x in record.commands) else left | locks
