"""A store without a disk: for tests and for trying things out. Nothing survives the process."""

from __future__ import annotations

from collections import Counter
from itertools import count, islice
from typing import TYPE_CHECKING

from sagas.errors import StoreError
from sagas.stores.locking import settle
from sagas.stores.locking_memory import MemoryLines
from sagas.stores.memory_keeping import MemoryKeeper
from sagas.stores.memory_limits import MemoryLimits
from sagas.stores.memory_surveys import MemorySurveys
from sagas.stores.port import Batch, Committed, Drawn, Holding, Lease, Mail, Outgoing, SagaRow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlmodel import Session

    from sagas.stores.port import JournalRow, LockChange, NewSaga

__all__ = ["MemoryStore"]

# Seconds for which a claim keeps others away.
_CLAIM = 5.0
_NONE: frozenset[str] = frozenset()


class MemoryStore(MemoryKeeper, MemorySurveys):
    """Keeps journals in dictionaries, with the same rules as a database."""

    in_memory = True
    announces = False
    parallel = 0

    def __init__(self, url: str = "memory:") -> None:
        super().__init__()
        self.url = url
        self._leases: dict[str, Lease] = {}
        self._mail_ids = count(1)
        self._event_numbers = count(1)
        self._outgoing: dict[int, Outgoing] = {}
        self._next_key = count(1)
        self._claims: dict[str, tuple[str, float]] = {}
        self._lines = MemoryLines()
        self._limits = MemoryLimits()

    def open(self, *, migrate: bool) -> None:
        """Needs nothing."""

    def close(self) -> None:
        """Keeps everything, so that a second coordinator in the process can take over."""

    def commit(self, batch: Batch) -> Committed:
        """See ``Store.commit``."""
        with self._lock:
            return self._commit(batch)

    def _commit(self, batch: Batch) -> Committed:
        """Applies a batch."""
        taken, fenced = self._lost(batch)
        left_out = taken | fenced
        for new in batch.new:
            if new.id not in left_out:
                self._create(new)
        written: set[tuple[str, int]] = set()
        for row in batch.rows:
            if row.saga_id not in left_out and row.seq == len(self._journal(row.saga_id)):
                self._journals[row.saga_id].append(row)
                written.add((row.saga_id, row.seq))
        for change in batch.changes.values():
            if change.id not in left_out and self._sagas[change.id].ended_at is None:
                self._sagas[change.id] = self._sagas[change.id]._replace(**change._asdict())
        for mail_id in batch.read:
            if mail_id in self._mail and self._mail[mail_id].saga_id not in left_out:
                del self._mail[mail_id]
        if not batch.outgoing and not batch.locks:
            return Committed(taken, fenced)
        events = [event for event in batch.outgoing if (event.saga_id, event.seq) in written]
        self._outgoing.update(zip(self._event_numbers, events, strict=False))
        locks = [change for change in batch.locks if (change.saga_id, change.seq) in written]
        return Committed(taken, fenced, self._change_locks(locks) if locks else ())

    def _lost(self, batch: Batch) -> tuple[frozenset[str], frozenset[str]]:
        """Says which sagas of a batch cannot be begun, and which cannot be gone on with, since others did."""
        if not batch.new and all(map(self._comes_next, batch.rows)):
            return _NONE, _NONE  # as nearly always
        first = {row.saga_id: row.digest for row in batch.rows if row.seq == 0}
        taken = frozenset(
            new.id
            for new in batch.new
            if new.id in self._sagas and self._journal(new.id)[0].digest != first.get(new.id)
        )
        last = {row.saga_id: row.seq for row in batch.rows}
        # Also when what follows was written: this batch was there before, but somebody else has gone on since.
        fenced = frozenset(
            row.saga_id
            for row in batch.rows
            if self._is_fenced(row, first) or len(self._journal(row.saga_id)) > last[row.saga_id] + 1
        )
        return taken, fenced - taken

    def _comes_next(self, row: JournalRow) -> bool:
        """Says whether a record is the one to be written next."""
        journal = self._journals.get(row.saga_id)
        return journal is not None and row.seq == len(journal)

    def _change_locks(self, changes: Sequence[LockChange]) -> tuple[Mail, ...]:
        """Applies what sagas ask for and give up, and posts the answers."""
        return tuple(
            self._mail[self._post(answer.ticket.saga_id, answer.at, "lock", answer.body)]
            for answer in settle(self._lines, changes)
        )

    def _is_fenced(self, row: JournalRow, begun: Collection[str]) -> bool:
        """Says whether another record stands in its place, or there is no place any more."""
        journal = self._journal(row.saga_id)
        if row.seq < len(journal):
            return journal[row.seq].digest != row.digest
        return row.saga_id not in self._journals and row.saga_id not in begun

    def _create(self, new: NewSaga) -> None:
        """Creates a saga, if it is not there yet."""
        if new.id not in self._sagas:
            self._sagas[new.id] = SagaRow(
                *new[:-1], "running", active=True, wake_at=None, ended_at=None, error=None, rank=new.rank
            )
            self._journals[new.id] = []
            self._keys[new.id] = next(self._next_key)

    def outgoing(self, limit: int, *, after: int = 0) -> Sequence[tuple[int, Outgoing]]:
        """See ``Store.outgoing``."""
        with self._lock:
            return list(islice((one for one in self._outgoing.items() if one[0] > after), limit))

    def sent(self, numbers: Collection[int]) -> None:
        """See ``Store.sent``."""
        with self._lock:
            for number in numbers:
                self._outgoing.pop(number, None)

    def lost(self, last: Sequence[tuple[str, int, bytes]]) -> Collection[str]:
        """See ``Store.lost``."""
        with self._lock:
            return {
                saga_id
                for saga_id, seq, digest in last
                if [row.digest for row in self._journal(saga_id)[seq : seq + 1]] != [digest]
            }

    def unfinished(self, owner: str, now: float) -> Collection[str]:
        """See ``Store.unfinished``."""
        rows = [row for row in list(self._sagas.values()) if row.owner == owner and row.ended_at is None]
        return {row.id for row in rows if row.active or (row.wake_at is not None and row.wake_at <= now)}

    def transact(self, work: Sequence[Callable[[Session], None]], finish: Callable[[], Batch]) -> Committed:  # noqa: ARG002 - the port's
        """Cannot give a session.

        Raises:
            StoreError: Always.
        """
        raise StoreError("transactional steps need a database for the journal; memory: has none. Use sqlite:///…")

    def load(self, saga_ids: Sequence[str]) -> Mapping[str, list[JournalRow]]:
        """See ``Store.load``."""
        return {saga_id: list(self._journal(saga_id)) for saga_id in saga_ids if saga_id in self._sagas}

    def get(self, saga_id: str) -> SagaRow | None:
        """See ``Store.get``."""
        return self._sagas.get(saga_id)

    def find(self, saga_ids: Sequence[str]) -> Mapping[str, SagaRow]:
        """See ``Store.find``."""
        return {saga_id: self._sagas[saga_id] for saga_id in saga_ids if saga_id in self._sagas}

    def select(self, *, status: str | None, name: str | None, limit: int, before: str | None) -> Sequence[SagaRow]:
        """See ``Store.select``."""
        rows = list(reversed(list(self._sagas.values())))
        if before is not None:
            rows = rows[next((i + 1 for i, row in enumerate(rows) if row.id == before), len(rows)) :]
        kept = (row for row in rows if status in (None, row.status) and name in (None, row.name))
        return [row for row, _ in zip(kept, range(limit), strict=False)]

    def open_sagas(self, limit: int, before: str | None) -> Sequence[SagaRow]:
        """See ``Store.open_sagas``."""
        rows = self.select(status=None, name=None, limit=len(self._sagas), before=before)
        return [row for row in rows if row.ended_at is None][:limit]

    def claim(self, owner: str, now: float, limit: int, code: Collection[str]) -> Sequence[SagaRow]:
        """See ``Store.claim``."""
        found = [
            row
            for row in list(self._sagas.values())
            if self._orphaned(row, now) and f"{row.name}@{row.version}" in code and self._claimable(row, owner, now)
        ]
        found.sort(key=lambda row: (not row.active, row.rank if row.active else row.wake_at))
        for row in found[:limit]:
            self._claims[row.id] = owner, now
        return found[:limit]

    def _orphaned(self, row: SagaRow, now: float) -> bool:
        """Says whether a saga needs a coordinator, and has none."""
        needed = row.ended_at is None and (row.active or (row.wake_at is not None and row.wake_at <= now))
        return needed and not self.alive(row.owner, now)

    def _claimable(self, row: SagaRow, owner: str, now: float) -> bool:
        """Says whether an orphan may have this coordinator."""
        claimant, at = self._claims.get(row.id, ("", 0.0))
        claimed = at >= now - _CLAIM and (claimant == owner or self.alive(claimant, now))
        return row.owner != owner and not claimed

    def orphans(self, now: float) -> Sequence[tuple[str, str, int]]:
        """See ``Store.orphans``."""
        found = Counter((row.name, row.version) for row in list(self._sagas.values()) if self._orphaned(row, now))
        return [(name, version, count) for (name, version), count in found.items()]

    def next_wake(self) -> float | None:
        """See ``Store.next_wake``."""
        times = [x.wake_at for x in list(self._sagas.values()) if x.wake_at is not None and not x.active]
        return min(times, default=None)

    def post(self, saga_id: str, at: float, kind: str, body: bytes) -> int:
        """See ``Store.post``."""
        with self._lock:
            return self._post(saga_id, at, kind, body)

    def _post(self, saga_id: str, at: float, kind: str, body: bytes) -> int:
        """Writes mail."""
        mail_id = next(self._mail_ids)
        self._mail[mail_id] = Mail(mail_id, saga_id, at, kind, body)
        return mail_id

    def mail(
        self, owner: str, now: float, limit: int, after: int = 0, code: Collection[str] | None = None
    ) -> Sequence[Mail]:
        """See ``Store.mail``."""
        found: list[Mail] = []
        for mail in list(self._mail.values()):
            saga = self._sagas.get(mail.saga_id)
            reachable = saga is None or saga.owner == owner or not self.alive(saga.owner, now)
            if mail.id > after and reachable and (saga is None or code is None or _concerns(saga, code)):
                found.append(mail)
        return found[:limit]

    def discard(self, mail_ids: Sequence[int]) -> None:
        """See ``Store.discard``."""
        for mail_id in mail_ids:
            self._mail.pop(mail_id, None)

    def changed(self) -> bool:
        """See ``Store.changed``."""
        return True

    def hand_over(self, owner: str, saga_ids: Sequence[str]) -> None:
        """See ``Store.hand_over``."""
        for saga_id in saga_ids:
            row = self._sagas.get(saga_id)
            if row is not None and row.owner == owner and row.ended_at is None:
                self._sagas[saga_id] = row._replace(owner="")
                self._claims.pop(saga_id, None)

    def hold_permits(self, name: str, owner: str, now: float, *, slots: int, used: int, want: int) -> Holding:
        """See ``Store.hold_permits``."""
        with self._lock:
            return self._limits.hold(
                name, owner, now, lambda other: self.alive(other, now), slots=slots, used=used, want=want
            )

    def keep_permits(self, owner: str, now: float) -> Mapping[str, int]:  # noqa: ARG002 - the port's
        """See ``Store.keep_permits``."""
        with self._lock:
            return self._limits.keep(owner)

    def draw_tokens(self, name: str, now: float, *, speed: float, burst: float, want: int, ahead: int = 0) -> Drawn:
        """See ``Store.draw_tokens``."""
        with self._lock:
            return self._limits.draw(name, now, speed=speed, burst=burst, want=want, ahead=ahead)

    def listen(self, patience: float) -> Sequence[str] | None:  # noqa: ARG002 - the port's
        """See ``Store.listen``."""
        return None

    def announce(self, messages: Sequence[str]) -> None:
        """See ``Store.announce``."""

    def renew(self, lease: Lease, now: float) -> float:  # noqa: ARG002 - the port's
        """See ``Store.renew``."""
        self._leases[lease.id] = lease
        return lease.expires_at

    def leases(self, now: float) -> Sequence[Lease]:
        """See ``Store.leases``."""
        return [lease for lease in list(self._leases.values()) if lease.expires_at > now]

    def release(self, owner: str) -> None:
        """See ``Store.release``."""
        self._leases.pop(owner, None)

    def alive(self, owner: str, now: float) -> bool:
        """See ``Store.alive``."""
        lease = self._leases.get(owner)
        return lease is not None and lease.expires_at > now


def _concerns(saga: SagaRow, code: Collection[str]) -> bool:
    """Says whether mail for a saga may be for those who have some code; stuck ones are not only for them."""
    return f"{saga.name}@{saga.version}" in code or saga.ended_at is not None or saga.status == "stuck"
