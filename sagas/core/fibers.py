"""The parts of a running body: branches, what they wait for, and the steps they called."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sagas.core.operations import Driving, driving
from sagas.core.transitions import STEP, StepState, StepTrigger, next_step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from sagas.core.definitions import Step
    from sagas.core.operations import Operation
    from sagas.core.rollback import UndoOrder
    from sagas.core.schema import ValueSchema

logger = logging.getLogger("sagas.core")

_undying: list[object] = []

__all__ = ["Entry", "Fiber", "Group", "Unwinding", "Wait"]


def _only(operation: Operation[object]) -> Generator[object, object, object]:
    """Makes a branch out of a single operation."""
    return (yield operation)


async def _await(awaitable: Awaitable[object]) -> object:
    """Makes a branch out of any other awaitable."""
    return await awaitable


class Fiber:
    """One strand of a body: the body itself, a branch, or a child saga.

    Attributes:
        routine: The coroutine; ``None`` once it has ended.
        place: Path of the branch, ``""`` for the body.
        waits_for: What holds it up; ``None`` while it runs or is about to.
        stopped: Whether it must not start anything any more.
    """

    __slots__ = (
        "_count",
        "_draws",
        "_prefix",
        "_scopes",
        "_single",
        "group",
        "index",
        "place",
        "routine",
        "stopped",
        "waits_for",
    )

    def __init__(
        self,
        routine: Coroutine[object, object, object] | Generator[object, object, object],
        place: str,
        *,
        group: Group | None = None,
        index: int = 0,
        single: bool = False,
    ) -> None:
        self.routine: Coroutine[object, object, object] | Generator[object, object, object] | None = routine
        self.place = place
        self.group = group
        self.index = index
        self.stopped = False
        self.waits_for: Entry | Wait | Group | Unwinding | None = None
        self._single = single
        self._prefix = f"{place}." if place else ""
        self._count = 0
        self._draws = 0
        self._scopes: list[tuple[str, int, str]] | None = None

    def next_path(self) -> str:
        """Numbers the next operation."""
        if self._single:
            return self.place
        self._count += 1
        return f"{self._prefix}{self._count}"

    def next_draw(self) -> str:
        """Numbers the next random value."""
        self._draws += 1
        return f"{self.place}?{self._draws}"

    def enter_scope(self) -> None:
        """Numbers what follows below a path of its own."""
        place = self.next_path()
        if self._scopes is None:
            self._scopes = []
        self._scopes.append((self._prefix, self._count, place))
        self._prefix, self._count = f"{place}.", 0

    @property
    def unfinished(self) -> str | None:
        """Path of what a stopped strand leaves half done: its outermost scope, or the child saga that it is."""
        if self.group is not None and self.group.kind == "child":
            return self.place
        if not self._scopes:
            return None
        return self._scopes[0][2]

    def leave_scope(self) -> str:
        """Goes back to the numbers around the scope, and gives the scope's path."""
        assert self._scopes is not None, "a scope is left only after it was entered"
        self._prefix, self._count, place = self._scopes.pop()
        return place

    def close(self) -> None:
        """Ends the coroutine without letting it start anything."""
        routine, self.routine = self.routine, None
        if routine is None:
            return
        token = driving.set(Driving.CLOSING)
        try:
            routine.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # It was told to end, and nobody waits for it any more.
            logger.debug("the cleanup of the stopped branch %s failed: %r", self.place or "body", error)
            if getattr(routine, "cr_frame", None) is not None:
                # It swallows whatever ends it, and would go on doing so when the garbage collector tries.
                _undying.append(routine)
        finally:
            driving.reset(token)


class Group:
    """Branches side by side, or a child saga as the only branch.

    Attributes:
        kind: ``gather``, ``race`` or ``child``.
        path: Where it stands.
        owner: Who waits for it.
        results: By branch.
        left: How many branches have not ended.
        decided: Whether its outcome is known, so that nothing new starts in it.
    """

    __slots__ = ("decided", "error", "fibers", "kind", "left", "make", "more", "owner", "path", "results", "winner")

    def __init__(self, kind: str, path: str, owner: Fiber) -> None:
        self.kind = kind
        self.path = path
        self.owner = owner
        self.results: list[object] = []
        self.fibers: dict[int, Fiber] = {}
        self.left = 0
        self.decided = False
        self.error: Exception | None = None
        self.winner = -1
        self.more: list[tuple[int, object]] = []
        self.make: Callable[[object], Awaitable[object]] | None = None

    def branch(self, awaitable: Awaitable[object], index: int, *, operation: bool) -> Fiber:
        """Makes the fiber of a branch."""
        routine = _only(awaitable) if operation else awaitable  # type: ignore[arg-type]  # the flag says so
        if not operation and not hasattr(awaitable, "send"):
            routine = _await(awaitable)
        fiber = Fiber(
            routine,  # type: ignore[arg-type]  # an awaitable with `send` is a coroutine
            f"{self.path}:{index}",
            group=self,
            index=index,
            single=operation,
        )
        self.fibers[index] = fiber
        return fiber


class Wait:
    """Something that is neither a step nor a group: a pause, a signal, a local value, a child's timeout.

    Attributes:
        since: POSIX time at which it began.
    """

    __slots__ = ("fiber", "kind", "path", "schema", "signal", "since")

    def __init__(
        self, kind: str, path: str, fiber: Fiber, *, signal: str = "", schema: ValueSchema[object] | None = None
    ) -> None:
        self.kind = kind
        self.path = path
        self.fiber = fiber
        self.signal = signal
        self.schema = schema
        self.since = 0.0


class Unwinding:
    """A rollback on its way, of the saga or of a part of it."""

    __slots__ = ("error", "fiber", "order", "value")

    def __init__(self, order: UndoOrder, fiber: Fiber | None, value: object, error: Exception | None) -> None:
        self.order = order
        self.fiber = fiber
        self.value = value
        self.error = error


class Entry:
    """A step that was called.

    Attributes:
        final: Whether a pivot has made it impossible to undo.
        doubt: Whether an attempt may have acted.
        owed: Whether it had a compensator when it was called, as its journal says.
    """

    __slots__ = (
        "arguments", "doubt", "fiber", "final", "name", "owed", "path", "pivot", "result", "scheduled_at", "span",
        "state", "step", "tried", "unwinding",
    )  # fmt: skip

    def __init__(self, path: str, name: str, step: Step[..., object] | None, arguments: bytes, at: float) -> None:
        self.path = path
        self.name = name
        self.step = step
        self.arguments = arguments
        self.scheduled_at = at
        self.state = StepState.SCHEDULED
        self.result: bytes | None = None
        self.fiber: Fiber | None = None
        self.unwinding: Unwinding | None = None
        self.pivot = step is not None and step.options.pivot
        self.final = False
        self.doubt = False
        self.owed = False
        self.tried = 0
        self.span = ""

    def move(self, trigger: StepTrigger) -> None:
        """Goes to the next state.

        Raises:
            IllegalTransition: The table has none.
        """
        state = STEP.get((self.state, trigger))
        self.state = next_step(self.state, trigger, self.path) if state is None else state

    @property
    def has_undo(self) -> bool:
        """Whether it has a compensator, or had one: then it is to be undone, though the code at hand cannot."""
        return self.owed or (self.step is not None and self.step.undo is not None)

    @property
    def undoable(self) -> bool:
        """Whether a rollback has to undo it."""
        return (
            self.state in (StepState.SUCCEEDED, StepState.IN_DOUBT)
            and not self.final
            and (self.step is None or self.has_undo)
        )

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for its outcome any more."""
        return self.fiber is None or self.fiber.stopped

    @property
    def irrevocable(self) -> bool:
        """Whether it is a pivot that no compensator could take back."""
        return self.pivot and (self.step is None or self.step.undo is None)
