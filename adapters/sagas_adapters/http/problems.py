"""What is answered when something is wrong: ``application/problem+json`` (RFC 9457), with a type for each reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from sagas_adapters.http.fields import whole_seconds

__all__ = ["JSON", "PROBLEM", "TYPE", "HttpProblem", "Response", "problem", "writable"]

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
# Before the name of each type of problem.
TYPE: Final = "urn:sagas:problem:"

_TITLES: Final = {
    "arguments": "The arguments do not fit the step",
    "bad-json": "The body is not JSON",
    "bad-request": "The request makes no sense",
    "busy": "There is no room for another request",
    "closed": "The participant is being stopped",
    "conflict": "The state does not allow this",
    "deadline-passed": "The deadline had passed before it could begin",
    "failed": "It did not act, but may if it is tried again",
    "fenced": "The undo of this action came first",
    "forbidden": "The caller may not do this",
    "in-doubt": "Nobody knows whether it acted",
    "key-in-use": "The first request with this key is still at work",
    "key-reused": "The idempotency key came before, with another request",
    "method": "There is no such method here",
    "not-applied": "The action did not act",
    "not-found": "There is nothing here",
    "rejected": "The step rejected it, and did not act",
    "signature": "The signature does not hold",
    "slow": "The body took too long to come",
    "too-large": "The body is too large",
    "unavailable": "The journal cannot be reached now",
    "unknown-request": "This request is not at work here",
    "unknown-saga": "There is no such saga",
    "unknown-step": "The participant has no such step",
    "unsupported": "The body is not declared as JSON",
}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that is ready to be sent."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = JSON


def problem(
    kind: str,
    status: int,
    detail: str,
    *,
    retry_after: float | None = None,
    members: dict[str, object] | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Response:
    """Makes the answer for something that is wrong.

    Args:
        kind: Its type, without what stands before each.
        status: Of the response.
        detail: A sentence for people.
        retry_after: Seconds after which it may be tried again.
        members: Of the body, beyond those of the RFC.
        headers: Of the response.
    """
    body: dict[str, object] = {"type": TYPE + kind, "title": _TITLES[kind], "status": status}
    body |= {"detail": writable(detail), **(members or {})}
    if retry_after is not None:
        body["retry_after"] = retry_after
        headers = (*headers, (b"retry-after", whole_seconds(retry_after).encode()))
    return Response(status, orjson.dumps(body), headers, PROBLEM)


def writable(text: str) -> str:
    """Escapes what UTF-8 cannot write."""
    return text.encode("utf-8", "backslashreplace").decode()


class HttpProblem(Exception):  # noqa: N818 - the word of RFC 9457
    """A request is answered with a problem.

    Args:
        kind: See ``problem``, as the others.
        status: Of the response.
        detail: A sentence for people.
        more: Keyword arguments of ``problem``.

    Attributes:
        response: The answer.
    """

    def __init__(self, kind: str, status: int, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.response = problem(kind, status, detail, **more)  # type: ignore[arg-type]  # passed on as they are
