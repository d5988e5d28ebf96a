"""Performs requests behind the barrier with memory: each is admitted, attempted and remembered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sagas.core.failures import describe
from sagas.errors import KeyReused, StoreError, StoreUnavailable, TransportClosed
from sagas.transport.port import StepReply
from sagas.worker.barrier import known_of, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlmodel import Session

    from sagas.coordinator.clock import Clock
    from sagas.transport.port import StepRequest
    from sagas.worker.barrier import Entry
    from sagas.worker.inbox import Inbox
    from sagas.worker.performing import Performing

__all__ = ["Guarding"]

logger = logging.getLogger("sagas.worker")

# Pauses, in seconds, between two tries to remember how a request ended.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0
# Seconds after which to ask again when the database is away.
_ASK_AGAIN = 1.0


class Guarding:
    """See the module. What ``barrier`` decides, it does.

    Args:
        inbox: The barrier's memory.
        clock: For pauses.
    """

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock

    # --- what is performed --------------------------------------------------------------------------------------

    async def perform(self, performing: Performing) -> StepReply:
        """Performs an action or an undo behind the barrier.

        Raises:
            KeyReused: The key came with another request.
        """
        try:
            self._check_alive()
            if performing.is_transactional:
                return await self._transact(performing)
            admission = await self._inbox.enter(performing.request)
            if admission.reply is not None:
                return admission.reply
            self._check_alive()  # again, since a process may stand still anywhere
        except StoreError as error:
            # Nothing of this attempt is left, or all of it; whoever tries again finds out.
            return _unknown(error)
        performing.admitted = True
        return await self._remember(*await self._attempt(performing, doubt=admission.doubt))

    async def _transact(self, performing: Performing) -> StepReply:
        """Performs a request in one transaction with what is remembered of it."""
        request = performing.request

        def work(session: Session, check: Callable[[Session], None]) -> StepReply:
            performing.admitted = True
            return performing.within(session, check)

        def settled(reply: StepReply, doubt: bool) -> tuple[StepReply, Entry]:  # noqa: FBT001 - see `Settle`
            return settle(request, reply, doubt=doubt)

        try:
            return await self._inbox.transact(request, work, settled)
        except (KeyReused, TransportClosed, StoreError):
            raise
        except Exception as error:
            return await self.not_begun(request, error)  # as it is now, since all of it was rolled back

    def _check_alive(self) -> None:
        """Begins nothing that others may have begun.

        Raises:
            StoreError: They may think that this worker is dead.
        """
        if self._inbox.lapsed:
            raise StoreError("this worker was cut off from its database for so long that others may do its work")

    async def _attempt(self, performing: Performing, *, doubt: bool) -> tuple[StepReply, Entry]:
        """Attempts it; what may have acted is not attempted again before the probe has said that it did not."""
        request, query = performing.request, performing.step.query
        if doubt and request.kind == "action" and query is not None:
            found = await performing.probe(query)
            if found.outcome != "not_applied":
                return settle(request, found, doubt=True)
            doubt = False
        return settle(request, await performing.attempt(), doubt=doubt)

    async def _remember(self, reply: StepReply, entry: Entry) -> StepReply:
        """Remembers how it went, however long it takes, and says it then."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if await self._inbox.leave(entry):
                    return reply
            except StoreError as error:
                if not isinstance(error, StoreUnavailable):
                    return StepReply.in_doubt(describe(error))  # it will never be remembered
                logger.warning("what became of step %s is not remembered yet: %s", entry.step, error)
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                told = TimeoutError("another worker went on with it, since this one was cut off meanwhile")
                return StepReply.in_doubt(describe(told))

    # --- what is not --------------------------------------------------------------------------------------------

    async def not_begun(self, request: StepRequest, error: Exception) -> StepReply:
        """Says why nothing was begun; unless an earlier attempt may have acted, or has answered.

        Raises:
            KeyReused: That had the same key, and was another one.
        """
        try:
            memory = await self._inbox.recall(request)
        except StoreError as away:
            return _unknown(away)
        known = memory.get("undo" if request.kind == "undo" else "action")
        if known is None or request.kind == "probe":
            return StepReply.failed(describe(error))
        if known.fingerprint not in {b"", request.fingerprint()}:
            raise KeyReused(request.idempotency_key, request.step)
        if known.state == "open":
            return StepReply.failed(describe(error))
        if known.state == "done":
            assert known.reply is not None, "what is done has its reply"
            return known.reply
        return StepReply.fenced() if known.state == "fenced" else StepReply.in_doubt(describe(error))

    async def probe(self, performing: Performing) -> StepReply:
        """Says what became of an action: what the barrier knows, else what the step's own probe finds."""
        try:
            known = known_of(await self._inbox.recall(performing.request), alive=self._inbox.is_alive)
        except StoreError as error:
            return _unknown(error)
        if known is not None:
            return known
        step = performing.step
        if step.query is None:
            return StepReply.in_doubt(describe(LookupError(f"the step {step.name!r} has no probe")))
        return await performing.probe(step.query)


def _unknown(error: StoreError) -> StepReply:
    """Says that nobody can tell as long as the database is away."""
    return StepReply.in_doubt(describe(error), retry_after=_ASK_AGAIN)
