"""The coordinator's side: a transport that takes steps to a participant over HTTP."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from math import ceil, inf
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import anyio

from sagas.core.events import ErrorInfo
from sagas.core.failures import describe
from sagas.errors import DeclarationError, MessageTooLarge, TransportClosed
from sagas.transport.port import StepReply
from sagas_adapters.http.library import ClientPool, read_limited
from sagas_adapters.http.replies import Answer, is_final, is_turned_away, lost, read_reply
from sagas_adapters.http.requests import request_body, request_headers, request_path
from sagas_adapters.http.signing import SIGNATURE

if TYPE_CHECKING:
    from sagas.transport.port import Beat, StepRequest
    from sagas_adapters.http.callbacks import Callbacks, Expected
    from sagas_adapters.http.signing import Signing

__all__ = ["HttpTransport"]

# Seconds between two questions to a participant that answers at once, and does not say when to come again.
_PAUSE: Final = 1.0
# Seconds that a participant which will call back is waited for before.
_SOON: Final = 1.0
_LEAST: Final = 0.01


class _NoAnswer(Exception):  # noqa: N818 - what has happened is named
    """There is no answer to be read; this is what to say instead."""

    def __init__(self, reply: StepReply) -> None:
        super().__init__(reply)
        self.reply = reply


class _Body:
    """A body that knows whether it was sent. An action cannot have begun before its body was there.

    Attributes:
        sent: Whether any of it may have left.
    """

    __slots__ = ("_content", "sent")

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.sent = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.sent = True
        yield self._content

    def __len__(self) -> int:
        return len(self._content)


class HttpTransport:
    """Takes steps to a participant over HTTP: ``routes={"payments.*": HttpTransport("http://payments:8000")}``.

    Works under asyncio, uvloop and trio. What the participant has to do is in docs/reference/http.md;
    ``participant_app`` does it.

    Args:
        base_url: Of the participant; ``/steps/…`` is put behind it.
        client: An ``httpx2.AsyncClient`` or ``httpx.AsyncClient`` of yours, for TLS, authorization, proxies and limits;
            it stays yours to close. One of its own by default.
        timeout: Seconds for one exchange: to connect, or to be answered. A step that takes longer is answered in
            several exchanges; the step itself is limited by its own timeout only.
        poll: Seconds for which a participant is asked to keep a question waiting, before it answers that the step is
            still at work; below ``timeout``.
        sign: Signs requests.
        callbacks: Where the participant can send the answers of long steps.
        max_connections: Of a client of its own: so many calls are on their way at once, and others wait.
        max_answer: The largest answer, in bytes. A larger one leaves its step in doubt.
        max_body: The largest request that the participant takes, in bytes: its own ``max_body=``. Larger ones are not
            sent.
        now: Gives POSIX time.

    Raises:
        DeclarationError: The URL is none of HTTP, or a number makes no sense.
    """

    def __init__(
        self,
        base_url: str,
        *,
        client: Any = None,
        timeout: float = 30.0,
        poll: float = 20.0,
        sign: Signing | None = None,
        callbacks: Callbacks | None = None,
        max_connections: int = 512,
        max_answer: int = 10_000_000,
        max_body: int = 1_000_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
            raise DeclarationError(f"HttpTransport({base_url!r}): use a URL like https://payments.example/sagas")
        if not (0 < poll < timeout and max_connections >= 1 and max_answer >= 1 and max_body >= 1):
            raise DeclarationError(
                f"HttpTransport(timeout={timeout!r}, poll={poll!r}, max_connections={max_connections!r}, "
                f"max_answer={max_answer!r}, max_body={max_body!r}): use positive numbers, with poll below timeout"
            )
        self.base_url = base_url.rstrip("/")
        self.timeout, self.poll = timeout, poll
        self.sign, self.callbacks, self.now = sign, callbacks, now
        self._client = client
        self._pool = ClientPool(max_connections) if client is None else None
        self._max_answer = max_answer
        self.max_body = max_body
        self._closed = False

    def __repr__(self) -> str:
        return f"<HttpTransport to {self.base_url}>"

    async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        """See ``Transport.call``."""
        if self._closed:
            raise TransportClosed(f"step {request.step} was not sent: {self!r} is closed")
        # Signs of life come with the answers to questions, so that whoever wants them has to ask.
        with self.callbacks.expect() if self.callbacks and beat is None else nullcontext() as expected:
            return await _Call(self, request, beat, expected).outcome()

    async def close(self) -> None:
        """See ``Transport.close``."""
        self._closed = True
        if self._pool is not None:
            await self._pool.aclose()

    async def exchange(
        self, url: str, path: str, headers: dict[str, str | bytes], body: bytes, seconds: float
    ) -> Answer:
        """Sends a request, or asks a question if there is no body, and reads its answer.

        Raises:
            _NoAnswer: None came.
        """
        if self.sign is not None:
            headers[SIGNATURE] = self.sign.sign("POST" if body else "GET", path, headers, body)
        headers["accept-encoding"] = "identity"
        sending = _Body(body)
        try:
            with anyio.fail_after(seconds):
                with nullcontext(self._client) if self._pool is None else self._pool.borrow() as client:
                    return await self._send(client, url, headers, sending if body else None, seconds)
        except Exception as error:
            info = _told(error, url, seconds)
            unsent = body and not sending.sent
            say = StepReply.failed if unsent else StepReply.in_doubt
            raise _NoAnswer(say(info, reached=False)) from error

    async def _send(
        self, client: Any, url: str, headers: dict[str, str | bytes], body: _Body | None, seconds: float
    ) -> Answer:
        """Sends a request and reads its answer, with a client."""
        if body is not None:
            headers["content-length"] = str(len(body))
        method = "GET" if body is None else "POST"
        made = client.build_request(method, url, headers=headers, content=body, timeout=seconds)
        response = await client.send(made, stream=True, follow_redirects=False)
        try:
            _check_plain(response.headers)
            content = await read_limited(response, self._max_answer)
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers, content, self.now())


class _Call:
    """One call: a request, its answer, and all the questions in between."""

    def __init__(
        self, transport: HttpTransport, request: StepRequest, beat: Beat | None, expected: Expected | None
    ) -> None:
        self._transport = transport
        self._request = request
        self._beat = beat
        self._expected = expected
        self._beats = 0
        self._begun = False

    async def outcome(self) -> StepReply:
        """Sends the request until there is an answer; see ``Transport.call``."""
        while True:
            left = self._left()
            if left <= 0:
                return self._too_late()
            try:
                answer = await self._post(left)
                if answer.status != 202 or "location" not in answer.headers:  # noqa: PLR2004 - accepted
                    return self._doubted(read_reply(answer, self._request))
                self._begun = True
                answer = await self._follow(answer)
                if is_final(answer):
                    return read_reply(answer, self._request)
                if not lost(answer):
                    return self._doubted(read_reply(answer, self._request))
            except _NoAnswer as failure:
                return self._doubted(failure.reply)
            except ValueError as error:
                return StepReply.failed(describe(error), reached=False)

    def _left(self) -> float:
        """Gives the seconds until nobody waits any more."""
        deadline = self._request.deadline
        return inf if deadline is None else deadline - self._transport.now()

    def _too_late(self) -> StepReply:
        """Says that the time is over."""
        if self._begun:
            return StepReply.in_doubt(ErrorInfo("builtins:TimeoutError", "it was still at work at its deadline"))
        error = ErrorInfo("builtins:TimeoutError", "its deadline had passed before it was sent")
        return StepReply.failed(error, reached=False)

    def _doubted(self, reply: StepReply) -> StepReply:
        """Takes back that nothing was done, if an earlier exchange has found the step at work."""
        return replace(reply, outcome="in_doubt") if self._begun and reply.outcome == "failed" else reply

    async def _post(self, left: float) -> Answer:
        """Sends the request.

        Raises:
            ValueError: It cannot be written.
            MessageTooLarge: The participant would not take it.
        """
        request = self._request
        headers, path, body = request_headers(request), request_path(request), request_body(request)
        if len(body) > self._transport.max_body:
            raise MessageTooLarge(
                f"the {request.kind} of step {request.step} has {len(body)} bytes, and the participant takes "
                f"{self._transport.max_body} (max_body= of HttpTransport and participant_app); nothing was sent. Store "
                "the data elsewhere, and send a reference to it"
            )
        prefer = self._prefer(headers, left)
        if self._expected is not None:
            headers["saga-callback"] = self._expected.url
            headers["prefer"] = f"respond-async, wait={min(prefer, ceil(_SOON))}"
        limit = min(left, self._transport.timeout)
        url = self._transport.base_url + path
        return await self._transport.exchange(url, path, headers, body, limit)

    def _prefer(self, headers: dict[str, str | bytes], left: float) -> int:
        """Asks to be kept waiting."""
        seconds = max(1, ceil(min(self._transport.poll, left)))
        headers["prefer"] = f"wait={seconds}"
        if self._beat is not None:
            headers["saga-beats"] = str(self._beats)
        return seconds

    async def _follow(self, accepted: Answer) -> Answer:
        """Waits for the answer of a step that is at work.

        Raises:
            _NoAnswer: It cannot be fetched, or the time is over.
        """
        url = self._location(accepted)
        while True:
            self._hear(accepted)
            if (answer := await self._called(accepted)) is not None:
                return answer
            left = self._left()
            if left <= 0:
                raise _NoAnswer(self._too_late())
            answer = await self._ask(url, left)
            if answer.status != 202 and not is_turned_away(answer):  # noqa: PLR2004 - accepted, and still at work
                return answer
            accepted = answer

    def _location(self, accepted: Answer) -> str:
        """Gives where the answer can be fetched.

        Raises:
            _NoAnswer: It is at another server, which is none of our business, and may get no secrets of ours.
        """
        base = self._transport.base_url
        url = urljoin(base + request_path(self._request), accepted.headers["location"])
        if urlsplit(url)[:2] != urlsplit(base)[:2]:
            text = f"the participant at {base} wants its answer to be fetched from another server, {url}"
            raise _NoAnswer(StepReply.in_doubt(ErrorInfo("http", text)))
        return url

    def _hear(self, accepted: Answer) -> None:
        """Passes on signs of life."""
        beats = accepted.headers.get("saga-beats", "")
        if self._beat is not None and beats.isascii() and beats.isdigit() and int(beats) > self._beats:
            self._beats = int(beats)
            self._beat()

    async def _called(self, accepted: Answer) -> Answer | None:
        """Waits before the next question, as long as the participant says, or until it calls back."""
        left = max(self._left(), 0.0)
        if self._expected is not None and accepted.headers.get("saga-callback") == "accepted":
            return await self._expected.wait(min(self._transport.poll, left))
        pause = accepted.retry_after
        await anyio.sleep(min(_PAUSE if pause is None else max(pause, _LEAST), left))
        return None

    async def _ask(self, url: str, left: float) -> Answer:
        """Asks once.

        Raises:
            _NoAnswer: There is no answer.
        """
        headers: dict[str, str | bytes] = {}
        self._prefer(headers, left)
        if self._expected is not None:
            headers["prefer"] = "wait=0"
            headers["saga-callback"] = self._expected.url
        path = "/requests/" + urlsplit(url).path.rsplit("/", 1)[1]
        return await self._transport.exchange(url, path, headers, b"", min(left, self._transport.timeout))


def _check_plain(headers: Mapping[str, str]) -> None:
    """Refuses what was compressed though nobody asked for it: a few bytes of that can fill the memory.

    Raises:
        ValueError: It is.
    """
    coding = headers.get("content-encoding", "identity")
    if coding not in {"", "identity"}:
        raise ValueError(f"the answer is compressed ({coding}), which was not asked for")


def _told(error: Exception, url: str, seconds: float) -> ErrorInfo:
    """Describes why there is no answer, since the texts of such exceptions are short, if there are any."""
    info = describe(error)
    text = info.message or (f"no answer within {seconds:g} s" if isinstance(error, TimeoutError) else "")
    return replace(info, message=f"{url}: {text or type(error).__name__}")
