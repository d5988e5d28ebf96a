"""Every exception of this library, as one tree.

```
SagaError
├── DeclarationError            a decorator was used wrongly; raised at import
├── DeterminismError            a body awaited something the journal cannot replay
├── OutsideSaga                 an operation was awaited outside a saga body
├── IllegalTransition           an event that the state at hand does not allow
├── ReplayDiverged              a journal does not fit the code at hand
├── PayloadError                a value could not be encoded or decoded
├── Rejected                    raised by a step: nothing happened (subclass it)
├── StepFailed                  seen by a body: a step did not succeed
│   └── StepInDoubt             … and may have acted all the same
├── ReceiveTimeout              no signal came in time (also a TimeoutError)
├── LockTimeout                 a lock was not granted in time (also a TimeoutError)
├── Deadlock                    sagas wait for each other's locks in a circle, and this one has to give way
├── SagaTimeout                 a child saga took longer than its timeout (also a TimeoutError)
├── SagaNotCompleted            what `run` and `Handle.result` raise
│   ├── SagaCompensated         everything that was done is undone
│   └── SagaStuck               an operator has to act
├── RequestError                a request to a coordinator that cannot be granted
│   ├── IdempotencyConflict     the id is taken by a saga with another input
│   ├── SagaNotFound            no saga has this id
│   ├── SagaNotRegistered       the coordinator has no code for this saga
│   ├── NotApplicable           the saga's state does not allow this (cancel after a pivot, …)
│   │   └── SagaMovedOn         … as it is now: it was another when whoever asks looked at it
│   ├── CoordinatorBusy         there was no room for another saga in time; nothing was started
│   └── CoordinatorClosed       the coordinator is not running (any more)
├── TransportError              a request to a participant, or a message, that cannot be handled
│   ├── KeyReused               an idempotency key came with another request than before
│   ├── MessageTooLarge         more bytes than the queue takes; nothing was sent
│   ├── NotSupported            the queue declares that it cannot do this; nothing was done
│   ├── DeliveryExpired         the delivery was not acknowledged in time, and is no longer this consumer's
│   └── TransportClosed         the transport or queue is closed
└── StoreError                  the journal's database
    ├── StoreUnavailable        it cannot be reached, opened or written now
    ├── SchemaMismatch          its tables are of another version
    └── JournalCorrupted        a record is not what was written
```
"""

from __future__ import annotations

__all__ = [
    "CoordinatorBusy",
    "CoordinatorClosed",
    "Deadlock",
    "DeclarationError",
    "DeliveryExpired",
    "DeterminismError",
    "IdempotencyConflict",
    "IllegalTransition",
    "JournalCorrupted",
    "KeyReused",
    "LockTimeout",
    "MessageTooLarge",
    "NotApplicable",
    "NotSupported",
    "OutsideSaga",
    "PayloadError",
    "ReceiveTimeout",
    "Rejected",
    "ReplayDiverged",
    "RequestError",
    "SagaCompensated",
    "SagaError",
    "SagaMovedOn",
    "SagaNotCompleted",
    "SagaNotFound",
    "SagaNotRegistered",
    "SagaStuck",
    "SagaTimeout",
    "SchemaMismatch",
    "StepFailed",
    "StepInDoubt",
    "StoreError",
    "StoreUnavailable",
    "TransportClosed",
    "TransportError",
]


class SagaError(Exception):
    """The root of every exception that this library defines."""


class DeclarationError(SagaError):
    """A step, compensator, probe or saga was declared wrongly.

    Raised while the module that declares it is imported, so that it never reaches production.
    """


class DeterminismError(SagaError):
    """A saga body awaited something that is not an operation.

    A body is replayed from its journal after a crash, so that it may only wait for operations whose outcome
    the journal holds. Raised inside the body, at the very ``await``.
    """


class OutsideSaga(SagaError):
    """An operation was awaited outside a saga body."""


class IllegalTransition(SagaError):
    """An event that the current state does not allow. The state is unchanged.

    Attributes:
        state: The state that was kept.
        trigger: What was not allowed in it.
        subject: The saga or the path of the step that was asked to change.
    """

    def __init__(self, state: str, trigger: str, subject: str) -> None:
        super().__init__(f"{subject}: {trigger} is not legal while {state}; nothing was changed")
        self.state = state
        self.trigger = trigger
        self.subject = subject


class ReplayDiverged(SagaError):
    """The code at hand does not do what the journal says was done.

    Deploy code that fits (see ``sagas.version``) and ``resume`` the saga, or ``cancel`` it: the rollback works
    from the journal alone.

    Attributes:
        reason: What differs.
        path: The first operation that differs; ``""`` if it is none.
        advice: What to do; the end of the text.
    """

    def __init__(self, reason: str, *, path: str = "", advice: str = "") -> None:
        where = f"operation {path}: " if path else ""
        super().__init__(f"{where}{reason}{'. ' if advice else ''}{advice}")
        self.reason = reason
        self.path = path
        self.advice = advice


class PayloadError(SagaError):
    """A value could not be encoded for the journal, or decoded from it."""


class Rejected(SagaError):
    """Raise it (or a subclass) in a step to say: definitely nothing happened.

    It is recorded with its type, arguments and attributes and re-raised in the body as the same type, live and
    on replay.
    """


class StepFailed(SagaError):
    """A step did not succeed, and did not act.

    Attributes:
        step: Name of the step.
        path: Its place in the saga.
        error_type: Qualified name of the exception that the last attempt raised.
        error_message: Its text.
    """

    def __init__(self, step: str, path: str, error_type: str, error_message: str) -> None:
        super().__init__(step, path, error_type, error_message)
        self.step = step
        self.path = path
        self.error_type = error_type
        self.error_message = error_message

    def __str__(self) -> str:
        return f"step {self.step} ({self.path}) failed: {self.error_type}: {self.error_message}"


class StepInDoubt(StepFailed):
    """A step did not succeed, and nobody knows whether it acted. It is undone with ``result=None``."""

    def __str__(self) -> str:
        return f"step {self.step} ({self.path}) is in doubt: {self.error_type}: {self.error_message}"


class ReceiveTimeout(SagaError, TimeoutError):
    """``receive`` waited for its whole timeout and no signal of that name came."""


class LockTimeout(SagaError, TimeoutError):
    """A ``lock`` was waited for its whole timeout, and other sagas held it."""


class Deadlock(SagaError):
    """Waiting for a ``lock`` would never end: its holder waits, directly or not, for one that this saga holds.

    Uncaught, it undoes this saga, and that lets the others go on. Sagas that take several locks in the same order
    never meet it.
    """


class SagaTimeout(SagaError, TimeoutError):
    """A child saga took longer than its ``timeout`` and was undone."""


class SagaNotCompleted(SagaError):
    """The saga did not complete; see the two subclasses for what it did instead.

    Attributes:
        saga_id: The saga.
        cause_type: Qualified name of the exception, or ``cancelled`` or ``timed out``.
        cause_message: Its text.
    """

    _ended = "did not complete"

    def __init__(self, saga_id: str, cause_type: str, cause_message: str) -> None:
        super().__init__(saga_id, cause_type, cause_message)
        self.saga_id = saga_id
        self.cause_type = cause_type
        self.cause_message = cause_message

    def __str__(self) -> str:
        cause = f"{self.cause_type}: {self.cause_message}" if self.cause_message else self.cause_type
        return f"saga {self.saga_id} {self._ended}: {cause}"


class SagaCompensated(SagaNotCompleted):
    """The saga failed, was cancelled or timed out, and every step that may have acted is undone."""

    _ended = "was compensated"


class SagaStuck(SagaNotCompleted):
    """The saga cannot go on by itself: an operator has to ``retry``, ``skip``, ``resume`` or ``cancel``."""

    _ended = "is stuck"


class RequestError(SagaError):
    """A coordinator cannot grant a request; nothing was changed."""


class IdempotencyConflict(RequestError):
    """A saga with this id exists, and was started with another input or as another saga."""


class SagaNotFound(RequestError):
    """No saga has this id."""


class SagaNotRegistered(RequestError):
    """The coordinator was not given this saga: pass it in ``Coordinator(…, sagas=[…])``."""


class NotApplicable(RequestError):
    """The saga's state does not allow the request."""


class SagaMovedOn(NotApplicable):
    """An order was meant for a saga as it stood before: something has happened since. Nothing was changed.

    Attributes:
        saga_id: The saga.
        expected: Number of the record that whoever ordered had seen.
        revision: Number of the last record by now.
    """

    def __init__(self, saga_id: str, expected: int, revision: int) -> None:
        super().__init__(saga_id, expected, revision)
        self.saga_id = saga_id
        self.expected = expected
        self.revision = revision

    def __str__(self) -> str:
        return (
            f"saga {self.saga_id} has moved on since it was looked at: record {self.expected} was the last then, "
            f"record {self.revision} is now. Nothing was changed; look again"
        )


class CoordinatorBusy(RequestError):
    """There was no room for another saga within ``start_timeout``. Nothing was started: try again later."""


class CoordinatorClosed(RequestError):
    """The coordinator is not running. What it started is in the journal and goes on when one runs again."""


class TransportError(SagaError):
    """A request to a participant, or a message, cannot be handled; nothing was done."""


class KeyReused(TransportError):
    """An idempotency key came with another request than before.

    Attributes:
        key: The idempotency key.
        step: Name of the step that was asked for.
    """

    def __init__(self, key: str, step: str) -> None:
        super().__init__(key, step)
        self.key = key
        self.step = step

    def __str__(self) -> str:
        return (
            f"step {self.step}: the idempotency key {self.key!r} came before, with other arguments or for another "
            "step. Nothing was done. Give each request a key of its own, and repeat a request only as it was"
        )


class MessageTooLarge(TransportError):
    """A message has more bytes than the queue takes. Nothing was sent: store the data, and send a reference."""


class NotSupported(TransportError):
    """The queue declares in its ``capabilities`` that it cannot do this."""


class DeliveryExpired(TransportError):
    """A delivery was not acknowledged while it was this consumer's alone; by now it may be somebody else's."""


class TransportClosed(TransportError):
    """The transport or queue is closed."""


class StoreError(SagaError):
    """The journal's database refused something."""


class StoreUnavailable(StoreError):
    """The database cannot be opened, reached or written at the moment."""


class SchemaMismatch(StoreError):
    """The database's tables belong to another version of this library."""


class JournalCorrupted(StoreError):
    """A journal record is not what was written: altered, dropped or reordered."""
