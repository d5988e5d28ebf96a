"""Answers that a participant sends by itself, to save its callers from asking."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import anyio

from sagas.errors import DeclarationError
from sagas_adapters.http.asgi import Receive, Scope, Send, local_path, read_body, segments, serve
from sagas_adapters.http.fields import quoted
from sagas_adapters.http.library import own_client
from sagas_adapters.http.problems import HttpProblem, Response
from sagas_adapters.http.replies import Answer, open_envelope, write_envelope
from sagas_adapters.http.requests import header_table
from sagas_adapters.http.signing import SIGNATURE

if TYPE_CHECKING:
    from sagas.transport.port import StepRequest
    from sagas_adapters.http.signing import Signing

__all__ = ["Callbacks", "Caller", "Expected"]

logger = logging.getLogger("sagas.http")

# Pauses before each attempt to deliver an answer. Whoever waits asks for it too, so that losing one only costs time.
_PAUSES: Final = (0.0, 0.5, 2.0)
_TIMEOUT: Final = 10.0


class Expected:
    """An answer that is to come.

    Attributes:
        url: Where it is to be sent.
        answer: It, once it is there.
    """

    __slots__ = ("_there", "answer", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.answer: Answer | None = None
        self._there = anyio.Event()

    def take(self, answer: Answer) -> None:
        """Takes it; whoever waits goes on."""
        self.answer = answer
        self._there.set()

    async def wait(self, seconds: float) -> Answer | None:
        """Waits for it for so many seconds at most."""
        with anyio.move_on_after(seconds):
            await self._there.wait()
        return self.answer


class Callbacks:
    """Where participants send the answers of long steps: ``HttpTransport(…, callbacks=Callbacks("https://…"))``.

    Mount ``app`` in the service that runs the coordinator, in the coordinator's event loop, so that it can be reached
    by the URL. Several transports may share it. An answer that never comes is asked for.

    Args:
        url: Where participants reach ``app``. They have to allow it.
        sign: Answers have to be signed with its key. Without it, who knows the random end of the URL is believed.
        max_body: The largest answer, in bytes.

    Raises:
        DeclarationError: The URL is none of HTTP, or has a query.
    """

    def __init__(self, url: str, *, sign: Signing | None = None, max_body: int = 10_000_000) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
            raise DeclarationError(f"Callbacks({url!r}): use a URL like https://orders.example/saga-callbacks")
        self._url = url.rstrip("/")
        self._sign = sign
        self._max_body = max_body
        self._expected: dict[str, Expected] = {}

    @contextmanager
    def expect(self) -> Generator[Expected]:
        """Opens a place for one answer, for as long as somebody waits for it."""
        number = token_urlsafe(24)
        expected = self._expected[number] = Expected(f"{self._url}/{number}")
        try:
            yield expected
        finally:
            del self._expected[number]

    @property
    def app(self) -> Callbacks:
        """Gives the ASGI app: this very object, which servers and frameworks take for one where they refuse methods."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await serve(scope, receive, send, self._answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """Takes an answer.

        Raises:
            HttpProblem: It is none, or nobody waits for it.
        """
        if scope["method"] != "POST":
            raise HttpProblem("method", 405, "use POST here", headers=((b"allow", b"POST"),))
        fields = header_table(scope["headers"])
        body = await read_body(fields, receive, self._max_body)
        if self._sign is not None:
            self._sign.check("POST", local_path(scope).rstrip("/"), fields, body)
        expected = self._expected.get("/".join(segments(scope)))
        if expected is None:
            raise HttpProblem("not-found", 404, "nobody waits for this answer (any more)")
        try:
            expected.take(open_envelope(body, time.time()))
        except ValueError as error:
            raise HttpProblem("bad-json", 400, f"this is no answer: {error}") from error
        return Response(204)


class Caller:
    """Sends answers to URLs that are allowed, and to no others.

    Args:
        allowed: URLs; what is below one is allowed too.
        sign: Signs them.
        client: To send them with.

    Raises:
        DeclarationError: A URL makes no sense.
    """

    def __init__(self, allowed: Iterable[str], sign: Signing | None, client: Any) -> None:
        given = (allowed,) if isinstance(allowed, str) else tuple(allowed)
        self._allowed = tuple(_prefix(url) for url in given)
        self._sign = sign
        self._client = client

    def allows(self, url: str) -> bool:
        """Says whether answers may be sent to a URL."""
        if not self._allowed or not url:
            return False
        place = _place(url)
        return place is not None and any(_is_below(place, prefix) for prefix in self._allowed)

    async def call(self, url: str, request: StepRequest, response: Response) -> None:
        """Sends an answer; that it does not arrive is no failure."""
        if self._client is None:
            self._client = own_client(max_connections=100)
        body = write_envelope(response)
        for pause in _PAUSES:
            await anyio.sleep(pause)
            status = await self._post(url, request, body)
            if status is not None and status < 500:  # noqa: PLR2004 - it was taken, or never will be
                return
        logger.warning("the answer of %s could not be sent to %s; it has to be asked for", request.step, url)

    async def _post(self, url: str, request: StepRequest, body: bytes) -> int | None:
        """Tries to send it, and gives the status if it was answered."""
        headers = {"content-type": "application/json", "idempotency-key": quoted(request.idempotency_key)}
        if self._sign is not None:
            path = "/" + url.rsplit("/", 1)[1]
            headers[SIGNATURE] = self._sign.sign("POST", path, headers, body)
        try:
            with anyio.fail_after(_TIMEOUT):
                made = self._client.build_request("POST", url, content=body, headers=headers)
                response = await self._client.send(made, follow_redirects=False, stream=True)
                await response.aclose()
        except Exception as error:  # noqa: BLE001 - whatever a client raises, the answer has not arrived
            logger.info("the answer of %s could not be sent to %s: %r", request.step, url, error)
            return None
        return int(response.status_code)


def _prefix(url: str) -> tuple[str, str, tuple[str, ...]]:
    """Reads a URL that is allowed.

    Raises:
        DeclarationError: It is none of HTTP.
    """
    place = _place(url)
    if place is None:
        raise DeclarationError(
            f"callbacks_allowed={url!r}: use URLs like https://orders.example/saga-callbacks, without query or user"
        )
    scheme, origin, path = place
    return scheme, origin, path[:-1] if path[-1:] == ("",) else path


def _place(url: str) -> tuple[str, str, tuple[str, ...]] | None:
    """Takes a URL apart; ``None`` if there is anything in it that servers might read in different ways."""
    if not url.isascii() or not url.isprintable() or any(sign in url for sign in " \\@#?;"):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return None
    path = tuple(parts.path.split("/")[1:])
    if not parts.hostname or any(_is_twisted(segment) for segment in path):
        return None
    return parts.scheme, f"{parts.hostname}:{port}", path


def _is_twisted(segment: str) -> bool:
    """Says whether a segment of a path may lead elsewhere."""
    plain = unquote(unquote(segment))
    return plain in {".", ".."} or "/" in plain or "\\" in plain


def _is_below(place: tuple[str, str, tuple[str, ...]], prefix: tuple[str, str, tuple[str, ...]]) -> bool:
    """Says whether a place is an allowed one, or below it."""
    return place[:2] == prefix[:2] and place[2][: len(prefix[2])] == prefix[2]
