"""Calls of other people's APIs from steps: what is sent, and what each answer says about the step."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import orjson
from opentelemetry import propagate

from sagas.context import current_step
from sagas.errors import DeclarationError, OutsideSaga, Rejected
from sagas_adapters.http.fields import quoted, retry_after_seconds
from sagas_adapters.http.library import own_client, read_limited

if TYPE_CHECKING:
    from sagas.context import StepContext

__all__ = ["Api", "ApiInDoubt", "ApiNotActed", "ApiRejected"]

# "No", to this request and every other of its kind. 409 is not among them: with an idempotency key it says that the
# first request with that key is still at work. Nor are 401 and 403, which somebody has to mend.
_REJECTS: Final = frozenset({400, 402, 404, 410, 412, 413, 422, 451})
# The server refuses to begin: another attempt may be let in.
_NOT_BEGUN: Final = frozenset({401, 403, 405, 406, 407, 411, 414, 415, 417, 421, 425, 426, 428, 429, 431})
_NOT_SENT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"}
)
_PAUSE: Final = 0.5
_SHOWN: Final = 300


class ApiRejected(Rejected):
    """The API said no, so nothing happened.

    Attributes:
        status: Of its answer.
        problem: What the answer says, as JSON's types; its text if it is no JSON.
    """

    def __init__(self, message: str, status: int, problem: object) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


class ApiNotActed(Exception):  # noqa: N818 - the field's word
    """The API cannot have acted: it was not reached, or refused to begin. Another attempt may work.

    Attributes:
        status: Of its answer, if there was one.
        retry_after: Seconds for which it wants to be left alone, if it said so.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ApiInDoubt(Exception):  # noqa: N818 - the field's word
    """The API may have acted: the answer got lost, or is a failure of its own.

    Attributes:
        status: Of its answer, if there was one.
        retry_after: Seconds for which it wants to be left alone, if it said so.
    """

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Api:
    """Calls somebody's API in steps: ``await stripe.post("/v1/charges", json={…})``.

    What changes something goes with the step's idempotency key. Every call ends at the step's deadline, and goes with
    the trace. Works under asyncio, uvloop and trio. One object serves any number of steps; leave it with ``aclose``.

    Args:
        base_url: Before every URL.
        client: An ``httpx2.AsyncClient`` or ``httpx.AsyncClient`` of yours, for TLS and authorization; it stays yours
            to close.
        rejects: Statuses that say: nothing happened, and asking again is no use.
        key_header: Where the API wants the idempotency key; ``None`` if it knows none.
        quote_key: Whether the key stands in quotes, as in the IETF draft. Most APIs want it bare.
        timeout: Seconds for one call, if the step's deadline is not nearer.
        patience: Seconds, at most, for which one call may wait before it tries again what was not begun: until the API
            can be reached, or for its ``Retry-After``. Never beyond the step's deadline; 0 for not at all.
        max_connections: Of a client of its own.
        max_answer: The largest answer, in bytes. A larger one leaves the step in doubt.

    Raises:
        DeclarationError: A number makes no sense.
    """

    def __init__(
        self,
        base_url: str = "",
        *,
        client: Any = None,
        rejects: Collection[int] = _REJECTS,
        key_header: str | None = "Idempotency-Key",
        quote_key: bool = False,
        timeout: float = 30.0,
        patience: float = 10.0,
        max_connections: int = 100,
        max_answer: int = 10_000_000,
    ) -> None:
        if not (timeout > 0 and patience >= 0 and max_connections >= 1 and max_answer >= 1):
            raise DeclarationError(f"Api({base_url!r}): timeout=, max_connections= and max_answer= are above zero")
        self._base_url = base_url.rstrip("/")
        self._client, self._own = client, client is None
        self._rejects = frozenset(rejects)
        self._key_header, self._quote_key = key_header, quote_key
        self._timeout, self._patience = timeout, patience
        self._max_connections, self._max_answer = max_connections, max_answer

    async def get(self, url: str, **options: Any) -> Any:
        """Reads; see ``request``."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> Any:
        """Does something; see ``request``."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> Any:
        """Writes; see ``request``."""
        return await self.request("PUT", url, **options)

    async def patch(self, url: str, **options: Any) -> Any:
        """Changes; see ``request``."""
        return await self.request("PATCH", url, **options)

    async def delete(self, url: str, **options: Any) -> Any:
        """Deletes; see ``request``."""
        return await self.request("DELETE", url, **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        part: str = "",
        accept: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        """Makes a call.

        Args:
            method: Of HTTP.
            url: Behind the base URL, or a whole one.
            part: Tells the calls of one step apart, which need a key each. It goes behind the step's key.
            accept: Statuses that are returned and not raised, such as 404 where something is deleted.
            headers: More of them; one that names the key replaces it.
            options: ``json=``, ``content=``, ``data=``, ``params=``, … of ``httpx2.AsyncClient.build_request``.

        Returns:
            The ``httpx2.Response``, read.

        Raises:
            ApiRejected: Nothing happened: the step is rejected.
            ApiNotActed: Nothing happened, and it could not wait any longer. Retried if the step is; in doubt when its
                attempts are used up, unless it is ``atomic=True``.
            ApiInDoubt: It may have happened. Retried if the step is.
        """
        step = _step()
        give_up = time.monotonic() + self._patience
        pause = _PAUSE
        while True:
            try:
                return await self._attempt(method, url, self._headers(method, part, headers, step), accept, options)
            except ApiNotActed as error:
                pause = pause * 2 if error.retry_after is None else error.retry_after
                if time.monotonic() + pause > give_up or pause >= _left(step):
                    raise
            await anyio.sleep(pause)

    async def aclose(self) -> None:
        """Closes the client, unless it is yours."""
        if self._own and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _headers(
        self, method: str, part: str, given: Mapping[str, str] | None, step: StepContext | None
    ) -> dict[str, str]:
        """Gives the header fields of a call."""
        headers: dict[str, str] = {}
        propagate.inject(headers)
        if step is not None and self._key_header is not None and method.upper() not in {"GET", "HEAD", "OPTIONS"}:
            key = quoted(f"{step.idempotency_key}:{part}" if part else step.idempotency_key)
            headers[self._key_header] = key if self._quote_key else key[1:-1]
        return {**headers, **(given or {})}

    async def _attempt(
        self, method: str, url: str, headers: dict[str, str], accept: Collection[int], options: dict[str, Any]
    ) -> Any:
        """Makes a call once; raises as ``request``."""
        seconds = min(self._timeout, _left(_step()))
        where = f"{method} {url if '://' in url else self._base_url + url}"
        if seconds <= 0:
            raise ApiNotActed(f"{where} was not made: the step's deadline had passed")
        try:
            with anyio.fail_after(seconds):
                response = await self._send(where, seconds, {"headers": headers, **options})
        except Exception as error:
            names = {kind.__name__ for kind in type(error).__mro__}
            text = f"{where}: {str(error) or type(error).__name__}"
            raise (ApiNotActed if names & _NOT_SENT else ApiInDoubt)(text) from error
        if response.status_code in accept or response.is_success:
            return response
        raise self._failure(where, response)

    async def _send(self, where: str, seconds: float, options: dict[str, Any]) -> Any:
        """Sends a request, and reads the answer.

        Raises:
            ValueError: That is too large.
        """
        if self._client is None:
            self._client = own_client(max_connections=self._max_connections)
        method, _, url = where.partition(" ")
        made = self._client.build_request(method, url, timeout=seconds, **options)
        response = await self._client.send(made, stream=True, follow_redirects=False)
        try:
            # What reading it without a limit would have set.
            response._content = await read_limited(response, self._max_answer)  # noqa: SLF001 - see above
        finally:
            await response.aclose()
        return response

    def _failure(self, where: str, response: Any) -> Exception:
        """Says what an answer means that is no success."""
        status = int(response.status_code)
        problem = _problem(response)
        message = f"{where}: HTTP {status}: {_shown(problem)}"
        if status in self._rejects:
            return ApiRejected(message, status, problem)
        after = retry_after_seconds(response.headers.get("retry-after"), time.time())
        return (ApiNotActed if status in _NOT_BEGUN else ApiInDoubt)(message, status, after)


def _step() -> StepContext | None:
    """Gives the step that runs; none in a unit test of a plain function."""
    try:
        return current_step()
    except OutsideSaga:
        return None


def _left(step: StepContext | None) -> float:
    """Gives the seconds until a step's deadline."""
    return float("inf") if step is None or step.deadline is None else step.deadline - time.time()


def _problem(response: Any) -> object:
    """Reads the body of an answer, as JSON if it is."""
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return response.content[:_SHOWN].decode("utf-8", "replace")


def _shown(problem: object) -> str:
    """Gives what a problem says to people."""
    if not isinstance(problem, dict):
        return str(problem)[:_SHOWN]
    told = cast("dict[str, object]", problem)
    texts = (told.get(name) for name in ("detail", "title", "message", "error"))
    return next((text for text in texts if isinstance(text, str)), str(told)[:_SHOWN])
