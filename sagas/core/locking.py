"""How a saga takes locks and lets go of them.

Who may hold a lock is not for one saga to know: it asks with ``TakeLock`` and goes on with ``LockGranted`` or
``LockRefused``. What is still held when it ends is released by its host, together with the last record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.locks import EnterLock, LeaveLock, Lock, LockWait
from sagas.core.strands import BLOCKED, Strands
from sagas.errors import Deadlock, IllegalTransition, LockTimeout

if TYPE_CHECKING:
    from sagas.core.fibers import Fiber, Wait
    from sagas.core.recording import Recording

__all__ = ["Locking"]


class Locking(Strands):
    """The strands of a body, with the locks that they share.

    Attributes:
        recording: While replaying, what the journal says was asked for.
        tickets: The locks that the saga holds or waits for, by name; ``None`` while it never wanted one.
    """

    __slots__ = ("recording", "tickets")

    def __init__(self) -> None:
        super().__init__()
        self.recording: Recording | None = None
        self.tickets: dict[str, Lock] | None = None

    @property
    def locks(self) -> dict[str, str]:
        """The locks that it holds or waits for, each with the path that asked for it."""
        return {name: lock.path for name, lock in (self.tickets or {}).items()}

    def waits_for_lock(self, path: str) -> bool:
        """Says whether somebody waits for the lock that was asked for at a path."""
        return any(x.path == path and x.waits for x in (self.tickets or {}).values())

    def awaited_locks(self) -> list[str]:
        """Lists the names of the locks that the body waits for."""
        return [name for name, lock in (self.tickets or {}).items() if lock.waits]

    # --- what the body asks for ---------------------------------------------------------------------------------

    def _begin_lock(self, fiber: Fiber, operation: EnterLock) -> object:
        """Enters, if the saga holds the lock already; else waits for it."""
        path = fiber.next_path()
        lock = self._ticket(path, operation.name)
        if lock.granted:
            lock.hold(fiber, block=operation.block)
            return None
        wait = LockWait(path, fiber, lock, operation)
        lock.waits.append(wait)
        self._begin_wait(wait, self.at + operation.timeout)
        return BLOCKED

    def _ticket(self, path: str, name: str) -> Lock:
        """Finds the saga's ticket for a lock, or asks for one."""
        if self.tickets is None:
            self.tickets = {}
        lock = self.tickets.get(name)
        if lock is None:
            if self.recording is not None:
                self.recording.check_lock(path, name)
            lock = self.tickets[name] = Lock(path)
            self._draft.append(c.TakeLock(path, name))
        return lock

    def _end_lock(self, fiber: Fiber, operation: LeaveLock) -> None:
        """Leaves a block."""
        assert self.tickets is not None, "a block is left only after it was entered"
        self.tickets[operation.name].leave(fiber)
        self._release_idle()

    # --- what becomes of it -------------------------------------------------------------------------------------

    def _lock_granted(self, event: e.LockGranted) -> None:
        """Lets everybody enter who waits for it in this saga."""
        _, lock = self._awaited(event.path, "LockGranted")
        lock.granted = True
        waits, lock.waits = lock.waits, []
        for wait in waits:
            lock.hold(wait.fiber, block=wait.block)
            self._forget(wait.path)
            self._wake(wait.fiber)

    def _lock_refused(self, event: e.LockRefused) -> None:
        """Tells everybody who waits for it; whoever refused it has forgotten the ticket."""
        name, lock = self._awaited(event.path, "LockRefused")
        assert self.tickets is not None, "it was found there"
        del self.tickets[name]
        for wait in lock.waits:
            self._forget(wait.path)
            self._wake(wait.fiber, error=Deadlock(event.reason))

    def _awaited(self, path: str, trigger: str) -> tuple[str, Lock]:
        """Finds a lock that somebody waits for.

        Raises:
            IllegalTransition: Nobody waits there (any more).
        """
        for name, lock in (self.tickets or {}).items():
            if lock.path == path and lock.waits:
                return name, lock
        raise IllegalTransition("not waited for", trigger, f"lock {path}")

    def _lock_timed_out(self, wait: LockWait) -> None:
        """Ends the wait of one strand."""
        self._stop_waiting(wait)
        self._wake(wait.fiber, error=LockTimeout(f"lock {wait.name!r} was not granted in time"))

    # --- letting go ---------------------------------------------------------------------------------------------

    def _stop_waiting(self, wait: Wait) -> None:
        """See ``Strands``."""
        if isinstance(wait, LockWait):
            wait.lock.waits.remove(wait)
            self._release_idle()

    def _leave_blocks(self, fiber: Fiber) -> None:
        """See ``Strands``."""
        if self.tickets:
            for lock in self.tickets.values():
                while fiber in lock.blocks:
                    lock.leave(fiber)
            self._release_idle()

    def _release_idle(self) -> None:
        """Lets go of the locks that nobody in the saga needs any more."""
        tickets = self.tickets or {}
        for name in [name for name, lock in tickets.items() if lock.idle]:
            self._draft.append(c.FreeLock(tickets.pop(name).path, name))
