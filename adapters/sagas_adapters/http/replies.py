"""How a ``StepReply`` travels: status, header fields and body. See docs/reference/http.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import orjson

from sagas.core.events import ErrorInfo
from sagas.errors import KeyReused
from sagas.transport.port import StepReply
from sagas_adapters.http.fields import as_seconds, members, retry_after_seconds, whole_seconds
from sagas_adapters.http.problems import TYPE, Response, problem, writable

if TYPE_CHECKING:
    from sagas.transport.port import StepRequest

__all__ = [
    "Answer",
    "is_final",
    "is_turned_away",
    "key_reused",
    "lost",
    "open_envelope",
    "read_reply",
    "write_envelope",
    "write_reply",
]

_NOBODY: Final = ErrorInfo("unknown", "")
# Why an attempt failed, which gives its status: by the type of the error that the participant describes.
_FAILED: Final = {
    "sagas.errors:SagaNotRegistered": ("unknown-step", 404),
    "sagas.errors:PayloadError": ("arguments", 422),
    "sagas.errors:RequestError": ("bad-request", 400),
    "builtins:TimeoutError": ("deadline-passed", 412),
}
# Types of problems which say that nothing was begun.
_NOT_BEGUN: Final = frozenset(
    TYPE + kind
    for kind in (
        "arguments", "bad-json", "bad-request", "busy", "closed", "deadline-passed", "failed", "method", "not-found",
        "signature", "slow", "too-large", "unknown-step", "unsupported",
    )
)  # fmt: skip
# Types that say nothing about the step when its answer is fetched.
_OF_THE_QUESTION: Final = frozenset(TYPE + kind for kind in ("method", "not-found", "signature", "unknown-request"))
# Statuses by which a server, or a proxy before it, refuses to begin. Not 408 and 409: who knows what went before.
_REFUSED: Final = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 421, 428, 429, 431})
# What a proxy says when it does not get through to the participant.
_GATEWAY: Final = frozenset({502, 503, 504})
_SHOWN: Final = 300


class Answer(NamedTuple):
    """A response as it came.

    Attributes:
        status: Of it.
        headers: Names in lower case.
        body: All of it.
        now: POSIX time at which it came.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    now: float

    @property
    def media_type(self) -> str:
        """Gives its content type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        """Gives the seconds of ``Retry-After``."""
        return retry_after_seconds(self.headers.get("retry-after"), self.now)


# --- writing ---------------------------------------------------------------------------------------------------------


def write_reply(reply: StepReply, request: StepRequest, *, tracebacks: bool = True) -> Response:
    """Makes the response for a reply."""
    match reply.outcome:
        case "succeeded":
            return _result(reply.payload or b"null", undo=request.kind == "undo")
        case "not_applied":
            return problem("not-applied", 404, f"{request.step}: the action with this key did not act")
        case "fenced":
            return problem("fenced", 409, f"{request.step}: its undo came first; it did not act, and never will")
        case "running":
            return _running(reply)
        case _:
            return _failure(reply, request, tracebacks=tracebacks)


def _result(payload: bytes, *, undo: bool) -> Response:
    """Makes the response for a success."""
    return Response(204) if undo and payload == b"null" else Response(200, payload)


def _running(reply: StepReply) -> Response:
    """Makes the response for what is at work, but not here."""
    if reply.retry_after is None:
        return Response(202, b"{}")
    after = whole_seconds(reply.retry_after).encode()
    return Response(202, orjson.dumps({"retry_after": reply.retry_after}), ((b"retry-after", after),))


def _failure(reply: StepReply, request: StepRequest, *, tracebacks: bool) -> Response:
    """Makes the response for a rejection, a failure or a doubt."""
    error = reply.error or _NOBODY
    kind, status = {"rejected": ("rejected", 422), "in_doubt": ("in-doubt", 500)}.get(
        reply.outcome, _FAILED.get(error.type, ("failed", 500))
    )
    if kind == "arguments" and not _is_json(request.arguments):
        kind, status = "bad-json", 400
    told = _write_error(error, tracebacks=tracebacks)
    return problem(kind, status, error.message, retry_after=reply.retry_after, members={"error": told})


def _is_json(payload: bytes) -> bool:
    """Says whether it was JSON at least."""
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return True


def _write_error(error: ErrorInfo, *, tracebacks: bool) -> dict[str, object]:
    """Writes an exception; its text is the problem's ``detail``."""
    told: dict[str, object] = {"type": writable(error.type)}
    if error.fields is not None:
        told["fields"] = _write_fields(error.fields)
    if tracebacks and error.traceback:
        told["traceback"] = writable(error.traceback)
    return told


def _write_fields(fields: bytes) -> object:
    """Gives an exception's fields as an object where that comes back the same to the byte, else as a text."""
    try:
        value = orjson.loads(fields)
    except orjson.JSONDecodeError:
        return fields.decode("utf-8", "replace")
    return cast("object", value) if isinstance(value, dict) and orjson.dumps(value) == fields else fields.decode()


def key_reused(error: KeyReused) -> Response:
    """Makes the response for a key that came before with another request."""
    return problem("key-reused", 422, str(error))


# --- reading ---------------------------------------------------------------------------------------------------------


def read_reply(answer: Answer, request: StepRequest) -> StepReply:
    """Reads a response, from this library or anybody else.

    Raises:
        KeyReused: The participant knows the key from another request.
    """
    if 200 <= answer.status < 300:  # noqa: PLR2004 - what HTTP calls successful
        return _read_success(answer)
    told = _problem_of(answer)
    kind = told.get("type", "")
    if kind == TYPE + "key-reused":
        raise KeyReused(request.idempotency_key, request.step)
    error = _read_error(answer, told)
    if (plain := _read_plain(kind, error, request)) is not None:
        return plain
    after = as_seconds(told.get("retry_after"))
    after = answer.retry_after if after is None else after
    # A refusal has arrived, and a proxy may have tried another server before: that nothing acted is not final.
    reached = _is_ours(kind) or answer.status not in _GATEWAY
    if kind in _NOT_BEGUN or (not _is_ours(kind) and answer.status in _REFUSED):
        return StepReply.failed(error, retry_after=after, reached=reached)
    return StepReply.in_doubt(error, retry_after=after, reached=reached)


def _read_success(answer: Answer) -> StepReply:
    """Reads a success, or that it is at work elsewhere."""
    if answer.status == 202:  # noqa: PLR2004 - accepted
        after = as_seconds(_loaded(answer.body).get("retry_after"))
        return StepReply.running(retry_after=answer.retry_after if after is None else after)
    if answer.status == 204 or not answer.body:  # noqa: PLR2004 - no content
        return StepReply.succeeded()
    if answer.media_type != "application/json":
        return StepReply.in_doubt(_unexpected(answer, "which is not the JSON of a participant"))
    return StepReply.succeeded(answer.body)


def _read_plain(kind: object, error: ErrorInfo, request: StepRequest) -> StepReply | None:
    """Reads what needs only the type of the problem."""
    if request.kind == "probe" and kind == TYPE + "not-applied":
        return StepReply.not_applied()
    if request.kind == "action" and kind == TYPE + "fenced":
        return StepReply.fenced()
    if request.kind == "action" and kind == TYPE + "rejected":
        return StepReply.rejected(error)
    foreign = error.type.startswith("problem:")
    return StepReply.rejected(error) if foreign and request.kind == "action" else None


def _is_ours(kind: object) -> bool:
    """Says whether a problem is of a type that is defined here."""
    return isinstance(kind, str) and kind.startswith(TYPE)


def _problem_of(answer: Answer) -> dict[str, Any]:
    """Gives the members of a problem; none if there is none."""
    return _loaded(answer.body) if answer.media_type == "application/problem+json" else {}


def _loaded(body: bytes) -> dict[str, Any]:
    """Reads an object, as far as there is one."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _read_error(answer: Answer, told: dict[str, Any]) -> ErrorInfo:
    """Reads an exception.

    A problem of somebody else's type with the status 409 or 422 is a rejection; its type gets ``problem:`` before it.
    """
    if not told:
        return _unexpected(answer, "without saying what became of the step")
    detail = told.get("detail") or told.get("title") or f"HTTP {answer.status}"
    error = told.get("error")
    if _is_ours(told.get("type")):
        given = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
        kind = given.get("type") or str(told["type"])
        return ErrorInfo(
            str(kind), str(told.get("detail", "")), _read_fields(given.get("fields")), str(given.get("traceback", ""))
        )
    name = str(told.get("type") or "about:blank")
    return ErrorInfo(f"problem:{name}" if answer.status in {409, 422} else name, str(detail))


def _read_fields(fields: object) -> bytes | None:
    """Reads what ``_write_fields`` wrote."""
    if fields is None:
        return None
    return fields.encode() if isinstance(fields, str) else orjson.dumps(fields)


def _unexpected(answer: Answer, what: str) -> ErrorInfo:
    """Describes a response that no participant would give."""
    body = answer.body[:_SHOWN].decode("utf-8", "replace")
    kind = f" {answer.media_type}" if answer.media_type else ""
    if 300 <= answer.status < 400 and "location" in answer.headers:  # noqa: PLR2004 - redirects
        what = f"a redirect to {answer.headers['location'][:_SHOWN]}, which is not followed; call it there if it moved"
    return ErrorInfo("http", f"HTTP {answer.status}{kind} came, {what}{': ' if body else ''}{body}")


def is_final(answer: Answer) -> bool:
    """Says whether an answer that was fetched is that of the step, rather than of something on the way to it."""
    kind = _problem_of(answer).get("type")
    return answer.status < 300 or (_is_ours(kind) and kind not in _OF_THE_QUESTION)  # noqa: PLR2004 - no success


def is_turned_away(answer: Answer) -> bool:
    """Says whether somebody on the way asks to be left alone for a while; the step is at work all the same."""
    return answer.status in {429, 503} and not _is_ours(_problem_of(answer).get("type"))


def lost(answer: Answer) -> bool:
    """Says whether a participant answers a poll with: I know of no such request."""
    return answer.status == 404 and _problem_of(answer).get("type") == TYPE + "unknown-request"  # noqa: PLR2004 - not found


# --- callbacks -------------------------------------------------------------------------------------------------------


def write_envelope(response: Response) -> bytes:
    """Packs a response into the body of a callback, where a signature holds for all of it."""
    name = b'"problem":' if response.status >= 300 else b'"result":'  # noqa: PLR2004 - no success
    return b'{"status":%d,%b%b}' % (response.status, name, response.body or b"null")


def open_envelope(body: bytes, now: float) -> Answer:
    """Unpacks what ``write_envelope`` packed.

    Raises:
        ValueError: It is nothing of that kind.
    """
    found = members(body)
    status = found.get("status", b"")
    if not (status.isdigit() and len(status) == 3):  # noqa: PLR2004 - as HTTP's are
        raise ValueError("the body of a callback is an object with a `status` of three digits")
    name, kind = ("problem", "problem+json") if status >= b"300" else ("result", "json")
    payload = b"" if status == b"204" else found.get(name, b"null")
    return Answer(int(status), {"content-type": f"application/{kind}"}, payload, now)
