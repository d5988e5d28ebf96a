"""Sagas over HTTP: started, read, signalled and cancelled by others, whatever language they are written in."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import parse_qs, quote

import anyio
import orjson

from sagas.core.operations import SagaCall
from sagas.errors import (
    CoordinatorBusy,
    CoordinatorClosed,
    DeclarationError,
    IdempotencyConflict,
    NotApplicable,
    PayloadError,
    RequestError,
    SagaCompensated,
    SagaError,
    SagaNotFound,
    SagaNotRegistered,
    SagaStuck,
    StoreError,
)
from sagas_adapters.http.asgi import Receive, Scope, Send, check_json, read_body, segments, serve
from sagas_adapters.http.fields import preferred_wait, unquoted
from sagas_adapters.http.problems import HttpProblem, Response
from sagas_adapters.http.requests import header_table
from sagas_adapters.http.responses import MemoryResponses, Responses

if TYPE_CHECKING:
    from sagas.coordinator import Client, Coordinator
    from sagas.core.definitions import Saga

__all__ = ["Authorize", "RouterRequest", "SagaRouter", "saga_router"]

logger = logging.getLogger("sagas.http")

_LONGEST_ANSWER: Final = 1000
_BUSY: Final = 1.0
# What each error of a coordinator says to whoever asked, the first that fits.
_ERRORS: Final[tuple[tuple[type[SagaError], str, int], ...]] = (
    (IdempotencyConflict, "key-reused", 422),
    (SagaNotFound, "unknown-saga", 404),
    (SagaNotRegistered, "unknown-saga", 404),
    (NotApplicable, "conflict", 409),
    (CoordinatorBusy, "busy", 503),
    (CoordinatorClosed, "closed", 503),
    (RequestError, "bad-request", 400),
    (PayloadError, "arguments", 422),
    (StoreError, "unavailable", 503),
)


class RouterRequest(NamedTuple):
    """What ``authorize`` is asked about.

    Attributes:
        scope: Of ASGI, with the headers and what middleware has put there.
        headers: Names in lower case.
        action: ``start``, ``read``, ``list``, ``signal`` or ``cancel``.
        subject: Name of the saga that is to be started, id of the one that is asked about; ``""`` of a list.
    """

    scope: Scope
    headers: Mapping[str, str]
    action: str
    subject: str


# Says no with a false value; a text says yes, and whose the idempotency keys are.
Authorize = Callable[[RouterRequest], bool | str | Awaitable[bool | str]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, read and allowed.

    Attributes:
        headers: Names in lower case.
        body: All of it.
        whose: The caller, as far as ``authorize`` tells them apart.
        query: Of the URL.
    """

    headers: Mapping[bytes, bytes]
    body: bytes
    whose: str
    query: str

    def key(self) -> str | None:
        """Gives the idempotency key, if there is one.

        Raises:
            HttpProblem: It cannot be read.
        """
        value = self.headers.get(b"idempotency-key")
        try:
            return None if value is None else unquoted(value)
        except ValueError as error:
            raise HttpProblem("bad-request", 400, f"the header Idempotency-Key cannot be read: {error}") from error


def saga_router(
    coordinator: Coordinator | Client,
    *,
    sagas: Iterable[Saga[..., Any]],
    authorize: Authorize | None = None,
    max_body: int = 1_000_000,
    wait: float = 30.0,
    responses: Responses | None = None,
) -> SagaRouter:
    """Makes an ASGI app by which sagas are started, read, signalled and cancelled.

    Args:
        coordinator: A ``Coordinator``, or a ``Client``; entered before the first request comes.
        sagas: Those that may be started.
        authorize: Asked before everything that is done. Without one, everybody may do everything, so mount the router
            where only those can reach it who may.
        max_body: The largest body, in bytes.
        wait: Seconds that a caller is kept waiting at most, whatever it prefers.
        responses: Keeps the responses to signals and cancellations: ``SqlResponses(URL)`` for all processes, by default
            ``MemoryResponses()`` for this one.

    Raises:
        DeclarationError: A saga is none, or a number makes no sense.
    """
    kept = responses or MemoryResponses()
    return SagaRouter(coordinator, sagas=sagas, authorize=authorize, max_body=max_body, wait=wait, responses=kept)


class SagaRouter:
    """See ``saga_router``."""

    def __init__(
        self,
        coordinator: Coordinator | Client,
        *,
        sagas: Iterable[Saga[..., Any]],
        authorize: Authorize | None,
        max_body: int,
        wait: float,
        responses: Responses,
    ) -> None:
        from sagas.core.definitions import Saga

        self._coordinator = coordinator
        self._sagas: dict[str, Saga[..., Any]] = {}
        for saga in sagas:
            if not isinstance(saga, Saga):
                raise DeclarationError(f"saga_router(sagas=…): {saga!r} is no saga; decorate it with @saga")
            self._sagas[saga.name] = saga
        if max_body < 1 or not 0 <= wait < float("inf"):
            raise DeclarationError(f"saga_router(max_body={max_body!r}, wait={wait!r}): use positive numbers")
        self._authorize = authorize
        self._max_body = max_body
        self._wait = wait
        self._responses = responses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await serve(scope, receive, send, self._answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """Answers a request.

        Raises:
            HttpProblem: It cannot be granted.
        """
        headers = header_table(scope["headers"])
        action, subject, name = _route(scope["method"], segments(scope))
        whose = await self._allowed(scope, headers, action, subject)
        body = await read_body(headers, receive, self._max_body)
        asked = _Asked(headers, body, whose, scope.get("query_string", b"").decode("latin-1"))
        try:
            match action:
                case "start":
                    return await self._start(subject, asked)
                case "read":
                    return await self._read(subject)
                case "list":
                    return await self._list(asked)
                case _:
                    return await self._order(action, subject, name, asked)
        except SagaError as error:
            raise _refusal(error) from error

    async def _allowed(self, scope: Scope, headers: Mapping[bytes, bytes], action: str, subject: str) -> str:
        """Asks whether the caller may; gives who it is.

        Raises:
            HttpProblem: It may not.
        """
        if self._authorize is None:
            return ""
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        answer = self._authorize(RouterRequest(scope, told, action, subject))
        verdict = await answer if inspect.isawaitable(answer) else answer
        if not verdict:
            raise HttpProblem("forbidden", 403, f"the caller may not {action} {subject or 'sagas'}".rstrip())
        return verdict if isinstance(verdict, str) else ""

    # --- starting ------------------------------------------------------------------------------------------------

    async def _start(self, name: str, asked: _Asked) -> Response:
        """Starts a saga, or finds the one that was started with the same key."""
        saga = self._sagas.get(name)
        if saga is None:
            known = ", ".join(sorted(self._sagas)) or "none"
            raise HttpProblem("unknown-saga", 404, f"no saga {name!r} can be started here; these can: {known}")
        check_json(asked.headers)
        call: SagaCall[Any] = SagaCall(saga, dict(saga.arguments_schema.decode(_json(asked.body or b"{}"))))
        key = asked.key()
        handle = await self._coordinator.start(call, id=None if key is None else saga_id_of(name, asked.whose, key))
        await self._await_end(handle.result, asked)
        return await self._document(handle.id, at=f"./{quote(handle.id, safe='')}", done=200, still=202)

    async def _await_end(self, result: Callable[[], Awaitable[object]], asked: _Asked) -> None:
        """Waits for a saga's end as long as the caller prefers."""
        wanted = preferred_wait(asked.headers.get(b"prefer", b"").decode("latin-1"))
        with anyio.move_on_after(min(wanted or 0.0, self._wait)):
            if wanted:
                try:
                    await result()
                except (SagaCompensated, SagaStuck):
                    return  # the document tells

    # --- reading -------------------------------------------------------------------------------------------------

    async def _read(self, saga_id: str) -> Response:
        """Shows a saga."""
        return await self._document(saga_id)

    async def _document(self, saga_id: str, *, at: str | None = None, done: int = 200, still: int = 200) -> Response:
        """Shows a saga, and says where it can be seen."""
        view = await self._coordinator.get(saga_id)
        shown = {name: getattr(view, name) for name in _SHOWN}
        headers = () if at is None else ((b"location", at.encode()),)
        return Response(done if view.ended_at is not None else still, orjson.dumps(shown, default=str), headers)

    async def _list(self, asked: _Asked) -> Response:
        """Shows sagas, newest first."""
        query = {name: values[-1] for name, values in parse_qs(asked.query).items()}
        unknown = set(query) - {"status", "name", "limit", "before"}
        limit = query.get("limit", "100")
        digits = limit.isascii() and limit.isdigit() and len(limit) < 5  # noqa: PLR2004 - more than enough
        if unknown or not (digits and 1 <= int(limit) <= _LONGEST_ANSWER):
            detail = f"use status=, name=, before= and limit= from 1 to {_LONGEST_ANSWER}"
            raise HttpProblem("bad-request", 400, detail)
        rows = await self._coordinator.list(
            status=query.get("status"), name=query.get("name"), before=query.get("before"), limit=int(limit)
        )
        return Response(200, orjson.dumps({"sagas": [asdict(row) for row in rows]}, default=str))

    # --- signals and cancellations -------------------------------------------------------------------------------

    async def _order(self, action: str, saga_id: str, name: str, asked: _Asked) -> Response:
        """Sends a signal or cancels, once for each key."""
        check_json(asked.headers)
        given = asked.key()
        if given is None:
            return await self._obey(action, saga_id, name, asked.body)
        key = _digest("order", asked.whose, given).hex()
        found = await self._responses.begin(key, _digest(action, saga_id, name, asked.body))
        if found == "running":
            detail = "the first request with this key is still at work; ask again later"
            raise HttpProblem("key-in-use", 409, detail, retry_after=_BUSY)
        if found == "mismatch":
            raise HttpProblem("key-reused", 422, f"the idempotency key {given!r} came before, with another request")
        return found or await self._first(key, action, saga_id, name, asked.body)

    async def _first(self, key: str, action: str, saga_id: str, name: str, body: bytes) -> Response:
        """Performs the first request with a key, and keeps its response."""
        try:
            response = await self._obey(action, saga_id, name, body)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._keep(self._responses.forget(key))
            raise
        with anyio.CancelScope(shield=True):
            await self._keep(self._responses.finish(key, response))
        return response

    async def _keep(self, change: Awaitable[None]) -> None:
        """Notes how a request ended. If that fails, whoever asked is told all the same, since it has been done."""
        try:
            await change
        except StoreError as error:
            logger.warning("a repeat of a request may be performed once more, for the response is not kept: %s", error)

    async def _obey(self, action: str, saga_id: str, name: str, body: bytes) -> Response:
        """Sends a signal, or cancels."""
        given: Any = orjson.loads(_json(body or b"null"))
        if action == "signal":
            await self._coordinator.signal(saga_id, name, given)
            return Response(202, b"{}")
        reason, by = _wish(given)
        await self._coordinator.cancel(saga_id, reason=reason, by=by)
        return Response(202, b"{}")


_SHOWN: Final = (
    "id", "name", "version", "status", "waiting", "created_at", "ended_at", "result", "error", "cause", "waits_for",
)  # fmt: skip


def saga_id_of(name: str, whose: str, key: str) -> str:
    """Gives the id of the saga that a caller starts with a key: always the same, so that no table has to remember."""
    return f"{name[:100]}-{_digest(name, whose, key).hex()}"


def _digest(*parts: str | bytes) -> bytes:
    """Gives 16 bytes over some parts, and where each ends."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def _route(method: str, path: tuple[str, ...]) -> tuple[str, str, str]:
    """Finds what is asked for: the action, whom it is about, and the name of a signal.

    Raises:
        HttpProblem: There is nothing there.
    """
    match path:
        case ("sagas",):
            actions = {"GET": ("list", "", "")}
        case ("sagas", subject):
            actions = {"GET": ("read", subject, ""), "POST": ("start", subject, "")}
        case ("sagas", subject, "signals", name):
            actions = {"POST": ("signal", subject, name)}
        case ("sagas", subject, "cancel"):
            actions = {"POST": ("cancel", subject, "")}
        case _:
            raise HttpProblem("not-found", 404, "there are only /sagas, /sagas/ID, …/signals/NAME and …/cancel here")
    if method not in actions:
        allowed = ", ".join(actions)
        raise HttpProblem("method", 405, f"use {allowed} here", headers=((b"allow", allowed.encode()),))
    return actions[method]


def _wish(given: object) -> tuple[str, str]:
    """Reads why somebody wants a saga to be cancelled, and who.

    Raises:
        HttpProblem: It does not say.
    """
    told = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    reason, by = told.get("reason"), told.get("by", "")
    if not (isinstance(reason, str) and isinstance(by, str)):
        raise HttpProblem("bad-request", 400, 'the body of a cancellation is {"reason": "some text", "by": "who"}')
    return reason, by


def _json(body: bytes) -> bytes:
    """Refuses what is no JSON.

    Raises:
        HttpProblem: See above.
    """
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpProblem("bad-json", 400, f"the body is no JSON: {error}") from error
    return body


def _refusal(error: SagaError) -> HttpProblem:
    """Makes the answer for a request that a coordinator does not grant.

    Raises:
        SagaError: The very one, if it is none of those that say so.
    """
    for kind, name, status in _ERRORS:
        if isinstance(error, kind):
            later = _BUSY if status == 503 else None  # noqa: PLR2004 - unavailable
            return HttpProblem(name, status, str(error), retry_after=later)
    raise error
