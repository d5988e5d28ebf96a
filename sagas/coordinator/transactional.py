"""An attempt of a transactional step: its writes and its record become durable together, or neither does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from sagas.context import running_step
from sagas.core import events as e
from sagas.core.attempts import Act, Done
from sagas.errors import StoreError, StoreUnavailable
from sagas.stores.outage import is_outage
from sagas.stores.port import Superseded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlmodel import Session

    from sagas.context import StepContext
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.runtime import Runtime
    from sagas.core.attempts import Next, StepAttempts
    from sagas.core.definitions import Step

__all__ = ["TransactionalAttempt"]


class TransactionalAttempt:
    """See ``writes.Transaction``.

    Attributes:
        fed: Whether the saga was told the outcome.
        holds: Whether it holds back the other records of its saga.
        error: What the function raised.
        span: Span id of the attempt.
        step: Which step.
        arguments: What it is called with.
        context: What it can know about itself.
    """

    def __init__(
        self,
        runtime: Runtime,
        step: Step[..., Any],
        arguments: Mapping[str, object],
        attempts: StepAttempts,
        *,
        clock: Clock,
        context: StepContext,
        stop: Callable[[], bool],
        path: str,
        refused: dict[tuple[str, str], Exception],
    ) -> None:
        self.writer = runtime
        self.fed = False
        self.holds = False
        self.error: BaseException | None = None
        self.span = ""
        self.step = step
        self.arguments = arguments
        self._attempts = attempts
        self._clock = clock
        self.context = context
        self._stop = stop
        self._refused = refused
        self._path = path
        self._refused = refused
        self._payload = b""
        self._started = 0.0
        self._action: Next | None = None
        self._ended = anyio.Event()

    def run(self, session: Session, instead: Callable[..., Any] | None = None) -> None:
        """Runs the function; what it wrote is rolled back to the savepoint if it raises.

        Args:
            session: What it writes with.
            instead: What to run in its place.
        """
        self.error = None
        self._started = self._clock.now()
        token = running_step.set(self.context)
        try:
            result = (instead or self.step.function)(session, **self.arguments)
            self._payload = self.step.result_schema.encode(result)
            session.commit()
        except BaseException as error:
            if is_outage(error):
                raise  # the step is tried again when the database works, as if it had not begun
            session.rollback()
            self.error = error
        finally:
            running_step.reset(token)

    def feed(self) -> None:
        """Tells the saga, within the transaction, so that the record commits with the writes."""
        now = self._clock.now()
        if self.error is None:
            self._action = self._attempts.succeeded(
                self._payload, e.Attempt(self._started, round(now - self._started, 6), None, self.span)
            )
        else:
            self._action = self._attempts.failed(
                self.error, self._started, now, self._clock.chance(), stop=self._stop(), span=self.span
            )
        if isinstance(self._action, Done):
            self.writer.feed(self._action.event)
            self.fed = True
        self._ended.set()

    def abandoned(self) -> None:
        """Lets go whoever waits: the saga is not driven here any more."""
        self._action = Act()
        self._ended.set()

    def failed(self, error: Exception, *, alone: bool) -> None:
        """Lets go of a saga that ran on from a record which never became durable.

        What the database refuses only at the end, it would refuse each time. So then the step has failed.
        """
        if self.fed:
            if alone and not isinstance(error, (StoreError, Superseded)):
                self._refused[self.writer.id, self._path] = error
            self.writer.rewind()
        elif isinstance(error, StoreError) and not isinstance(error, StoreUnavailable):
            # It will never work, as in a store without transactions.
            self.error = error
            self._action = self._attempts.not_run(error)
        self._ended.set()

    async def outcome(self) -> Next:
        """Waits for its turn, and says what comes next."""
        await self._ended.wait()
        if self._action is None:
            # The transaction could not even begin; the saga has heard nothing, so it is tried again.
            self._ended = anyio.Event()
            return Act()
        return self._action
