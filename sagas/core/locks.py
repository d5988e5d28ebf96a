"""Locks: what a body asks for, and what its saga keeps of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sagas.core.fibers import Fiber, Wait
from sagas.core.operations import LONGEST, Operation

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EnterLock", "LeaveLock", "Lock", "LockWait", "lock"]

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True, eq=False)
class EnterLock(Operation[None]):
    """A wish for a lock: for a block, or to the end of the saga."""

    name: str
    timeout: float
    block: bool


@dataclass(frozen=True, slots=True, eq=False)
class LeaveLock(Operation[None]):
    """The end of a block that held a lock."""

    name: str


class lock:  # noqa: N801 - reads as a statement: `async with lock("sku-1"):`
    """Keeps other sagas away from what this one works on: ``async with lock("sku-1"): …``.

    One saga at a time holds a lock; others wait for it, in the order in which they asked. It survives crashes, and
    it belongs to the whole saga: a saga that holds it gets it again at once, in a branch or a child saga too.

    Args:
        name: Of what is locked, among all sagas in the store; 1 to 200 printable characters.
        timeout: Seconds to wait.
        hold: ``"saga"`` holds it until the saga has ended, so that no other saga reads what may still be undone.
            ``"block"`` releases it on leaving the block; what ran inside may then still be undone later.

    Raises:
        LockTimeout: On entering the block: it was not granted in time.
        Deadlock: On entering the block: its holder waits, directly or not, for a lock of this saga.
        ValueError: The name, the timeout or the way to hold it makes no sense.
    """

    __slots__ = ("_block", "_name", "_timeout")

    def __init__(self, name: str, *, timeout: float = 60.0, hold: Literal["saga", "block"] = "saga") -> None:
        if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME or not name.isprintable():
            raise ValueError(f"{name!r} cannot name a lock: use 1 to {_LONGEST_NAME} printable characters")
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= LONGEST:
            raise ValueError(
                f"lock({name!r}, timeout={timeout!r}): waiting is bounded; give seconds, above 0 and up to {LONGEST:g}"
            )
        if hold not in ("saga", "block"):
            raise ValueError(f"lock({name!r}, hold={hold!r}): use 'saga' (to its end) or 'block' (until it is left)")
        self._name = name
        self._timeout = float(timeout)
        self._block = hold == "block"

    async def __aenter__(self) -> None:
        await EnterLock(self._name, self._timeout, self._block)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._block and (error is None or isinstance(error, Exception)):
            await LeaveLock(self._name)


class Lock:
    """A lock that a saga holds, or waits for with one ticket, however many of its strands want it.

    Attributes:
        path: Where it was asked for first, which names the ticket.
        granted: Whether the saga holds it.
        kept: Whether it is held to the saga's end.
        blocks: The strands that hold it for a block, once a block.
        waits: Those that wait for it.
    """

    __slots__ = ("blocks", "granted", "kept", "path", "waits")

    def __init__(self, path: str) -> None:
        self.path = path
        self.granted = False
        self.kept = False
        self.blocks: list[Fiber] = []
        self.waits: list[LockWait] = []

    @property
    def idle(self) -> bool:
        """Whether nobody in the saga needs it any more."""
        return not (self.kept or self.blocks or self.waits)

    def hold(self, fiber: Fiber, *, block: bool) -> None:
        """Notes that a strand has entered."""
        if block:
            self.blocks.append(fiber)
        else:
            self.kept = True

    def leave(self, fiber: Fiber) -> None:
        """Notes that a strand has left one block."""
        self.blocks.remove(fiber)


class LockWait(Wait):
    """A strand that waits for a lock."""

    __slots__ = ("block", "lock", "name")

    def __init__(self, path: str, fiber: Fiber, lock: Lock, operation: EnterLock) -> None:
        super().__init__("lock", path, fiber)
        self.lock = lock
        self.name = operation.name
        self.block = operation.block
