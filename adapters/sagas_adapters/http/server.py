"""The participant's side: an ASGI app that performs steps."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

from sagas.core.failures import describe
from sagas.errors import DeclarationError, KeyReused, TransportClosed
from sagas.transport.port import StepReply
from sagas_adapters.http.asgi import Receive, Scope, Send, check_json, local_path, read_body, segments, serve
from sagas_adapters.http.callbacks import Caller
from sagas_adapters.http.fields import preferred_wait
from sagas_adapters.http.jobs import Job, Jobs, spawn
from sagas_adapters.http.problems import HttpProblem, Response, problem
from sagas_adapters.http.replies import key_reused, write_reply
from sagas_adapters.http.requests import Where, header_table, read_request, where_of

if TYPE_CHECKING:
    from sagas.transport.port import Participant, StepRequest
    from sagas_adapters.http.signing import Signing

__all__ = ["ParticipantApp", "participant_app"]

logger = logging.getLogger("sagas.http")

# Seconds after which whoever found a participant closed may look for the next one.
_CLOSED = 1.0


def participant_app(
    participant: Participant,
    *,
    sign: Signing | None = None,
    max_body: int = 1_000_000,
    wait: float = 30.0,
    max_running: int = 10_000,
    callbacks_allowed: Iterable[str] = (),
    callback_client: Any = None,
    tracebacks: bool = True,
) -> ParticipantApp:
    """Makes an ASGI app that performs steps: run it by itself, or mount it in another one.

    A request goes on when its caller is gone. What takes longer than the caller wants to wait is answered with ``202``
    and a ``Location``, where the answer can be fetched.

    Args:
        participant: Performs the requests, behind its barrier with memory.
        sign: Requests have to be signed with its key; callbacks are.
        max_body: The largest body, in bytes.
        wait: Seconds that a caller is kept waiting at most, whatever it prefers.
        max_running: How many requests may be at work at once; others are asked to come again.
        callbacks_allowed: URLs that answers may be sent to: these and what is below them. None by default.
        callback_client: An ``httpx2.AsyncClient`` to send them with; one of its own by default.
        tracebacks: Whether failures tell callers where they were raised.

    Raises:
        DeclarationError: A URL or a number makes no sense.
    """
    caller = Caller(callbacks_allowed, sign, callback_client)
    jobs = Jobs(max_running)
    return ParticipantApp(
        participant, sign=sign, max_body=max_body, wait=wait, jobs=jobs, caller=caller, tracebacks=tracebacks
    )


class ParticipantApp:
    """See ``participant_app``."""

    def __init__(
        self,
        participant: Participant,
        *,
        sign: Signing | None,
        max_body: int,
        wait: float,
        jobs: Jobs,
        caller: Caller,
        tracebacks: bool,
    ) -> None:
        if max_body < 1 or not (wait > 0 and isfinite(wait)):
            raise DeclarationError(f"participant_app(max_body={max_body!r}, wait={wait!r}): use positive numbers")
        self._participant = participant
        self._sign = sign
        self._max_body = max_body
        self._wait = wait
        self._jobs = jobs
        self._caller = caller
        self._tracebacks = tracebacks

    @property
    def running(self) -> int:
        """Says how many requests are at work."""
        return len(self._jobs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        await serve(scope, receive, send, self._answer)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """Answers a request.

        Raises:
            HttpProblem: It cannot be performed.
        """
        fields = header_table(scope["headers"])
        where = where_of(segments(scope))
        if where is None:
            raise HttpProblem("not-found", 404, "there are only /steps/STEP, …/undo, …/probe and /requests/ID here")
        method = "POST" if where.kind else "GET"
        if scope["method"] != method:
            detail = f"use {method} here"
            raise HttpProblem("method", 405, detail, headers=((b"allow", method.encode()),))
        body = await read_body(fields, receive, self._max_body)
        if self._sign is not None:
            self._sign.check(method, local_path(scope).rstrip("/"), fields, body)
        return await (self._perform(where, fields, body) if where.kind else self._poll(where, fields))

    async def _perform(self, where: Where, fields: Mapping[bytes, bytes], body: bytes) -> Response:
        """Performs a request, or waits for the same one which is at work."""
        check_json(fields)
        assert where.kind is not None, "it names a step"
        request = read_request(where.kind, where.name, fields, body)
        beats = _beats(fields)
        job = self._jobs.find(request)
        if job is not None and job.request.fingerprint() != request.fingerprint():
            return key_reused(KeyReused(request.idempotency_key, request.step))
        if job is None:
            job = self._jobs.begin(request)
            spawn(partial(self._work, job, beats is not None))
        response = await job.wait(self._patience(fields), beats)
        return response or self._promise(job, fields, "../requests/" if where.kind == "action" else "../../requests/")

    async def _poll(self, where: Where, fields: Mapping[bytes, bytes]) -> Response:
        """Gives the answer of a request that is at work, or was."""
        job = self._jobs.promised(where.name)
        response = await job.wait(self._patience(fields), _beats(fields))
        return response or self._promise(job, fields, "")

    def _patience(self, fields: Mapping[bytes, bytes]) -> float:
        """Gives the seconds that a caller is kept waiting."""
        wanted = preferred_wait(fields.get(b"prefer", b"").decode("latin-1"))
        return self._wait if wanted is None else min(wanted, self._wait)

    def _promise(self, job: Job, fields: Mapping[bytes, bytes], there: str) -> Response:
        """Makes the answer: it is at work, and here is where its answer will be."""
        # Relative, since nobody here knows by which path a proxy or a mount has brought the request.
        location = there + self._jobs.promise(job)
        headers = [(b"location", location.encode()), (b"retry-after", b"0"), (b"saga-beats", b"%d" % job.beats)]
        if self._caller.allows(url := fields.get(b"saga-callback", b"").decode("latin-1")):
            job.callback = url
            headers.append((b"saga-callback", b"accepted"))
        return Response(202, b"{}", tuple(headers))

    async def _work(self, job: Job, beating: bool) -> None:  # noqa: FBT001 - `partial` hands it on
        """Performs a request to its end; raises nothing."""
        response = await self._outcome(job, beating=beating)
        self._jobs.end(job, response)
        if job.callback is not None:
            await self._caller.call(job.callback, job.request, response)

    async def _outcome(self, job: Job, *, beating: bool) -> Response:
        """Gives the response to a request that was performed."""
        request = job.request
        try:
            reply = await self._participant.perform(request, beat=job.beat if beating else None)
            return self._written(reply, request)
        except KeyReused as error:
            return key_reused(error)
        except TransportClosed as error:
            return problem("closed", 503, str(error), retry_after=_CLOSED)
        except BaseException as error:
            logger.exception("the request %s of step %s ended in doubt", request.idempotency_key, request.step)
            response = self._written(StepReply.in_doubt(describe(error)), request)
            if isinstance(error, Exception):
                return response
            self._jobs.end(job, response)  # the process ends, and cancels what is at work in it
            raise

    def _written(self, reply: StepReply, request: StepRequest) -> Response:
        """Writes a reply."""
        return write_reply(reply, request, tracebacks=self._tracebacks)


def _beats(fields: Mapping[bytes, bytes]) -> int | None:
    """Reads how many signs of life a caller knows of; ``None`` if it wants none."""
    value = fields.get(b"saga-beats", b"")
    return int(value[:12]) if value.isdigit() else None
