"""What carries a step to whoever performs it, and the answer back.

A transport takes requests to a participant, which has a *barrier with memory*: it knows every idempotency key that it
has seen, and what became of it. So a request may be sent as often as it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, Protocol

from sagas.core.events import ErrorInfo

__all__ = ["Beat", "Kind", "Outcome", "Participant", "StepReply", "StepRequest", "Transport"]

Kind = Literal["action", "undo", "probe"]
Outcome = Literal["succeeded", "rejected", "failed", "in_doubt", "not_applied", "fenced", "running"]
# Called for every sign of life of a step that is at work elsewhere.
Beat = Callable[[], None]

_NO_HEADERS: Mapping[str, str] = {}
# The longest ``retry_after``, in seconds.
_LONGEST_WAIT = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRequest:
    """One attempt of a step, a compensator or a probe.

    Attributes:
        kind: Which of the three.
        step: Name of the step.
        saga_id: The saga.
        path: The step's place in it.
        idempotency_key: The same for every attempt. A probe has that of the action which it asks about, an undo one
            of its own.
        undoes: Of an undo, the idempotency key of the action that it undoes; else ``None``.
        attempt: From 1.
        arguments: Of the step, as one JSON object.
        result: Of an undo, the action's result as JSON; ``None`` if the action is in doubt, and else.
        deadline: POSIX time after which nobody waits for the answer; ``None`` if there is none. Nothing is begun
            after it.
        headers: What travels along, such as W3C ``traceparent``; names in lower case.
    """

    kind: Kind
    step: str
    saga_id: str
    path: str
    idempotency_key: str
    undoes: str | None = None
    attempt: int = 1
    arguments: bytes = b"{}"
    result: bytes | None = None
    deadline: float | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)

    def __post_init__(self) -> None:
        """Refuses what no participant could make sense of.

        Raises:
            ValueError: An undo does not say what it undoes, or something else does.
        """
        if (self.kind == "undo") != (self.undoes is not None):
            raise ValueError(f"a request for an undo, and no other, names the key that it undoes; this is {self}")
        if self.kind != "undo" and self.result is not None:
            raise ValueError(f"only a request for an undo has a result; this is {self}")

    @property
    def action_key(self) -> str:
        """The idempotency key of the action that all of this is about."""
        return self.idempotency_key if self.undoes is None else self.undoes

    def fingerprint(self) -> bytes:
        """Gives 16 bytes over all that has to be the same whenever the same idempotency key comes again."""
        digest = blake2b(digest_size=16)
        result = b"" if self.result is None else b"+" + self.result
        for part in (self.kind.encode(), self.step.encode(), self.action_key.encode(), self.arguments, result):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class StepReply:
    """How it went. Make one with the class's functions.

    | Outcome | What it says |
    |---|---|
    | ``succeeded`` | The action acted, the undo undid, or the probe found that the action acted. |
    | ``rejected`` | The action did not act, in no attempt, and says why. Every other attempt gets the same answer. |
    | ``failed`` | This attempt did not act, and another one may. |
    | ``in_doubt`` | It may have acted. Another attempt is safe. |
    | ``not_applied`` | To a probe: the action did not act. |
    | ``fenced`` | To an action: its undo came first. It did not act, and never will. |
    | ``running`` | An earlier attempt is still at work. Ask again later. |

    Attributes:
        outcome: See above.
        payload: The action's result as JSON, if it, or its probe, succeeded.
        error: Why it did not. Of a rejection with ``fields``, so that the body gets the same exception.
        retry_after: Seconds for which whoever answered wants to be left alone, an hour at most: asking then costs
            little, and who says more may not mean it. ``None`` if it did not say.
        reached: Whether the participant has answered. If not, the transport says by itself what is known: ``failed``
            if the request cannot have arrived, now or later, else ``in_doubt``.
    """

    outcome: Outcome
    payload: bytes | None = None
    error: ErrorInfo | None = None
    retry_after: float | None = None
    reached: bool = True

    def __post_init__(self) -> None:
        """Has nobody wait for years, or for less than nothing."""
        if (given := self.retry_after) is not None and not 0 <= given <= _LONGEST_WAIT:
            object.__setattr__(self, "retry_after", None if given != given else min(max(given, 0.0), _LONGEST_WAIT))  # noqa: PLR0124 - NaN

    @classmethod
    def succeeded(cls, payload: bytes = b"null") -> StepReply:
        """It acted; with its result as JSON."""
        return cls("succeeded", payload)

    @classmethod
    def rejected(cls, error: ErrorInfo) -> StepReply:
        """It did not act, by its own decision."""
        return cls("rejected", error=error)

    @classmethod
    def failed(cls, error: ErrorInfo, *, retry_after: float | None = None, reached: bool = True) -> StepReply:
        """It did not act, but might if it is tried again."""
        return cls("failed", error=error, retry_after=retry_after, reached=reached)

    @classmethod
    def in_doubt(cls, error: ErrorInfo, *, retry_after: float | None = None, reached: bool = True) -> StepReply:
        """Nobody knows."""
        return cls("in_doubt", error=error, retry_after=retry_after, reached=reached)

    @classmethod
    def not_applied(cls) -> StepReply:
        """The action did not act."""
        return cls("not_applied")

    @classmethod
    def fenced(cls) -> StepReply:
        """The action's undo came first."""
        return cls("fenced")

    @classmethod
    def running(cls, *, retry_after: float | None = None) -> StepReply:
        """An earlier attempt is still at work."""
        return cls("running", retry_after=retry_after)


class Transport(Protocol):
    """Takes requests to a participant."""

    async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        """Sends a request, and waits for its answer until its deadline.

        What goes wrong on the way is an answer too: ``failed`` if the request cannot have arrived, else ``in_doubt``.
        May be called by many tasks at once. If it is cancelled, the request may be at work all the same.

        Args:
            request: What to do.
            beat: Called now and then, in the event loop, as long as the step is known to be at work and calls
                ``current_step().heartbeat()``. Without one, the participant need not be asked for signs of life.

        Raises:
            KeyReused: The participant knows the idempotency key from another request. Nothing was done.
            MessageTooLarge: The request is larger than anything that can be sent this way, now or later. Nothing was
                sent.
            NotSupported: Likewise, for another reason.
            TransportClosed: This transport is closed.
        """
        ...

    async def close(self) -> None:
        """Lets go of every connection. Closing twice does no harm."""
        ...


class Participant(Protocol):
    """Performs requests, behind a barrier with memory: what a transport has at its other end.

    Attributes:
        steps: Names of the steps that it performs.
    """

    @property
    def steps(self) -> Collection[str]: ...  # noqa: D102 - see the class

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        """Does what a request says, unless that was done before, or never will be.

        What it has begun goes on if this is cancelled; whoever sends the request again gets the reply.

        Args:
            request: What to do.
            beat: Called in the event loop, for every sign of life of the step.

        Raises:
            KeyReused: The idempotency key came before, with another request. Nothing was done.
            TransportClosed: The participant takes nothing new, since it is being left.
        """
        ...
