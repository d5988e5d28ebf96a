"""Replies as an outcome and a body, for inboxes that remember them and for messages that carry them."""

from __future__ import annotations

from typing import Any, cast, get_args

from pydantic_core import from_json, to_json

from sagas.core.events import ErrorInfo
from sagas.errors import TransportError
from sagas.transport.port import Outcome, StepReply

__all__ = ["body_of", "decode_error", "encode_error", "reply_of"]

_OUTCOMES = frozenset(get_args(Outcome))


def body_of(reply: StepReply) -> bytes:
    """Gives what a reply says beside its outcome: the result as it is, else the error, else nothing."""
    if reply.payload is not None:
        return reply.payload
    return b"" if reply.error is None else encode_error(reply.error)


def reply_of(outcome: str, body: bytes, *, retry_after: float | None = None) -> StepReply:
    """Puts a reply together again.

    Raises:
        TransportError: It is none.
    """
    if outcome not in _OUTCOMES:
        raise TransportError(f"a reply has an outcome, one of {', '.join(sorted(_OUTCOMES))}; not {outcome!r:.100}")
    known = cast("Outcome", outcome)
    if known == "succeeded":
        return StepReply(known, body or b"null", retry_after=retry_after)
    return StepReply(known, error=decode_error(body) if body else None, retry_after=retry_after)


def encode_error(error: ErrorInfo) -> bytes:
    """Writes an error as one JSON object."""
    told: dict[str, object] = {"type": error.type, "message": error.message}
    if error.fields is not None:
        told["fields"] = from_json(error.fields)
    if error.traceback:
        told["traceback"] = error.traceback
    return to_json(told)


def decode_error(data: bytes) -> ErrorInfo:
    """Reads what ``encode_error`` wrote.

    Raises:
        TransportError: It is something else.
    """
    try:
        told: object = from_json(data)
    except ValueError as error:
        raise TransportError(f"an error has to be JSON: {error}") from error
    if not isinstance(told, dict):
        raise TransportError(f"an error has to be a JSON object, not {told!r:.100}")
    known = cast("dict[str, Any]", told)
    kind, message, traceback = known.get("type"), known.get("message"), known.get("traceback", "")
    if not (isinstance(kind, str) and isinstance(message, str) and isinstance(traceback, str)):
        raise TransportError(f"an error has a type and a message, and this one has not: {told!r:.100}")
    return ErrorInfo(kind, message, to_json(known["fields"]) if "fields" in known else None, traceback)
