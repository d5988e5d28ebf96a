"""Where a participant remembers requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sagas.errors import StoreError
from sagas.worker.barrier import Admission, Entry, admit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel import Session

    from sagas.transport.port import StepReply, StepRequest
    from sagas.worker.barrier import Memory

__all__ = ["Inbox", "MemoryInbox", "Settle", "Work"]


class Work(Protocol):
    """Performs a request with a session; what that has committed is durable together with what is remembered.

    It has constraints checked before it commits the session, and rolls it back unless the reply is ``succeeded``.
    """

    def __call__(self, session: Session, check: Callable[[Session], None], /) -> StepReply: ...  # noqa: D102 - see the class


class Settle(Protocol):
    """Says of a reply, and of whether an earlier attempt may have acted, what to answer and to remember."""

    def __call__(self, reply: StepReply, doubt: bool, /) -> tuple[StepReply, Entry]: ...  # noqa: D102, FBT001 - see the class


class Inbox(Protocol):
    """The memory of a barrier. What a method has done is durable when it returns.

    Every method raises ``StoreUnavailable`` when it may work later; then, what was asked for may have been done.

    Attributes:
        has_sessions: Whether ``transact`` works.
    """

    @property
    def has_sessions(self) -> bool: ...  # noqa: D102 - see the class

    async def open(self) -> None:
        """Connects, and shows others that this process is alive."""
        ...

    async def run(self) -> None:
        """Does what has to be done as long as it is open; ends when it is cancelled."""
        ...

    async def close(self) -> None:
        """Shows others that this process is at work on nothing any more, and lets go of everything."""
        ...

    @property
    def lapsed(self) -> bool:
        """Whether others may think by now that this process is dead, so that nothing may be begun."""
        ...

    async def enter(self, request: StepRequest) -> Admission:
        """Admits a request, and remembers that it is at work here.

        Raises:
            KeyReused: The key came with another request.
        """
        ...

    async def leave(self, entry: Entry) -> bool:
        """Remembers how it ended; unless somebody else went on with it, who took this process for dead.

        Doing so again does no harm.

        Returns:
            Whether it is remembered.
        """
        ...

    async def recall(self, request: StepRequest) -> Memory:
        """Reads what is known about a request's action."""
        ...

    async def transact(self, request: StepRequest, work: Work, settle: Settle) -> StepReply:
        """Admits a request, performs it, and remembers how it ended, in one transaction.

        Raises:
            KeyReused: The key came with another request.
            Exception: What the database refused the whole transaction for. Nothing of it happened.
        """
        ...

    def is_alive(self, owner: str) -> bool:
        """Says whether another process may be at work. This one is not, if it asks."""
        ...

    async def expire(self, age: float) -> int:
        """Forgets what is older than so many seconds; gives how much that was."""
        ...


class MemoryInbox:
    """Remembers as long as the process lives, which no participant that matters may do."""

    has_sessions = False
    lapsed = False

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._memory: dict[str, dict[str, Entry]] = {}
        self._at: dict[str, float] = {}

    async def open(self) -> None:
        """See ``Inbox.open``: there is nothing to do."""

    async def run(self) -> None:
        """See ``Inbox.run``: there is nothing to do."""

    async def close(self) -> None:
        """See ``Inbox.close``: there is nothing to do."""

    async def enter(self, request: StepRequest) -> Admission:
        """See ``Inbox.enter``."""
        memory = self._memory.get(request.action_key, {})
        admission = admit(request, memory, owner="here", alive=self.is_alive)
        for entry in admission.entries:
            self._keep(entry)
        return admission

    def _keep(self, entry: Entry) -> None:
        """Remembers."""
        self._memory.setdefault(entry.about, {})[entry.kind] = entry
        self._at[entry.about] = self._now()

    async def leave(self, entry: Entry) -> bool:
        """See ``Inbox.leave``."""
        self._keep(entry)
        return True

    async def recall(self, request: StepRequest) -> Memory:
        """See ``Inbox.recall``."""
        return self._memory.get(request.action_key, {})

    async def transact(self, request: StepRequest, work: Work, settle: Settle) -> StepReply:
        """See ``Inbox.transact``.

        Raises:
            StoreError: Always: there is no database here.
        """
        del work, settle
        raise StoreError(f"step {request.step} is transactional, and an inbox in memory has no database for it")

    def is_alive(self, owner: str) -> bool:  # noqa: ARG002 - there is one process
        """See ``Inbox.is_alive``."""
        return False

    async def expire(self, age: float) -> int:
        """See ``Inbox.expire``."""
        old = [key for key, at in self._at.items() if at < self._now() - age]
        for key in old:
            del self._at[key], self._memory[key]
        return len(old)
