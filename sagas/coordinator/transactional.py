"""An attempt of a transactional step or compensator: its writes and its record become durable together, or neither."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import anyio
from opentelemetry import context as otel_context
from sqlalchemy import Connection

from sagas.context import running_step
from sagas.core import events as e
from sagas.core.attempts import Act, Done
from sagas.errors import StoreError, StoreUnavailable
from sagas.stores.outage import is_outage
from sagas.stores.port import Superseded
from sagas.telemetry import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlmodel import Session

    from sagas.context import StepContext
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.runtime import Runtime
    from sagas.core.attempts import Next, StepAttempts, UndoAttempts
    from sagas.core.definitions import Compensator, Step
    from sagas.telemetry import Held

__all__ = ["StepWork", "TransactionalAttempt", "UndoWork", "Work"]


class Work(Protocol):
    """What is attempted in a transaction, and what comes of it.

    Attributes:
        arguments: What it is called with, after the session.
    """

    arguments: Mapping[str, object]

    @property
    def target(self) -> Step[..., Any] | Compensator:
        """What is called."""
        ...

    def keep(self, result: object) -> None:
        """Takes what the function returned; what this raises, the function has raised."""
        ...

    def succeeded(self, attempt: e.Attempt) -> Done:
        """Says what comes after an attempt that went well."""
        ...

    def failed(self, error: BaseException, started: float, now: float, chance: float, *, span: str) -> Next:
        """Says what comes after one that raised; arguments as in ``StepAttempts.failed``."""
        ...

    def not_run(self, error: Exception) -> Done:
        """Ends it, since it cannot even begin."""
        ...


class StepWork:
    """A step.

    Args:
        step: Which one.
        arguments: What it is called with, after the session.
        attempts: This is one of them.
        stop: Says whether the saga no longer wants new attempts.
    """

    def __init__(
        self, step: Step[..., Any], arguments: Mapping[str, object], attempts: StepAttempts, stop: Callable[[], bool]
    ) -> None:
        self.target = step
        self.arguments = arguments
        self._attempts = attempts
        self._stop = stop
        self._payload = b""

    def keep(self, result: object) -> None:
        """See ``Work``."""
        self._payload = self.target.result_schema.encode(result)

    def succeeded(self, attempt: e.Attempt) -> Done:
        """See ``Work``."""
        return self._attempts.succeeded(self._payload, attempt)

    def failed(self, error: BaseException, started: float, now: float, chance: float, *, span: str) -> Next:
        """See ``Work``."""
        return self._attempts.failed(error, started, now, chance, stop=self._stop(), span=span)

    def not_run(self, error: Exception) -> Done:
        """See ``Work``."""
        return self._attempts.not_run(error)


class UndoWork:
    """A compensator.

    Args:
        undo: Which one.
        arguments: What it is called with, after the session.
        attempts: This is one of them.
    """

    def __init__(self, undo: Compensator, arguments: Mapping[str, object], attempts: UndoAttempts) -> None:
        self.target = undo
        self.arguments = arguments
        self._attempts = attempts

    def keep(self, result: object) -> None:
        """See ``Work``; nobody asks what a compensator returns."""

    def succeeded(self, attempt: e.Attempt) -> Done:
        """See ``Work``."""
        return self._attempts.succeeded(attempt)

    def failed(self, error: BaseException, started: float, now: float, chance: float, *, span: str) -> Next:
        """See ``Work``."""
        return self._attempts.failed(error, started, now, chance, span=span)

    def not_run(self, error: Exception) -> Done:
        """See ``Work``."""
        return self._attempts.not_run(error)


class TransactionalAttempt:
    """See ``writes.Transaction``.

    Args:
        runtime: Whose step it is.
        work: What is attempted.
        clock: Time and chance.
        context: What the function can know about itself.
        refused: By idempotency key, what the database refused only when everything was written; is added to.

    Attributes:
        fed: Whether the saga was told the outcome.
        holds: Whether it holds back the other records of its saga.
        error: What the function raised.
        work: What is attempted.
        context: What the function can know about itself.
    """

    def __init__(
        self, runtime: Runtime, work: Work, *, clock: Clock, context: StepContext, refused: dict[str, Exception]
    ) -> None:
        self.writer = runtime
        self.fed = False
        self.holds = False
        self.error: BaseException | None = None
        self.work = work
        self.context = context
        self._clock = clock
        self._refused = refused
        self._started = 0.0
        self._action: Next | None = None
        self._untold: Exception | None = None
        self._ended = anyio.Event()
        self._held: Held | None = None
        self._take_held: Callable[[], Sequence[Held]] = tuple
        self._surroundings = otel_context.get_current()

    def traced_as(self, held: Held | None, take: Callable[[], Sequence[Held]]) -> None:
        """Says which span it has.

        Args:
            held: The span, which is current; ``None`` if it is not traced.
            take: Gives the spans of all attempts, to be shown with their record.
        """
        self._held, self._take_held = held, take
        self._surroundings = otel_context.get_current()

    def run(self, session: Session, instead: Callable[..., Any] | None = None) -> None:
        """Runs the function; what it wrote is rolled back to the savepoint if it raises.

        Args:
            session: What it writes with.
            instead: What to run in its place.
        """
        self.error = None
        self._started = self._clock.now()
        bind = session.get_bind()
        assert isinstance(bind, Connection), "stores bind it to the transaction's own"
        savepoint = bind.begin_nested()  # the session's own is released if the function commits
        token, traced = running_step.set(self.context), otel_context.attach(self._surroundings)
        try:
            self.work.keep((instead or self.work.target.function)(session, **self.work.arguments))
            session.commit()
            savepoint.commit()
        except BaseException as error:
            if is_outage(error):
                raise  # it is tried again when the database works, as if it had not begun
            session.rollback()
            savepoint.rollback()
            self.error = error
        finally:
            otel_context.detach(traced)
            running_step.reset(token)

    def feed(self) -> None:
        """Tells the saga, within the transaction, so that the record commits with the writes."""
        action = self._next()
        if isinstance(action, Done):
            self._tell(action)
        self._action = action
        self._ended.set()

    def _next(self) -> Next:
        """Says what comes after the attempt, if what it wrote becomes durable."""
        now = self._clock.now()
        span = self._close_span(now)
        if self.error is not None:
            return self.work.failed(self.error, self._started, now, self._clock.chance(), span=span)
        return self.work.succeeded(e.Attempt(self._started, round(now - self._started, 6), None, span))

    def _close_span(self, now: float) -> str:
        """Shows in the span how it went, before it may be shown itself; gives its id."""
        if self._held is None:
            return ""
        self._held.at = now
        if self.error is not None:
            mark(self._held.span, self.error)
        return self._held.id

    def _tell(self, action: Done) -> None:
        """Feeds the outcome to the saga; if the saga does not take it, what was written is rolled back."""
        try:
            self.writer.feed(action.event, held=self._take_held())
        except Exception as error:
            self._untold = error
            raise
        self.fed = True

    def abandoned(self) -> None:
        """Lets go whoever waits: the saga is not driven here any more."""
        self._action = Act()
        self._ended.set()

    def failed(self, error: Exception, *, alone: bool) -> None:
        """Lets go of a saga that ran on from a record which never became durable.

        What the database refuses only at the end, it would refuse each time. So then the attempt has failed for good.
        """
        if self.fed:
            if alone and not isinstance(error, (StoreError, Superseded)):
                self._refused[self.context.idempotency_key] = error
            self.writer.rewind()
        elif isinstance(error, StoreError) and not isinstance(error, StoreUnavailable):
            # It will never work, as in a store without transactions.
            self.error = error
            self._action = self.work.not_run(error)
        self._ended.set()

    async def outcome(self) -> Next:
        """Waits for its turn, and says what comes next.

        Raises:
            Exception: The saga did not take what came of it, and nothing was written.
        """
        await self._ended.wait()
        if self._untold is not None:
            raise self._untold
        if self._action is None:
            # The transaction could not even begin; the saga has heard nothing, so it is tried again.
            self._ended = anyio.Event()
            return Act()
        return self._action
