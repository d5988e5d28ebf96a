"""What a saga body may await.

Each operation is a value that describes a wish; awaiting it hands it to whoever drives the body, and the body
goes on when its outcome is in the journal.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from sagas.errors import JournalCorrupted, OutsideSaga

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable
    from types import TracebackType

    from sagas.core.definitions import Saga, Step

__all__ = [
    "Driving",
    "Emit",
    "Event",
    "Operation",
    "SagaCall",
    "StepCall",
    "driving",
    "emit",
    "gather",
    "map_each",
    "now",
    "race",
    "random",
    "receive",
    "record",
    "scope",
    "sleep",
    "sleep_until",
    "utc",
    "version",
]

R = TypeVar("R", covariant=True)
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
T6 = TypeVar("T6")


class Driving(Enum):
    """What is being done with the body that runs at the moment."""

    NOTHING = 0
    RUNNING = 1
    CLOSING = 2


driving: ContextVar[Driving] = ContextVar("sagas_driving", default=Driving.NOTHING)


# Seconds; about three centuries, within what a datetime can hold.
LONGEST = 1e10
_PATIENCE = 1000
_refusals = [0]


class Operation(Generic[R]):
    """Something a body can await."""

    __slots__ = ()

    def __await__(self) -> Generator[object, Any, R]:
        """Hands the operation to the driver and returns its outcome.

        Raises:
            OutsideSaga: No saga body is running.
        """
        mode = driving.get()
        if mode is Driving.RUNNING:
            outcome: R = yield self
            return outcome
        if mode is Driving.CLOSING:
            # The branch was stopped. Its `finally` blocks may run, but start nothing any more; one that never gives
            # up asking is left hanging, which ends its coroutine with an error.
            _refusals[0] += 1
            if _refusals[0] % _PATIENCE == 0:
                yield self
            raise GeneratorExit
        try:
            return (yield from self._outside())
        except OutsideSaga:
            _refusals[0] += 1  # as above, for one that the interpreter ends as it exits
            if _refusals[0] % _PATIENCE == 0:
                yield self
            raise

    def _outside(self) -> Generator[object, object, R]:
        """Decides what awaiting means where no saga runs."""
        raise OutsideSaga(f"{self!r} was awaited outside a saga body; only a coordinator can run it")


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class StepCall(Operation[R]):
    """A step with its arguments. Awaited outside a saga it just runs the plain function, for unit tests."""

    step: Step[..., Any]
    arguments: dict[str, object]

    def __repr__(self) -> str:
        return f"{self.step.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"

    def _outside(self) -> Generator[object, object, R]:
        step = self.step
        if step.options.transactional:
            raise OutsideSaga(
                f"{step.where} is transactional: only a coordinator has its session. In a unit test call "
                f"{step.name}.function(session, …)"
            )
        if step.options.remote:
            raise OutsideSaga(f"{step.where} is remote: it is only declared here, and a participant performs it")
        result = step.function(**self.arguments)
        if step.is_async:
            result = yield from cast("Awaitable[R]", result).__await__()
        return cast("R", result)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class SagaCall(Operation[R]):
    """A saga with its input: for ``coordinator.start``, or awaited in another body as a child saga."""

    saga: Saga[..., Any]
    arguments: dict[str, object]

    def __repr__(self) -> str:
        return f"{self.saga.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"

    def _outside(self) -> Generator[object, object, R]:
        raise OutsideSaga(
            f"saga {self.saga.name} was awaited outside a saga body; use `await coordinator.run({self.saga.name}(…))`"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Gather(Operation[R]):
    """Branches side by side; a failure of one fails all."""

    branches: tuple[Awaitable[object], ...]


@dataclass(frozen=True, slots=True, eq=False)
class MapEach(Operation[R]):
    """One branch an item, at most ``limit`` side by side."""

    make: Callable[[Any], Awaitable[object]]
    items: tuple[object, ...]
    limit: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Race(Operation[R]):
    """Branches side by side, of which the first to end decides."""

    branches: tuple[Awaitable[object], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sleep(Operation[None]):
    """A pause: ``seconds`` from now, or ``until`` a POSIX time."""

    seconds: float | None
    until: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Receive(Operation[R]):
    """The next signal of a name."""

    name: str
    kind: object
    timeout: float | None


@dataclass(frozen=True, slots=True, eq=False)
class EnterScope(Operation[None]):
    """The start of a scope."""


@dataclass(frozen=True, slots=True, eq=False)
class LeaveScope(Operation[None]):
    """The end of a scope; if ``failed``, what ran inside is undone first."""

    failed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Now(Operation[datetime]):
    """The time of the event that the body is reacting to."""


@dataclass(frozen=True, slots=True, eq=False)
class Entropy(Operation[bytes]):
    """16 random-looking bytes, the same on every replay."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordValue(Operation[R]):
    """A local value that is computed once and then read from the journal."""

    make: Callable[[], R]
    kind: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened, for whoever wants to know: ``Event(type="order.placed", data=order)``.

    Attributes:
        type: What has happened, in the past tense (the CloudEvents attribute): printable, without spaces.
        data: About it; whatever pydantic can write as JSON.
        subject: What it is about, if that helps to route it.

    Raises:
        ValueError: The type is none.
    """

    type: str
    data: object = None
    subject: str | None = None

    def __post_init__(self) -> None:
        """Refuses what no broker could route by."""
        if not isinstance(self.type, str) or not self.type.isprintable() or not self.type or " " in self.type:
            raise ValueError(f"{self.type!r} is no type of an event; write one such as 'order.placed'")


@dataclass(frozen=True, slots=True, eq=False)
class Emit(Operation[None]):
    """An event that goes out."""

    event: Event


@dataclass(frozen=True, slots=True, eq=False)
class Version(Operation[bool]):
    """Whether the body runs with a change, or goes on as it was before that change."""

    change_id: str


@overload
def gather(a: Awaitable[T1], /) -> Operation[tuple[T1]]: ...
@overload
def gather(a: Awaitable[T1], b: Awaitable[T2], /) -> Operation[tuple[T1, T2]]: ...
@overload
def gather(a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /) -> Operation[tuple[T1, T2, T3]]: ...
@overload
def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
) -> Operation[tuple[T1, T2, T3, T4]]: ...
@overload
def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], /
) -> Operation[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def gather(
    a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], e: Awaitable[T5], f: Awaitable[T6], /
) -> Operation[tuple[T1, T2, T3, T4, T5, T6]]: ...
@overload
def gather(*branches: Awaitable[T]) -> Operation[tuple[T, ...]]: ...
def gather(*branches: Awaitable[object]) -> Operation[Any]:
    """Runs branches side by side and gives their results in order.

    A branch is a step call, a saga call, any other operation, or the coroutine of an ``async def`` helper with
    several operations in it. When one fails, the others finish what they have in flight but start nothing new;
    then the first failure is raised in the body.
    """
    return Gather(branches)


def map_each(
    step: Callable[[T], Awaitable[T1]], items: Iterable[T], *, limit: int | None = None
) -> Operation[list[T1]]:
    """Calls a step (or any function that gives an awaitable) for each item, side by side.

    Args:
        step: Called with one item.
        items: Read once, in order.
        limit: How many may run at a time; ``None`` for all.

    Returns:
        The results, in the order of the items. Fails as ``gather`` does.

    Raises:
        ValueError: The limit is not at least 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"map_each(limit={limit}) would never start anything; use 1 or more")
    return MapEach(step, tuple(items), limit)


def race(*branches: Awaitable[T]) -> Operation[T]:
    """Runs branches side by side; the first to end decides, by its result or its failure.

    The others finish what they have in flight, start nothing new, and everything they did is undone before the
    body goes on.

    Raises:
        ValueError: There is no branch.
    """
    if not branches:
        raise ValueError("race() needs at least one branch")
    return Race(branches)


def sleep(seconds: float) -> Operation[None]:
    """Pauses the saga, for seconds or for months; it survives restarts.

    Raises:
        ValueError: The number is not finite.
    """
    return Sleep(_finite(float(seconds), "sleep"), None)


def sleep_until(when: datetime) -> Operation[None]:
    """Pauses the saga until a point in time.

    Raises:
        ValueError: The datetime has no time zone.
    """
    if when.tzinfo is None:
        raise ValueError(f"sleep_until({when!r}): give it a time zone, such as datetime(…, tzinfo=UTC)")
    return Sleep(None, when.timestamp())


@overload
def receive(name: str, kind: type[T], *, timeout: float | None = None) -> Operation[T]: ...
@overload
def receive(name: str, kind: None = None, *, timeout: float | None = None) -> Operation[Any]: ...
def receive(name: str, kind: object = None, *, timeout: float | None = None) -> Operation[Any]:
    """Waits for a signal. Signals that came earlier are kept, in order, until they are received.

    Args:
        name: Of the signal.
        kind: Its type; ``None`` for whatever JSON it carries.
        timeout: Seconds to wait; ``None`` for as long as it takes.

    Raises:
        ReceiveTimeout: In the body, when none came in time.
        ValueError: The name is empty, or the timeout is not finite.
    """
    if not name or not isinstance(name, str):
        raise ValueError(f"receive({name!r}) needs the name of a signal first, then its type")
    within = None if timeout is None else _finite(float(timeout), "receive")
    return Receive(name, Any if kind is None else kind, within)


def _finite(seconds: float, what: str) -> float:
    """Refuses what no calendar reaches.

    Raises:
        ValueError: The number is too large, or none.
    """
    if not seconds <= LONGEST:
        raise ValueError(f"{what}() waits for at most {LONGEST:g} seconds, not {seconds}")
    return seconds


class scope:  # noqa: N801 - reads as a statement: `async with scope():`
    """A part of the body that is undone as a whole: ``async with scope(): …``.

    When an exception leaves it, the steps that ran inside are undone, and only then does it propagate.
    """

    __slots__ = ()

    async def __aenter__(self) -> None:
        await EnterScope()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Exception):
            await LeaveScope(failed=error is not None)


def now() -> Operation[datetime]:
    """Gives the time, in UTC, of the event that the body is reacting to; the same on every replay."""
    return Now()


async def random() -> float:
    """Gives a random number in [0, 1), the same on every replay."""
    return (int.from_bytes(await Entropy(), "big") >> 75) / (1 << 53)


def record(make: Callable[[], T], kind: object = None) -> Operation[T]:
    """Computes a cheap local value once and keeps it in the journal.

    Args:
        make: Called once, outside the body, without arguments. It may read a clock, a setting or a file, but
            change nothing: it cannot be undone.
        kind: Its type, if JSON's own types will not do.
    """
    return RecordValue(make, Any if kind is None else kind)


def emit(event: Event) -> Operation[None]:
    """Tells the world of an event.

    In a body: ``await emit(Event(type="order.placed", data=order))``.

    It is written with the journal's record, in the same commit (a *transactional outbox*), and sent after that to
    ``Coordinator(events=…)``: at least once, in order for each saga, always with the same id. An event is not taken
    back by a rollback; so tell what is certain, or tell later that it was undone.
    """
    return Emit(event)


def version(change_id: str) -> Operation[bool]:
    """Says whether this saga runs with a change to its body.

    True for sagas that reach this place for the first time; False while replaying one that passed it before the
    change was deployed. So ``if await version("fraud-check"): …`` lets live sagas go on as they were.
    """
    return Version(change_id)


def utc(at: float) -> datetime:
    """Turns a POSIX time into an aware datetime.

    Raises:
        JournalCorrupted: No calendar reaches it, so no process of ours has written it.
    """
    try:
        return datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        raise JournalCorrupted(f"{at:g} is no time that a calendar has. Restore the journal from a backup") from None
