"""Tells a saga's trace once more, from its journal.

The process that ran it may have died before its spans were sent, and spans are not worth a transaction. All that the
journal knows can be told again, by anybody and at any time, under the same ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.core import events as e
from sagas.core.attempts import last_span
from sagas.telemetry.story import find_story
from sagas.telemetry.tracing import Origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sagas.core.records import Record
    from sagas.telemetry.tracing import Held, Tracing

__all__ = ["retell"]


def retell(tracing: Tracing, saga_id: str, records: Sequence[Record], children: Mapping[str, str]) -> list[Held]:
    """Makes the spans of a saga's coordinators again: attempts, and if it has ended what its end shows.

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
    for record in records:
        event = record.event
        path, attempts = getattr(event, "path", ""), getattr(event, "attempts", ())
        spans += story.retell(path, attempts, acted.get(path, ""))
        if isinstance(event, (e.StepSucceeded, e.StepInDoubt, e.StepRejected, e.StepBackedOff)):
            acted[path] = last_span(attempts) or acted.get(path, "")
        story.take(record.seq, record.at, event, record.commands)
    return [*spans, *(story.endings(children) if story.ended else ())]
