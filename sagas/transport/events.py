"""Events as messages: CloudEvents 1.0, in binary or structured mode."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from pydantic_core import from_json, to_json

from sagas.errors import TransportError
from sagas.transport.messages import read_trace, write_attribute, write_trace
from sagas.transport.queues import Message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.stores.port import Outgoing
    from sagas.transport.queues import Capabilities

__all__ = ["CloudEvent", "event_message", "read_event"]

_STRUCTURED = "application/cloudevents+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """An event that came in.

    Attributes:
        id: Unique together with the source.
        source: Who says so.
        type: What has happened.
        subject: What it is about, if that is said.
        data: As JSON.
        trace: W3C ``traceparent``, ``tracestate`` and ``baggage`` that came with it, by name.
    """

    id: str
    source: str
    type: str
    subject: str | None
    data: bytes
    trace: Mapping[str, str] = field(default_factory=dict[str, str])


def event_message(event: Outgoing, data: bytes, able: Capabilities) -> Message:
    """Makes the message of an event; in order with those of its saga, and sent once, as far as the queue can do that.

    Args:
        event: What is sent.
        data: Its data, as JSON.
        able: What the queue can do.
    """
    headers = {
        "ce-specversion": "1.0",
        "ce-id": write_attribute(event.id),
        "ce-type": write_attribute(event.type),
        "ce-source": write_attribute(event.source),
        "ce-time": datetime.fromtimestamp(event.at, UTC).isoformat().replace("+00:00", "Z"),
        "ce-sagaid": write_attribute(event.saga_id),
        "content-type": "application/json",
    }
    if event.subject:
        headers["ce-subject"] = write_attribute(event.subject)
    if event.trace:
        headers |= write_trace({"traceparent": event.trace})
    return Message(
        body=data,
        headers=headers,
        group=event.saga_id if able.groups else None,
        dedup_id=event.id if able.dedup_window is not None else None,
    )


def read_event(message: Message) -> CloudEvent:
    """Reads an event.

    Raises:
        TransportError: The message is none.
    """
    if message.headers.get("content-type", "").partition(";")[0].strip() == _STRUCTURED:
        return _read_structured(message)
    try:
        found = {name: unquote(message.headers[f"ce-{name}"]) for name in ("specversion", "id", "source", "type")}
    except KeyError as error:
        raise TransportError(f"the message is no CloudEvent: it has no header {error}") from error
    subject = message.headers.get("ce-subject")
    trace = read_trace(message.headers)
    return _checked(found, None if subject is None else unquote(subject), message.body or b"null", trace)


def _read_structured(message: Message) -> CloudEvent:
    """Reads an event that is one JSON object.

    Raises:
        TransportError: It is none.
    """
    try:
        told: object = from_json(message.body)
    except ValueError as error:
        raise TransportError(f"the message is no CloudEvent: {error}") from error
    known = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
    said = {f"ce-{name}": value for name, value in known.items() if isinstance(value, str)}
    trace = read_trace(said | dict(message.headers))
    return _checked(known, known.get("subject"), to_json(known.get("data")), trace)


def _checked(found: dict[str, Any], subject: str | None, data: bytes, trace: Mapping[str, str]) -> CloudEvent:
    """Makes an event of its attributes.

    Raises:
        TransportError: One is missing, or is of another version.
    """
    lacking = [name for name in ("specversion", "id", "source", "type") if not isinstance(found.get(name), str)]
    if lacking or found["specversion"] != "1.0":
        what = f"it lacks {', '.join(lacking)}" if lacking else f"its version is {found['specversion']!r}"
        raise TransportError(f"the message is no CloudEvent 1.0: {what}")
    return CloudEvent(
        id=found["id"], source=found["source"], type=found["type"], subject=subject, data=data, trace=trace
    )
