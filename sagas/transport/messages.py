"""Requests and replies as messages: CloudEvents 1.0 in binary mode, so that any other language can read them.

The attributes are headers ``ce-…``, and the data is the body (see the CloudEvents specification, and its HTTP binding,
whose way to write attributes as text is used here). Step requests are of the type ``sagas.step.requested``, replies of
``sagas.step.replied``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote

from pydantic_core import from_json, to_json

from sagas.errors import TransportError
from sagas.transport.port import StepRequest
from sagas.transport.queues import Message
from sagas.transport.wire import body_of, reply_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.transport.port import Kind, StepReply

__all__ = [
    "HEARTBEAT",
    "KEY_REUSED",
    "REPLIED",
    "REQUESTED",
    "Answer",
    "notice_message",
    "read_answer",
    "read_request",
    "read_trace",
    "reply_message",
    "reply_to",
    "request_message",
    "wants_beats",
    "write_attribute",
    "write_trace",
]

HEARTBEAT, KEY_REUSED = "heartbeat", "key_reused"
REQUESTED = "sagas.step.requested"
REPLIED = "sagas.step.replied"
_JSON = "application/json"
_KINDS = frozenset({"action", "undo", "probe"})
# All printable ASCII but the space, the double quote and the percent sign (CloudEvents HTTP binding, 3.1.3.2).
_PLAIN = "!#$&'()*+,-./:;<=>?@[]^_`{|}~\\"
# Attributes of an event that are not ours; of these, a request keeps those that take a trace along.
_TRACE = ("traceparent", "tracestate", "baggage")


def write_attribute(value: str) -> str:
    """Writes an attribute's value."""
    return value if value.isascii() and value.isalnum() else quote(value, safe=_PLAIN)


def write_trace(headers: Mapping[str, str]) -> dict[str, str]:
    """Gives the headers that take a trace along, also as the attributes that CloudEvents has for it."""
    told = {name: headers[name] for name in _TRACE if name in headers}
    return told | {f"ce-{name}": told[name] for name in _TRACE[:2] if name in told}


def read_trace(headers: Mapping[str, str]) -> dict[str, str]:
    """Takes from a message's headers what belongs to a trace."""
    found = {name: headers.get(name) or headers.get(f"ce-{name}") for name in _TRACE}
    return {name: value for name, value in found.items() if value}


def request_message(
    request: StepRequest, *, call: str, source: str, reply_to: str, start_by: float | None = None, beats: bool = False
) -> Message:
    """Makes the message of a request.

    Args:
        request: What is asked for.
        call: Names this very request, so that its reply finds whoever waits.
        source: Who asks.
        reply_to: Name of the queue for the reply.
        start_by: POSIX time by which it has to be begun.
        beats: Whether anybody heeds signs of life.
    """
    headers = {
        "ce-specversion": "1.0",
        "ce-id": call,
        "ce-type": REQUESTED,
        "ce-source": write_attribute(source),
        "ce-subject": write_attribute(request.step),
        "content-type": _JSON,
        "ce-sagakind": request.kind,
        "ce-sagaid": write_attribute(request.saga_id),
        "ce-sagapath": write_attribute(request.path),
        "ce-sagakey": write_attribute(request.idempotency_key),
        "ce-sagaattempt": str(request.attempt),
        "ce-sagareplyto": write_attribute(reply_to),
    }
    if request.undoes is not None:
        headers["ce-sagaundoes"] = write_attribute(request.undoes)
    if request.deadline is not None:
        headers["ce-sagadeadline"] = repr(request.deadline)
    if start_by is not None:
        headers["ce-sagastartby"] = repr(start_by)
    if beats:
        headers["ce-sagabeats"] = "true"
    return Message(body=_join(request), headers=headers | write_trace(request.headers))


def _join(request: StepRequest) -> bytes:
    """Writes the data: the arguments, and of an undo also the result."""
    if request.kind != "undo":
        return request.arguments
    result = b"null" if request.result is None else request.result
    doubt = b"true" if request.result is None else b"false"
    return b'{"arguments":' + request.arguments + b',"result":' + result + b',"in_doubt":' + doubt + b"}"


def _split(body: bytes) -> tuple[bytes, bytes | None]:
    """Reads the data of an undo.

    Raises:
        ValueError: It is not as it should be.
    """
    told: object = from_json(body)
    if not isinstance(told, dict) or not {"arguments", "result"} <= told.keys():
        raise ValueError("the data of an undo is an object with the arguments and the result of its action")
    known = cast("dict[str, object]", told)
    return to_json(known["arguments"]), None if known.get("in_doubt") else to_json(known["result"])


def _kind(headers: Mapping[str, str]) -> Kind:
    """Says what a request is for.

    Raises:
        ValueError: It is none, or of a kind that there is not.
    """
    if headers["ce-type"] != REQUESTED:
        raise ValueError(f"it is of the type {headers['ce-type']!r}")
    kind = headers["ce-sagakind"]
    if kind not in _KINDS:
        raise ValueError(f"there are no requests of the kind {kind!r}")
    return cast("Kind", kind)


def read_request(message: Message) -> StepRequest:
    """Reads a request.

    Raises:
        TransportError: The message is none.
    """
    headers = message.headers
    try:
        kind = _kind(headers)
        arguments, result = message.body, None
        if kind == "undo":
            arguments, result = _split(message.body)
        deadline, undoes = headers.get("ce-sagadeadline"), headers.get("ce-sagaundoes")
        return StepRequest(
            kind=kind,
            step=unquote(headers["ce-subject"]),
            saga_id=unquote(headers["ce-sagaid"]),
            path=unquote(headers["ce-sagapath"]),
            idempotency_key=unquote(headers["ce-sagakey"]),
            undoes=None if undoes is None else unquote(undoes),
            attempt=int(headers["ce-sagaattempt"]),
            arguments=arguments,
            result=result,
            deadline=None if deadline is None else float(deadline),
            headers=read_trace(headers),
        )
    except KeyError as error:
        raise TransportError(f"the message is no request for a step: it has no header {error}") from error
    except ValueError as error:
        raise TransportError(f"the message is no request for a step: {error}") from error


def wants_beats(headers: Mapping[str, str]) -> bool:
    """Says whether anybody heeds signs of life of a request with these headers."""
    return headers.get("ce-sagabeats") == "true"


def reply_to(headers: Mapping[str, str]) -> str:
    """Names the queue for the reply to a request with these headers.

    Raises:
        KeyError: They name none.
    """
    return unquote(headers["ce-sagareplyto"])


def reply_message(headers: Mapping[str, str], reply: StepReply, *, source: str) -> Message:
    """Makes the message of a reply, to a request with these headers."""
    told = _told(headers, reply.outcome, source)
    if reply.retry_after is not None:
        told["ce-sagaretryafter"] = repr(reply.retry_after)
    return Message(body=body_of(reply), headers=told)


def notice_message(headers: Mapping[str, str], outcome: str, *, source: str) -> Message:
    """Makes the message that says something else about such a request: ``heartbeat`` or ``key_reused``."""
    return Message(body=b"", headers=_told(headers, outcome, source))


def _told(headers: Mapping[str, str], outcome: str, source: str) -> dict[str, str]:
    """Gives the headers of an answer."""
    told = {
        "ce-specversion": "1.0",
        "ce-id": f"{headers['ce-id']}:{outcome}",
        "ce-type": REPLIED,
        "ce-source": write_attribute(source),
        "ce-subject": headers.get("ce-subject", ""),
        "content-type": _JSON,
        "ce-sagacall": headers["ce-id"],
        "ce-sagaoutcome": outcome,
    }
    return told | write_trace(read_trace(headers))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        call: Which request it answers.
        outcome: That of the reply; or ``heartbeat``, or ``key_reused``.
        reply: The reply, if it is one.
    """

    call: str
    outcome: str
    reply: StepReply | None = None


def read_answer(message: Message) -> Answer:
    """Reads what came back.

    Raises:
        TransportError: The message is no answer.
    """
    headers = message.headers
    call, outcome = headers.get("ce-sagacall"), headers.get("ce-sagaoutcome")
    if headers.get("ce-type") != REPLIED or call is None or outcome is None:
        raise TransportError("the message is no answer to a request for a step")
    if outcome in {HEARTBEAT, KEY_REUSED}:
        return Answer(call, outcome)
    try:
        retry = headers.get("ce-sagaretryafter")
        seconds = None if retry is None else float(retry)
    except ValueError as error:
        raise TransportError(f"the message is no answer to a request for a step: {error}") from error
    return Answer(call, outcome, reply_of(outcome, message.body, retry_after=seconds))
