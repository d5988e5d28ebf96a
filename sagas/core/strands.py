"""The strands of a body: what holds them up, and how they end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from sagas.core import commands as c
from sagas.core.failures import writable
from sagas.core.fibers import Entry, Fiber, Group, Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["BLOCKED", "Awaits", "Strands"]

# Signals, each a name and a type, by the places at which a body waits for them.
Awaits: TypeAlias = Mapping[str, tuple[str, str]]

# What beginning an operation gives when the body has to wait for its outcome.
BLOCKED = object()

# Thousands of sagas may be parked in memory, so between events they share these, which nothing writes to.
_NOTHING: list[c.Command] = []
_NOBODY: list[tuple[Fiber, object, Exception | None]] = []


class Strands(ABC):
    """The strands of one body.

    Attributes:
        at: POSIX time of the last event.
        timers: POSIX times to be woken at, by path.
        stirred: Whether it may wait for other signals than when ``news`` was asked for last.
    """

    __slots__ = ("_draft", "_ready", "_waits", "at", "stirred", "timers")

    def __init__(self) -> None:
        self.at = 0.0
        self.timers: dict[str, float] = {}
        self._draft: list[c.Command] = _NOTHING
        self._ready: list[tuple[Fiber, object, Exception | None]] = _NOBODY
        self._waits: dict[str, Wait] = {}
        self.stirred = False

    # --- what is told to whoever drives them, calls steps and undoes them -------------------------------------

    @abstractmethod
    def _drive(self, fiber: Fiber, value: object, error: Exception | None) -> None: ...

    @abstractmethod
    def _stop_step(self, entry: Entry) -> None: ...

    @abstractmethod
    def _stop_waiting(self, wait: Wait) -> None: ...

    @abstractmethod
    def _leave_blocks(self, fiber: Fiber) -> None: ...

    @abstractmethod
    def _unwind(
        self, place: str, fiber: Fiber | None, *, value: object = None, error: Exception | None = None
    ) -> bool: ...

    @abstractmethod
    def _unwind_losers(self, group: Group, value: object, error: Exception | None) -> bool: ...

    @abstractmethod
    def _root_ended(self, value: object, error: Exception | None, *, stopped: bool) -> None: ...

    # --- taking turns -------------------------------------------------------------------------------------------

    def _run(self) -> list[c.Command]:
        """Runs every strand that can go on, in the order in which they were woken, and gives what they ask for."""
        # The list grows while it is walked.
        for fiber, value, error in self._ready:
            self._drive(fiber, value, error)
        draft, self._draft, self._ready = self._draft, _NOTHING, _NOBODY
        return draft

    def _wake(self, fiber: Fiber, value: object = None, error: Exception | None = None) -> None:
        """Lets a fiber go on, after those that were woken before."""
        fiber.waits_for = None
        self._ready.append((fiber, value, error))

    def _start_branch(self, group: Group) -> None:
        """Starts the branch of the next item."""
        if not group.more:
            return
        assert group.make is not None, "only map_each starts its branches one by one"
        index, item = group.more.pop()
        group.left += 1
        awaitable = _lazily(group.make, item)
        self._wake(group.branch(awaitable, index, operation=False))

    # --- how strands end ----------------------------------------------------------------------------------------

    def _settle(self, fiber: Fiber, value: object, error: Exception | None) -> None:
        """Notes that a fiber has ended, and what that means for those around it."""
        group = fiber.group
        # A scope or a child saga that a sibling's failure has ended is undone as any that fails; then it settles.
        half_done = fiber.unfinished if group is not None and fiber.stopped else None
        if half_done is not None and self._unwind(half_done, fiber):
            return
        self._leave_blocks(fiber)
        if group is None:
            self._root_ended(value, error, stopped=fiber.stopped)
            return
        group.left -= 1
        if not fiber.stopped:
            self._count(group, fiber, value, error)
        if group.left == 0:
            self._group_ended(group)

    def _count(self, group: Group, fiber: Fiber, value: object, error: Exception | None) -> None:
        """Takes the outcome of a branch into account."""
        if group.decided:
            return
        group.results[fiber.index] = value
        group.error = error
        if error is not None or group.kind == "race":
            group.winner = fiber.index
            self._decide(group)
        elif group.more:
            self._start_branch(group)

    def _decide(self, group: Group) -> None:
        """Stops every branch that is still under way."""
        group.decided = True
        group.more = []
        for fiber in group.fibers.values():
            if fiber.routine is not None and not fiber.stopped:
                self._stop(fiber)

    def _group_ended(self, group: Group) -> None:
        """Lets the owner go on, once what has to be undone is undone."""
        owner, error = group.owner, group.error
        self._forget(group.path)
        if group.kind == "race":
            value = None if group.winner < 0 else group.results[group.winner]
            if not self._unwind_losers(group, value, error):
                self._wake(owner, value, error)
        elif group.kind == "child":
            if error is None or not self._unwind(group.path, owner, error=error):
                self._wake(owner, group.results[0], error)
        else:
            results = group.results
            self._wake(owner, results if group.make is not None else tuple(results), error)

    def _stop(self, fiber: Fiber) -> None:
        """Lets a fiber start nothing new; it settles when what it has in flight has ended."""
        fiber.stopped = True
        fiber.close()
        holdup = fiber.waits_for
        if isinstance(holdup, Entry):
            self._stop_step(holdup)
        elif isinstance(holdup, Group):
            self._forget(holdup.path)
            self._decide(holdup)
        elif isinstance(holdup, Wait) and holdup.kind != "local":
            self._forget(holdup.path)
            self._stop_waiting(holdup)
            self._wake(fiber)

    def _close(self, fiber: Fiber) -> None:
        """Closes a fiber and those below it, for good."""
        fiber.stopped = True
        fiber.close()
        if isinstance(fiber.waits_for, Group):
            for below in fiber.waits_for.fibers.values():
                self._close(below)

    # --- waiting ------------------------------------------------------------------------------------------------

    def _start_timer(self, path: str, until: float) -> None:
        """Asks to be woken."""
        self.timers[path] = until
        self._draft.append(c.StartTimer(path, until))

    def _begin_wait(self, wait: Wait, until: float | None) -> object:
        """Holds a fiber up."""
        self._waits[wait.path] = wait
        self.stirred = self.stirred or wait.kind == "receive"
        wait.since = self.at
        wait.fiber.waits_for = wait
        if until is not None:
            self._start_timer(wait.path, until)
        return BLOCKED

    def _forget(self, path: str) -> None:
        """Forgets what was waited for at a path."""
        wait = self._waits.pop(path, None)
        self.stirred = self.stirred or (wait is not None and wait.kind == "receive")
        self.timers.pop(path, None)

    def news(self) -> Awaits:
        """Names what ``awaits`` does, to be told once."""
        self.stirred = False
        return self.awaits()

    def awaits(self) -> Awaits:
        """Names the signals that the body waits for and their types, for people, by the places at which it does."""
        found = [wait for wait in self._waits.values() if wait.kind == "receive"] if self._waits else ()
        return {x.path: (writable(x.signal), "" if x.schema is None else x.schema.told) for x in found}

    def _waiter(self, signal: str) -> Wait | None:
        """Finds whoever has waited longest for a signal."""
        for wait in self._waits.values():
            if wait.kind == "receive" and wait.signal == signal:
                return wait
        return None


async def _lazily(make: Callable[[Any], Awaitable[object]], item: object) -> object:
    """Calls for an item within its branch, so that what the call raises fails the branch."""
    return await make(item)
