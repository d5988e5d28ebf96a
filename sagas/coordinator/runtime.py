"""A saga in memory: its execution, and where its journal stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sagas.coordinator.bells import Gong
from sagas.coordinator.blame import blame
from sagas.coordinator.seclusion import Secluded
from sagas.coordinator.writes import Write
from sagas.coordinator.writing import write_record
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.errors import IllegalTransition, PayloadError
from sagas.stores.port import Change, LockChange, Outgoing, PayloadContext
from sagas.telemetry import UNTRACED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.journal import Journal
    from sagas.coordinator.line import Ticket
    from sagas.coordinator.load import Load
    from sagas.coordinator.measuring import Measuring
    from sagas.core.execution import Execution
    from sagas.core.strands import Awaits
    from sagas.errors import StoreError
    from sagas.stores.port import Codec, JournalRow, NewSaga
    from sagas.telemetry import Held, Story

__all__ = ["Hub", "Runtime"]


class Hub(Protocol):
    """What a saga needs of its coordinator."""

    owner: str
    clock: Clock
    journal: Journal
    codec: Codec | None
    load: Load
    measuring: Measuring | None

    def dispatch(self, runtime: Runtime, command: c.Command) -> None:
        """Carries out a command whose cause is durable."""
        ...

    def reported(self, saga_id: str, status: str) -> None:
        """Called when it is durable how a saga stands."""
        ...

    def settled(self, runtime: Runtime) -> None:
        """Called when everything of a saga is durable, so that it may have ended or only wait."""
        ...

    def lost(self, runtime: Runtime, *, driven: bool = True) -> None:
        """Called when the saga belongs to somebody else; ``driven``: though it was driven here."""
        ...

    def untold(self, runtime: Runtime, write: Write) -> None:
        """Called when the saga belongs to somebody else, though a record is perhaps durable that spans tell of."""
        ...

    def refused(self, runtime: Runtime, error: StoreError) -> None:
        """Called when one of its records can never be written."""
        ...

    def broken(self, runtime: Runtime, error: Exception) -> None:
        """Called when an event could not be taken, which only a bug can cause."""
        ...

    def rewind(self, runtime: Runtime) -> None:
        """Called when its last events did not become durable, so that it has to be read again."""
        ...


class Runtime:
    """One saga that this coordinator drives.

    Attributes:
        id: Of the saga.
        execution: Its state.
        seq: Number of its next record.
        digest: Of its last record.
        revision: Number of its last record that is no takeover; see ``orders.revision_of``.
        void: Whether its queued records must not be written.
        discarded: Whether it is no longer driven here; whatever still refers to it must leave it alone.
        birth: Its first record, until that is durable.
        busy: How many of its steps and undos are being attempted.
        kept: Number of its last durable record; -1 if there is none.
        kept_digest: Of that record.
        unwritten: How many of its records are not durable yet.
        origin: Where its trace begins.
        story: What its trace tells; ``None`` if nobody is to hear it.
        started_at: POSIX time of its first event.
        changed: Set at every durable change of status, if somebody waits.
        reported: Its status as far as it is durable.
        arrival: The record by which it is being taken over here, until that is durable.
        active: Whether it counts as one that has something to do.
        rank: Its place among those that wait for the same, smallest first.
        failed_at: POSIX time since which it is on its way back, if that is measured; else ``None``.
        tickets: By its attempts that wait in line, their paths; ``None`` for undos. ``None`` if there are none.
    """

    __slots__ = (
        "_hub", "_saved", "active", "arrival", "birth", "busy", "changed", "digest", "discarded", "execution",
        "failed_at", "fingerprint", "id", "kept", "kept_digest", "origin", "rank", "reported", "revision", "seq",
        "started_at", "story", "tickets", "unwritten", "void",
    )  # fmt: skip

    def __init__(self, hub: Hub, saga_id: str, execution: Execution, *, fingerprint: bytes = b"") -> None:
        self._hub = hub
        self.id = saga_id
        self.execution = execution
        self.seq = 0
        self.revision = 0
        self.digest = self.kept_digest = saga_id.encode()
        self.kept = -1
        self.discarded = False
        self.void = False
        self.unwritten = 0
        self.busy = 0
        self.origin = UNTRACED
        self.story: Story | None = None
        self.started_at = 0.0
        self.fingerprint = fingerprint
        self.changed: Gong | None = None
        self.birth: Write | None = None
        self.arrival: Write | None = None
        self.reported = "running"
        self.active = False
        self.rank = 0.0
        self.failed_at: float | None = None
        self.tickets: dict[Ticket, str | None] | None = None
        self._saved: tuple[str, bool, float | None] = ("running", True, None)

    @property
    def trace(self) -> str:
        """``traceparent`` of its root span; empty when it is not traced."""
        return self.origin.trace

    def feed(
        self,
        event: e.Event,
        *,
        new: NewSaga | None = None,
        read: tuple[int, ...] = (),
        noted: Sequence[c.Command] = (),
        dispatch: Sequence[c.Command] = (),
        held: Sequence[Held] = (),
    ) -> Write:
        """Takes a fact: the body runs on at once, and what it wants is carried out when the fact is durable.

        Args:
            event: What happened.
            new: The saga's row, with its first event.
            read: Mail that this event takes into account.
            noted: Commands to note in addition, which an earlier event led to.
            dispatch: Commands to carry out in addition.
            held: Spans of what has happened.

        Returns:
            The record on its way to the disk.

        Raises:
            IllegalTransition: The state does not allow it; nothing was changed.
        """
        execution, story = self.execution, self.story
        at = max(self._hub.clock.now(), execution.at)
        waits = () if story is None else (*execution.waits.values(),)
        try:
            with Secluded():
                given = execution.apply(event, at)
        except (IllegalTransition, PayloadError):
            raise
        except Exception as error:
            self._hub.broken(self, error)
            raise
        try:
            commands = [*noted, *given] if noted else given
            row = self.encode(event, at, commands)
        except Exception as error:
            self._hub.broken(self, error)
            raise
        if story is not None:
            story.take(row.seq, at, event, commands)
            held = (*held, *story.waited(waits, execution.waits, event))
        write = Write(
            self,
            (row,),
            change=self._change(at),
            new=new,
            read=read,
            dispatch=[*dispatch, *given] if dispatch else given,
            locks=() if execution.tickets is None else self._locks(commands, row),
            outgoing=self._outgoing(commands, row) if execution.emits else (),
            held=held,
        )
        if self._hub.measuring is not None:
            write.event = event
        return self._append(write)

    def forget_mail(self, mail_id: int) -> Write:
        """Deletes mail that changes nothing any more, once all that the saga was told before is durable."""
        return self._append(Write(self, (), read=(mail_id,)))

    def _append(self, write: Write) -> Write:
        """Queues what is to be written."""
        self.unwritten += 1
        self._hub.journal.append(write)
        if self._saved[1] and not self.discarded:
            self.count(active=True)  # at once, so that no more are let in than there is room for
        if self.tickets:
            self._recall()
        return write

    def _locks(self, commands: Sequence[c.Command], row: JournalRow) -> list[LockChange]:
        """Says which locks a record asks for and gives up; a saga that ends gives up all."""
        changes: list[LockChange] = []
        for command in commands:
            if isinstance(command, (c.TakeLock, c.FreeLock)):
                take = isinstance(command, c.TakeLock)
                changes.append(LockChange(self.id, command.path, command.name, take, row.at, row.seq))
            elif isinstance(command, c.Complete):
                changes.append(LockChange(self.id, "", "", take=False, at=row.at, seq=row.seq))
        return changes

    def _outgoing(self, commands: Sequence[c.Command], row: JournalRow) -> list[Outgoing]:
        """Gives the events that go out with a record."""
        execution = self.execution
        source = f"/sagas/{execution.saga.name}" if execution.saga is not None else "/sagas"
        return [
            Outgoing(
                f"{execution.key}:{x.path}", self.id, row.seq, row.at, source, x.type, x.subject, self.origin.trace,
                _coded(self._hub.codec, x.data, PayloadContext(self.id, x.path, "event")),
            )
            for x in commands
            if isinstance(x, c.Emit)
        ]  # fmt: skip

    def _recall(self) -> None:
        """Has those attempts leave their line that are not wanted any more."""
        for ticket, path in list((self.tickets or {}).items()):
            if self.discarded or (path is not None and not self.execution.may_attempt(path)):
                ticket.decide(admitted=False)

    def count(self, *, active: bool) -> None:
        """Counts it among those that have something to do, or no longer."""
        if active is not self.active:
            self.active = active
            if active:
                self._hub.load.wake()
            else:
                self._hub.load.leave()

    def encode(self, event: e.Event, at: float, commands: Sequence[c.Command]) -> JournalRow:
        """Writes the next record."""
        awaits = self.execution.news() if self.execution.stirred else None
        row = write_record(
            event, at, commands, saga_id=self.id, seq=self.seq, after=self.digest, codec=self._hub.codec, awaits=awaits
        )
        self.seq += 1
        self.digest = row.digest
        if type(event) is not e.SagaTakenOver:
            self.revision = row.seq
        return row

    def _change(self, at: float) -> Change | None:
        """Says what has changed about the saga as a whole, if anything has."""
        execution = self.execution
        state = execution.state
        active = not state.ended and bool(execution.open)
        wake_at = min(execution.timers.values()) if execution.timers and not active else None
        now = (state.status, active, wake_at)
        if now == self._saved:
            return None
        self._saved = now
        error: str | None = None
        if state.stuck:
            path, why = next(iter(execution.halted.items()))
            error = blame(execution.steps[path].name, path, why) if path in execution.steps else one_line(why)
        elif execution.cause is not None:
            error = one_line(execution.cause)
        return Change(self.id, state.status, active, wake_at, at if state.ended else None, error, self._hub.owner)

    def restored(self, seq: int, digest: bytes, *, revision: int, awaits: Awaits, taken_over: bool) -> None:
        """Notes where a journal stands that was read from the store."""
        self.seq = seq
        self.revision = revision
        self.kept = seq - 1
        self.digest = self.kept_digest = digest
        execution = self.execution
        active = not execution.state.ended and bool(execution.open)
        wake_at = min(execution.timers.values()) if execution.timers and not active else None
        # After a takeover the row has to say who owns it now, and after a resume that it is not stuck any more.
        self.reported = execution.state.status
        execution.stirred = execution.awaits() != awaits  # a release before 0.2 has not written it
        self._saved = ("", False, None) if taken_over else (execution.state.status, active, wake_at)

    def durable(self, write: Write) -> None:
        """See ``writes.Writer``."""
        self.unwritten -= 1
        self._keep(write)
        write.show_spans()
        if write.done is not None:
            write.done.set()
        if self.discarded:
            return
        hub = self._hub
        try:
            for command in write.dispatch:
                hub.dispatch(self, command)
        except Exception as error:
            hub.broken(self, error)
            return
        if write.change is not None:
            self.reported = write.change.status
            hub.reported(self.id, self.reported)
            self.count(active=write.change.active or self._saved[1])
            if self.changed is not None:
                changed, self.changed = self.changed, None
                changed.set()
        if not self.unwritten and (not self.execution.open or self.execution.state.ended):
            hub.settled(self)

    def _keep(self, write: Write) -> None:
        """Notes where its journal ends now, and has that measured."""
        if write.rows:
            self.kept, self.kept_digest = write.rows[-1].seq, write.rows[-1].digest
        if write is self.birth or write is self.arrival:
            self.birth = self.arrival = None
        if self._hub.measuring is not None:
            self._hub.measuring.wrote(self, write)

    def lost(self, write: Write, *, taken: bool) -> None:
        """See ``writes.Writer``."""
        self.unwritten -= 1
        write.taken, write.fenced = taken, not taken
        if write.held or (self.story is not None and self.story.ended):
            self._hub.untold(self, write)
        if write.done is not None:
            write.done.set()
        if not self.discarded:
            # Only for the attempt to take it over, it was never driven here.
            self._hub.lost(self, driven=not any(row.kind == "SagaTakenOver" for row in write.rows))

    def refused(self, write: Write, error: StoreError) -> None:
        """See ``writes.Writer``."""
        self.unwritten -= 1
        write.error = error
        write.give_up_spans()
        if write.done is not None:
            write.done.set()
        if not self.discarded:
            self._hub.refused(self, error)

    def give_up(self, error: Exception) -> None:
        """Has it shown as stuck, after a failure that only a bug of this library can cause."""
        if not self.discarded:
            self._hub.broken(self, error)

    def rewind(self) -> None:
        """Gives it up, to be read again from what is durable."""
        self._hub.rewind(self)

    def discard(self, *, keep_writes: bool = False) -> None:
        """Stops driving it here; what it has queued is void, unless asked otherwise."""
        self.discarded = True
        self.void = not keep_writes
        self.execution.close()
        self.count(active=False)
        self._recall()
        if self.changed is not None:
            self.changed.set()
            self.changed = None

    async def change(self) -> None:
        """Waits for the next durable change of its status, or until it is no longer driven here."""
        if self.changed is None:
            self.changed = Gong()
        await self.changed.wait()


def _coded(codec: Codec | None, data: bytes, context: PayloadContext) -> bytes:
    """Gives what is stored of a payload."""
    return data if codec is None else codec.encode(data, context)
