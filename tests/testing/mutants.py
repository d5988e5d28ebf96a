"""Stores, transports and queues that break a promise, each with the contract that should find out.

Not tests themselves: test_contracts_can_fail.py runs them, one by one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import anyio.lowlevel
import pytest

from sagas import Worker
from sagas.stores.keeping import Purge, Purged, ScheduleRow
from sagas.stores.memory import MemoryStore
from sagas.stores.port import Batch, Committed, Holding, JournalRow, LockChange, Mail, SagaRow
from sagas.testing.contracts import (
    Elapse,
    OpenQueue,
    OpenStore,
    Participant,
    QueueContract,
    StoreContract,
    TransportContract,
)
from sagas.transport import Beat, Capabilities, Delivery, MemoryQueue, Message, StepReply, StepRequest
from sagas.transport.memory_queue import _Letter
from sagas.worker import LocalTransport
from sagas.worker.barrier import Entry
from sagas.worker.inbox import MemoryInbox
from tests.transport.virtual import VirtualClock

# --- stores ---------------------------------------------------------------------------------------------------------


class OnStore(StoreContract):
    """A contract for a broken store."""

    patience = 0.05
    Broken: ClassVar[type[MemoryStore]] = MemoryStore

    @pytest.fixture
    def connect(self) -> OpenStore:
        shared = self.Broken()
        return lambda: shared


class ForgetsFencing(OnStore):
    class Broken(MemoryStore):
        def _is_fenced(self, row: JournalRow, begun: Collection[str]) -> bool:
            return False


class LosesMailOfTheFenced(OnStore):
    class Broken(MemoryStore):
        def commit(self, batch: Batch) -> Committed:
            done = super().commit(batch)
            self.discard(batch.read)
            return done


class ForgetsTheLastRow(OnStore):
    class Broken(MemoryStore):
        def load(self, saga_ids: Sequence[str]) -> Mapping[str, list[JournalRow]]:
            return {key: rows[:100][: max(1, len(rows) - 1)] for key, rows in super().load(saga_ids).items()}


class LetsLeasesLastForEver(OnStore):
    class Broken(MemoryStore):
        def alive(self, owner: str, now: float) -> bool:
            return owner in self._leases


class ClaimsWithoutKeepingOthersAway(OnStore):
    class Broken(MemoryStore):
        def claim(self, owner: str, now: float, limit: int, code: Collection[str]) -> Sequence[SagaRow]:
            self._claims.clear()
            return super().claim(owner, now, limit, code)


class TellsNobodyOfLocks(OnStore):
    class Broken(MemoryStore):
        def _change_locks(self, changes: Sequence[LockChange]) -> tuple[Mail, ...]:
            super()._change_locks(changes)
            return ()


class GivesPermitsToAll(OnStore):
    class Broken(MemoryStore):
        def hold_permits(self, name: str, owner: str, now: float, *, slots: int, used: int, want: int) -> Holding:
            return Holding(want, slots, starving=False)


class PurgesWhenItShouldOnlyCount(OnStore):
    class Broken(MemoryStore):
        def purge(self, what: Purge, *, limit: int, after: int = 0, dry_run: bool = False) -> Purged:
            return super().purge(what, limit=limit, after=after)


class MovesSchedulesBlindly(OnStore):
    class Broken(MemoryStore):
        def move_schedule(self, seen: ScheduleRow, spec: str, due_at: float) -> bool:
            (row,) = self.schedules(seen.name) or [seen]
            return super().move_schedule(row, spec, due_at)


class NeverMissesARecord(OnStore):
    class Broken(MemoryStore):
        def lost(self, last: Sequence[tuple[str, int, bytes]]) -> Collection[str]:
            return set()


class OnlySaysThatItAnnounces(OnStore):
    class Broken(MemoryStore):
        announces = True


# --- transports -----------------------------------------------------------------------------------------------------


class OnTransport(TransportContract):
    """A contract for a broken transport, or the barrier at its end."""

    class Broken(LocalTransport):
        """What is broken about it is in subclasses.

        Args:
            worker: The participant.
            inbox: Its memory.
        """

        def __init__(self, worker: Worker, inbox: MemoryInbox) -> None:
            super().__init__(worker)
            self.worker = worker
            self.inbox = inbox

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def transport(self, participant: Participant) -> AsyncIterator[LocalTransport]:
        async with Worker(participant.steps, inbox="memory:") as worker:
            inbox = worker._inbox
            assert isinstance(inbox, MemoryInbox)
            yield self.Broken(worker, inbox)


class RunsDuplicatesTwice(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            self.inbox._memory.clear()
            return await super().call(request, beat=beat)


class TakesAnyArguments(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            for known in self.inbox._memory.values():
                known.update({kind: replace(entry, fingerprint=b"") for kind, entry in known.items()})
            return await super().call(request, beat=beat)


class UndoesWhatNeverWas(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            if request.kind == "undo" and request.action_key not in self.inbox._memory:
                known = Entry(
                    about=request.action_key, kind="action", step=request.step, fingerprint=b"", state="begun"
                )
                self.inbox._memory[request.action_key] = {"action": known}
            return await super().call(request, beat=beat)


class ForgetsWhatItHasUndone(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            reply = await super().call(request, beat=beat)
            if request.kind == "undo":
                self.inbox._memory.pop(request.action_key)
            return reply


class CallsAFailedUndoDone(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            reply = await super().call(request, beat=beat)
            return StepReply.succeeded() if request.kind == "undo" else reply


class _Blind(dict[Any, Any]):
    """Knows of nothing that is at work."""

    def get(self, key: object, default: object = None) -> None: ...

    def __delitem__(self, key: object) -> None:
        self.pop(key, None)


class LetsAnUndoOvertake(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            if request.kind == "undo":
                self.worker._jobs._at_work = _Blind(self.worker._jobs._at_work)
            return await super().call(request, beat=beat)


class AttemptsBeforeItAsks(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            for known in self.inbox._memory.values():
                known.update({kind: replace(x, state="open") for kind, x in known.items() if x.state == "begun"})
            return await super().call(request, beat=beat)


class CallsDoubtAFailure(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            reply = await super().call(request, beat=beat)
            return replace(reply, outcome="failed") if reply.outcome == "in_doubt" else reply


class LosesTheFieldsOfRejections(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            reply = await super().call(request, beat=beat)
            return replace(reply, error=replace(reply.error, fields=None)) if reply.error else reply


class IgnoresDeadlines(OnTransport):
    class Broken(OnTransport.Broken):
        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            return await super().call(replace(request, deadline=None), beat=beat)


class GivesAnswersToOthers(OnTransport):
    class Broken(OnTransport.Broken):
        last = StepReply.running()

        async def call(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            before, self.last = self.last, await super().call(request, beat=beat)
            return before


# --- queues ---------------------------------------------------------------------------------------------------------


class OnQueue(QueueContract):
    """A contract for a broken queue."""

    longest = math.inf
    Broken: ClassVar[type[MemoryQueue]] = MemoryQueue
    capabilities: ClassVar[Capabilities] = MemoryQueue.ABLE

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def clock(self) -> VirtualClock:
        return VirtualClock()

    @pytest.fixture
    def elapse(self, clock: VirtualClock) -> Elapse:
        return clock.advance

    @pytest.fixture
    def connect(self, clock: VirtualClock) -> OpenQueue:
        first = self.Broken(visibility=10.0, max_deliveries=3, capabilities=self.capabilities, clock=clock)

        async def connect() -> MemoryQueue:
            return first.connect()

        return connect


class LosesWhatIsGivenBack(OnQueue):
    class Broken(MemoryQueue):
        async def nack(self, delivery: Delivery, *, delay: float = 0.0, reason: str = "") -> None:
            await self.ack(delivery)


class LosesWhatItsConsumerForgets(OnQueue):
    class Broken(MemoryQueue):
        def _deliver(self, number: int, letter: _Letter, now: float) -> Delivery:
            return super()._deliver(number, letter, math.inf)


class HidesNothing(OnQueue):
    class Broken(MemoryQueue):
        def _deliver(self, number: int, letter: _Letter, now: float) -> Delivery:
            delivery = super()._deliver(number, letter, now)
            letter.ready_at = now
            return delivery


class CountsNothing(OnQueue):
    class Broken(MemoryQueue):
        def _deliver(self, number: int, letter: _Letter, now: float) -> Delivery:
            letter.count = 0
            return super()._deliver(number, letter, now)


class DeliversAtOnce(OnQueue):
    class Broken(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            await super().send(*(replace(message, delay=0.0) for message in messages))


class ForgetsItsGroups(OnQueue):
    class Broken(MemoryQueue):
        def _put(self, message: Message, ready_at: float) -> None:
            super()._put(message, ready_at)
            letter = list(self._shelf.letters.values())[-1]
            letter.message = replace(letter.message, group=None)


class KeepsDuplicates(OnQueue):
    class Broken(MemoryQueue):
        def _is_duplicate(self, message: Message, now: float) -> bool:
            return False


class SendsBeforeItLooks(OnQueue):
    class Broken(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            for message in messages:
                await super().send(message)


class AcknowledgesForOthers(OnQueue):
    class Broken(MemoryQueue):
        async def ack(self, *deliveries: Delivery) -> None:
            for delivery in deliveries:
                self._shelf.letters.pop(int(delivery.receipt.partition(".")[0]), None)


class LosesWhatIsRedriven(OnQueue):
    class Broken(MemoryQueue):
        async def redrive(self, ids: Collection[str] | None = None) -> int:
            done = await super().redrive(ids)
            self._shelf.letters.clear()
            return done


class LosesWhatIsSentToTheOneWhoWaits(OnQueue):
    class Broken(MemoryQueue):
        async def _pause(self, left: float) -> None:
            letters = self._shelf.letters
            try:
                await super()._pause(left)
            except BaseException:
                letters.clear()
                raise


class DoesNotWait(OnQueue):
    class Broken(MemoryQueue):
        async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
            return await super().receive(limit)


class OnlyLooksWhenItIsAsked(OnQueue):
    class Broken(MemoryQueue):
        async def _pause(self, left: float) -> None:
            await self._clock.sleep(left)


class PretendsToExtend(OnQueue):
    class Broken(MemoryQueue):
        async def extend(self, delivery: Delivery, seconds: float) -> None:
            pass


class TripsOverWhatHasEnded(OnQueue):
    class Broken(MemoryQueue):
        async def extend(self, delivery: Delivery, seconds: float) -> None:
            await super().extend(delivery, seconds)
            await anyio.lowlevel.checkpoint()  # to hear from the broker
            self._shelf.letters[int(delivery.receipt.partition(".")[0])].ready_at = self._clock.now() + seconds


class PretendsToDelay(DeliversAtOnce):
    """It says that it cannot, and takes the message all the same."""

    capabilities = replace(MemoryQueue.ABLE, delay=False)


class LosesHeaders(OnQueue):
    class Broken(MemoryQueue):
        async def send(self, *messages: Message) -> None:
            await super().send(*(replace(message, headers={}) for message in messages))
