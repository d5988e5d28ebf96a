"""How a ``StepRequest`` travels: its path, header fields and body. See docs/reference/http.md."""

from __future__ import annotations

import re
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple, get_args
from urllib.parse import quote

from sagas.transport.port import Kind, StepRequest
from sagas_adapters.http.fields import members, quoted, unquoted
from sagas_adapters.http.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Where", "header_table", "read_request", "request_body", "request_headers", "request_path", "where_of"]

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+\Z")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\s](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x08\x0a-\x1f\x7f\s])?\Z")
# What is HTTP's own, is for one hop, or lets its bearer in: it neither comes from a saga nor reaches a step.
_OWN: Final = frozenset({
    "accept", "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "content-type",
    "cookie", "date", "expect", "host", "idempotency-key", "keep-alive", "prefer", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
_ONCE: Final = frozenset({b"idempotency-key", b"content-type"})
_KINDS: Final = frozenset(get_args(Kind))


class Where(NamedTuple):
    """What a path below the base names: a step, or with ``kind`` ``None`` a request that is at work."""

    kind: Kind | None
    name: str


def request_path(request: StepRequest) -> str:
    """Gives the path below the base, as it is sent and signed."""
    step = quote(request.step, safe="")
    # `.` and `..` would be taken for steps in the path itself.
    step = step if step.strip(".") else step.replace(".", "%2E")
    return f"/steps/{step}" if request.kind == "action" else f"/steps/{step}/{request.kind}"


def where_of(segments: tuple[str, ...]) -> Where | None:
    """Reads the decoded segments of a path below the base."""
    match segments:
        case ("steps", step):
            return Where("action", step)
        case ("steps", step, "undo"):
            return Where("undo", step)
        case ("steps", step, "probe"):
            return Where("probe", step)
        case ("requests", number):
            return Where(None, number)
        case _:
            return None


def request_headers(request: StepRequest) -> dict[str, str | bytes]:
    """Gives the header fields, with names in lower case.

    Raises:
        ValueError: Something in it cannot stand in a header field.
    """
    fields: dict[str, str | bytes] = {
        "idempotency-key": quoted(request.idempotency_key),
        "saga-id": quoted(request.saga_id),
        "saga-path": quoted(request.path),
        "saga-attempt": str(request.attempt),
        "content-type": "application/json",
    }
    if request.deadline is not None:
        fields["saga-deadline"] = repr(float(request.deadline))
    if request.undoes is not None:
        fields["saga-undoes"] = quoted(request.undoes)
    for name, value in request.headers.items():
        if not _passes(name):
            continue
        if not (_TOKEN.match(name) and (value == "" or _VALUE.match(value))):
            raise ValueError(f"the header {name!r}: {value!r} cannot be sent over HTTP")
        fields[name] = value if value.isascii() else value.encode()
    return fields


def _passes(name: str) -> bool:
    """Says whether a header is the saga's own."""
    return name not in _OWN and not name.startswith("saga-")


def request_body(request: StepRequest) -> bytes:
    """Gives the body: the arguments, or of an undo an object with the arguments and perhaps the result."""
    if request.kind != "undo":
        return request.arguments
    result = b"" if request.result is None else b',"result":' + request.result
    return b'{"arguments":' + request.arguments + result + b"}"


# --- at the other end ------------------------------------------------------------------------------------------------


def header_table(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Makes a table of header fields.

    Raises:
        HttpProblem: One of this protocol's own came twice, so that nobody knows which one was meant.
    """
    table: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in table and (name in _ONCE or name.startswith(b"saga-")):
            raise HttpProblem("bad-request", 400, f"the header {name.decode('latin-1')} came twice")
        table[name] = value
    return table


def read_request(kind: Kind, step: str, fields: Mapping[bytes, bytes], body: bytes) -> StepRequest:
    """Reads a request.

    Raises:
        HttpProblem: It makes no sense.
    """
    try:
        arguments, result = (body, None) if kind != "undo" else _parts(body)
        return StepRequest(
            kind=kind,
            step=step,
            saga_id=_text(fields, b"saga-id") or "",
            path=_text(fields, b"saga-path") or "",
            idempotency_key=_key(fields),
            undoes=_text(fields, b"saga-undoes"),
            attempt=_attempt(fields.get(b"saga-attempt", b"1")),
            arguments=arguments,
            result=result,
            deadline=_deadline(fields.get(b"saga-deadline")),
            headers=_others(fields),
        )
    except ValueError as error:
        raise HttpProblem("bad-request", 400, _reason(error)) from error


def _reason(error: ValueError) -> str:
    """Says what is wrong, and not what a contradictory request holds."""
    if isinstance(error, UnicodeDecodeError):
        return "something in it is not UTF-8"
    text = str(error)
    return f"{text.partition(';')[0]}: see the header Saga-Undoes" if text.startswith("a request for") else text


def _parts(body: bytes) -> tuple[bytes, bytes | None]:
    """Takes the body of an undo apart.

    Raises:
        HttpProblem: It is no JSON object, or has no arguments.
    """
    try:
        found = members(body)
    except ValueError as error:
        raise HttpProblem("bad-json", 400, f"the body of an undo is a JSON object; this is none: {error}") from error
    if "arguments" not in found:
        raise HttpProblem("bad-request", 400, "the body of an undo is an object with `arguments`, and this has none")
    return found["arguments"], found.get("result")


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Reads a text from a header field.

    Raises:
        ValueError: It is none.
    """
    value = fields.get(name)
    if value is None:
        return None
    try:
        return unquoted(value)
    except ValueError as error:
        raise ValueError(f"the header {name.decode()} cannot be read: {error}") from error


def _key(fields: Mapping[bytes, bytes]) -> str:
    """Reads the idempotency key.

    Raises:
        ValueError: There is none.
    """
    key = _text(fields, b"idempotency-key")
    if not key:
        raise ValueError('a request needs a header Idempotency-Key, such as Idempotency-Key: "order-1/3"')
    return key


def _attempt(value: bytes) -> int:
    """Reads the number of an attempt.

    Raises:
        ValueError: It is none.
    """
    if not (value.isdigit() and len(value) < 10 and int(value)):  # noqa: PLR2004 - nobody tries as often
        raise ValueError("the header Saga-Attempt is a number from 1")
    return int(value)


def _deadline(value: bytes | None) -> float | None:
    """Reads a deadline.

    Raises:
        ValueError: It is none.
    """
    if value is None:
        return None
    try:
        deadline = float(value)
    except ValueError:
        deadline = float("nan")
    if not isfinite(deadline) or b"_" in value:
        raise ValueError("the header Saga-Deadline is POSIX time in seconds, such as 1790000000.5")
    return deadline


def _others(fields: Mapping[bytes, bytes]) -> dict[str, str]:
    """Gives the header fields that are not this protocol's own."""
    return {
        text: value.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
        for name, value in fields.items()
        if _passes(text := name.decode("latin-1"))
    }
