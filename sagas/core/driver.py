"""Runs a saga body by hand, from one operation to the next.

``coro.send`` and ``coro.throw`` take the place of an event loop, so that the same events always lead to the same
commands.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sagas.core import commands as c
from sagas.core import locks
from sagas.core import operations as o
from sagas.core.fibers import Fiber, Group, Wait
from sagas.core.locking import Locking
from sagas.core.operations import Driving, driving
from sagas.core.schema import ValueSchema
from sagas.core.strands import BLOCKED
from sagas.errors import DeterminismError, PayloadError, ReplayDiverged, RequestError

if TYPE_CHECKING:
    from datetime import datetime

    from sagas.core.definitions import Step

__all__ = ["Driver"]

# Far deeper than anybody means to go, and not so deep that a saga which calls itself for ever fills the memory.
_DEEPEST = 200


@lru_cache(maxsize=512)
def _schema(kind: object, where: str) -> ValueSchema[object]:
    """Builds the schema of a signal or a local value, once."""
    return ValueSchema(kind, where)


class Driver(Locking):
    """A body that runs.

    Attributes:
        key: What idempotency keys and random values are derived from.
        open: Commands that no event has answered yet, by path.
        emits: Whether it has ever emitted an event.
        children: Names of the child sagas that it has begun, by path; ``None`` while there are none.
    """

    __slots__ = ("_changes", "_signals", "children", "emits", "key", "open")

    def __init__(self) -> None:
        super().__init__()
        self.key = ""
        self.open: dict[str, c.RunStep | c.RunUndo | c.RunLocal] = {}
        self.emits = False
        self.children: dict[str, str] | None = None
        self._signals: dict[str, deque[bytes]] | None = None
        self._changes: dict[str, bool] | None = None

    @abstractmethod
    def _call_step(self, fiber: Fiber, path: str, step: Step[..., Any], arguments: bytes) -> None: ...

    # --- driving ------------------------------------------------------------------------------------------------

    def _deliver(self, fiber: Fiber, schema: ValueSchema[Any] | None, payload: bytes) -> None:
        """Lets a fiber go on with a value from the journal."""
        if fiber.stopped or schema is None:
            self._wake(fiber)
            return
        try:
            value = schema.decode(payload)
        except PayloadError as error:
            self._wake(fiber, error=error)
        else:
            self._wake(fiber, value)

    def _drive(self, fiber: Fiber, value: object, error: Exception | None) -> None:
        """Runs a fiber to its next operation that takes time."""
        if fiber.stopped:
            self._settle(fiber, None, None)
            return
        routine = fiber.routine
        assert routine is not None, "only a stopped fiber has no routine"
        token = driving.set(Driving.RUNNING)
        try:
            while value is not BLOCKED:
                try:
                    operation = routine.send(value) if error is None else routine.throw(error)
                except StopIteration as stop:
                    fiber.routine = None
                    self._settle(fiber, stop.value, None)
                    return
                except KeyboardInterrupt:
                    raise
                except BaseException as failure:
                    fiber.routine = None
                    self._settle(fiber, None, _ordinary(failure))
                    return
                begin = _BEGINNINGS.get(type(operation))
                if begin is None:
                    value, error = None, _foreign(operation, routine)
                    continue
                try:
                    value, error = begin(self, fiber, operation), None
                except ReplayDiverged:
                    raise
                except Exception as refused:  # an argument that cannot be written, a type that pydantic does not know
                    value, error = None, refused
        finally:
            driving.reset(token)

    # --- beginning operations -----------------------------------------------------------------------------------

    def _begin_step(self, fiber: Fiber, call: o.StepCall[object]) -> object:
        """Calls a step."""
        path, step = fiber.next_path(), call.step
        if self.recording is None:
            arguments = step.arguments_schema.encode(call.arguments)
        else:
            arguments = self.recording.arguments(path, step, call.arguments)
        self._call_step(fiber, path, step, arguments)
        return BLOCKED

    def _begin_child(self, fiber: Fiber, call: o.SagaCall[object]) -> object:
        """Runs the body of a child saga, on its own copy of the input."""
        saga = call.saga
        path = fiber.next_path()
        if path.count(".") >= _DEEPEST:
            raise RequestError(
                f"{saga.where} runs as a child saga, {_DEEPEST} deep in others: a saga that calls itself has to end "
                "before that. Have what it repeats in a loop, or split the input among fewer children"
            )
        schema = saga.arguments_schema
        arguments = schema.decode(schema.encode(call.arguments))
        if self.children is None:
            self.children = {}
        self.children[path] = saga.name
        group = Group("child", path, fiber)
        child = Fiber(saga.function(**arguments), path, group=group)
        group.fibers[0] = child
        group.results = [None]
        group.left = 1
        fiber.waits_for = group
        if saga.timeout is not None:
            self._waits[path] = Wait("child", path, child)
            self._start_timer(path, self.at + saga.timeout)
        self._wake(child)
        return BLOCKED

    def _begin_branches(self, fiber: Fiber, operation: o.Gather[object] | o.Race[object]) -> object:
        """Starts branches side by side."""
        path = fiber.next_path()
        if not operation.branches:
            return ()
        group = Group("race" if isinstance(operation, o.Race) else "gather", path, fiber)
        group.results = [None] * len(operation.branches)
        fiber.waits_for = group
        for index, awaitable in enumerate(operation.branches):
            self._wake(group.branch(awaitable, index, operation=isinstance(awaitable, o.Operation)))
        group.left = len(operation.branches)
        return BLOCKED

    def _begin_map(self, fiber: Fiber, operation: o.MapEach[object]) -> object:
        """Starts a branch an item, as many as may run side by side."""
        path = fiber.next_path()
        if not operation.items:
            return []
        group = Group("gather", path, fiber)
        group.make = operation.make
        group.results = [None] * len(operation.items)
        group.more = list(enumerate(operation.items))[::-1]
        fiber.waits_for = group
        for _ in range(operation.limit or len(operation.items)):
            self._start_branch(group)
        return BLOCKED

    def _begin_sleep(self, fiber: Fiber, operation: o.Sleep) -> object:
        """Pauses."""
        until = operation.until if operation.until is not None else self.at + (operation.seconds or 0.0)
        return self._begin_wait(Wait("sleep", fiber.next_path(), fiber), until)

    def _begin_receive(self, fiber: Fiber, operation: o.Receive[object]) -> object:
        """Takes a signal that was kept, or waits for the next."""
        path = fiber.next_path()
        schema = _schema(operation.kind, f"the signal {operation.name!r}")
        queue = self._signals.get(operation.name) if self._signals else None
        if queue:
            return schema.decode(queue.popleft())
        until = None if operation.timeout is None else self.at + operation.timeout
        return self._begin_wait(Wait("receive", path, fiber, signal=operation.name, schema=schema), until)

    def _begin_record(self, fiber: Fiber, operation: o.RecordValue[object]) -> object:
        """Asks for a local value."""
        wait = Wait("local", fiber.next_path(), fiber, schema=_schema(operation.kind, "a recorded value"))
        assert wait.schema is not None
        command = c.RunLocal(wait.path, operation.make, wait.schema)
        self.open[wait.path] = command
        self._draft.append(command)
        return self._begin_wait(wait, None)

    def _emit(self, fiber: Fiber, operation: o.Emit) -> None:
        """Notes an event with the record that led here."""
        event = operation.event
        data = _schema(Any, f"the data of the event {event.type!r}").encode(event.data)
        self.emits = True
        self._draft.append(c.Emit(fiber.next_path(), event.type, event.subject or "", data))

    def _begin_scope(self, fiber: Fiber, _: o.EnterScope) -> object:
        """Enters a scope."""
        fiber.enter_scope()
        return None

    def _end_scope(self, fiber: Fiber, operation: o.LeaveScope) -> object:
        """Leaves a scope, undoing it if it failed."""
        place = fiber.leave_scope()
        if operation.failed and self._unwind(place, fiber):
            return BLOCKED
        return None

    def _now(self, _: Fiber, __: o.Now) -> datetime:
        """Tells the time of the event at hand."""
        return o.utc(self.at)

    def _entropy(self, fiber: Fiber, _: o.Entropy) -> bytes:
        """Derives bytes from the saga's key and the place."""
        return hashlib.blake2b(f"{self.key}/{fiber.next_draw()}".encode(), digest_size=16).digest()

    def _version(self, _: Fiber, operation: o.Version) -> bool:
        """Decides once whether a change applies."""
        if self._changes is None:
            self._changes = {}
        change = operation.change_id
        decided = self._changes.get(change)
        if decided is None:
            decided = self.recording is None or self.recording.has_change(change)
            self._changes[change] = decided
            if decided:
                self._draft.append(c.MarkVersion(change))
        return decided


def _ordinary(failure: BaseException) -> Exception:
    """Keeps what ends programs and tasks (``sys.exit``, a cancellation) from ending whoever drives the body."""
    if isinstance(failure, Exception):
        return failure
    error = RuntimeError(f"the saga body raised {type(failure).__qualname__}: {failure}")
    error.__cause__ = failure
    return error


def _foreign(awaited: object, routine: object) -> DeterminismError:
    """Explains that a body awaited something that is no operation, and where."""
    frame = getattr(routine, "cr_frame", None)
    where = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    return DeterminismError(
        f"the saga body awaited {type(awaited).__module__}.{type(awaited).__qualname__}{where}. A body is replayed "
        "after a crash, so it can only await steps, sagas and the operations of this library (sleep, receive, "
        "gather, …). Do I/O in a step, and pause with sagas.sleep."
    )


_BEGINNINGS: dict[type, Callable[[Driver, Fiber, Any], object]] = {
    o.StepCall: Driver._begin_step,
    o.SagaCall: Driver._begin_child,
    o.Gather: Driver._begin_branches,
    o.Race: Driver._begin_branches,
    o.MapEach: Driver._begin_map,
    o.Sleep: Driver._begin_sleep,
    o.Receive: Driver._begin_receive,
    o.RecordValue: Driver._begin_record,
    o.Emit: Driver._emit,
    o.EnterScope: Driver._begin_scope,
    o.LeaveScope: Driver._end_scope,
    locks.EnterLock: Driver._begin_lock,
    locks.LeaveLock: Driver._end_lock,
    o.Now: Driver._now,
    o.Entropy: Driver._entropy,
    o.Version: Driver._version,
}
