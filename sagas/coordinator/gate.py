"""Says, before it is deployed, whether some code can go on with the open sagas of a journal."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from anyio import lowlevel, to_thread

from sagas.coordinator.loading import read_history
from sagas.coordinator.seclusion import Secluded
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.failures import one_line
from sagas.core.rehearsal import Objection, rehearse
from sagas.core.replay import parked_by
from sagas.errors import JournalCorrupted, PayloadError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sagas.core.records import Record
    from sagas.core.registry import Registry
    from sagas.stores.port import Codec, JournalRow, SagaRow, Store

__all__ = ["Finding", "Group", "Report", "Waiting", "check_journal"]

_AT_ONCE = 200
_CONTINUE = "Keep that version, or let another go on with it: @saga(version=…, continues=(…))"


class Finding(NamedTuple):
    """Why an open saga would not work out with the code at hand.

    Attributes:
        id: Of the saga.
        name: Of its definition.
        version: Of its definition.
        when: ``code`` (there is none), ``journal`` (it cannot be read), ``forward`` or ``rollback``.
        operation: The first that is concerned; ``""`` if it is none.
        reason: What is wrong.
        remedy: What to do.
    """

    id: str
    name: str
    version: str
    when: str
    operation: str
    reason: str
    remedy: str


class Group(NamedTuple):
    """Findings that differ only in their sagas; ``first`` is one of them."""

    first: Finding
    ids: tuple[str, ...]


class Waiting(NamedTuple):
    """A saga that waits for better code: parked, or its body failed beyond its pivot.

    Attributes:
        id: Of the saga.
        name: Of its definition.
        version: Of its definition.
        mended: Whether it can go on with the code at hand, if it is resumed.
        reason: Why it waits, or why it would have to go on waiting.
    """

    id: str
    name: str
    version: str
    mended: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of checking a journal.

    Attributes:
        store: Its URL.
        checked: How many open sagas there are, by ``name@version``.
        findings: What would not go on, or could not be undone.
        notes: What calls steps with other arguments than those recorded, which hold; no reason not to deploy.
        waiting: Sagas that wait for better code already. They count as findings only where they could not be undone.
    """

    store: str
    checked: dict[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    waiting: tuple[Waiting, ...]

    @property
    def groups(self) -> list[Group]:
        """The findings, equal ones together, those that concern most sagas first."""
        return grouped(self.findings)


def grouped(findings: Sequence[Finding]) -> list[Group]:
    """Puts equal findings together, those that concern most sagas first."""
    found: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding[1:], []).append(finding)
    groups = [Group(same[0], tuple(finding.id for finding in same)) for same in found.values()]
    return sorted(groups, key=lambda group: -len(group.ids))


async def check_journal(
    store: Store, registry: Registry, codec: Codec | None = None, *, strict: bool = False
) -> Report:
    """Replays every open saga against the code at hand, and tries its rollback. Nothing is called or written.

    Args:
        store: Open.
        registry: The code at hand.
        codec: That of the coordinators, if they have one.
        strict: Whether steps that are called with other arguments than those recorded count as findings too.

    Raises:
        StoreError: The journal cannot be read.
    """
    check = _Check(registry, codec)
    before: str | None = None
    while rows := await _call(store, store.open_sagas, _AT_ONCE, before):
        journals = await _call(store, store.load, [row.id for row in rows])
        for row in rows:
            journal = journals.get(row.id, [])
            if journal or await _is_open(store, row):
                check.take(row, journal)
            await lowlevel.checkpoint()
        before = rows[-1].id
    if before is not None and await _call(store, store.get, before) is None:
        raise StoreError(f"saga {before} was deleted while the journal was read, so some may be missing; check again")
    return check.report(store.url, strict=strict)


async def _is_open(store: Store, row: SagaRow) -> bool:
    """Says whether a saga is still open; meanwhile it may have ended, and been deleted."""
    now: SagaRow | None = await _call(store, store.get, row.id)
    return now is not None and now.ended_at is None


async def _call(store: Store, function: Callable[..., Any], *args: object) -> Any:
    """Calls a store; in a worker thread, unless it needs none."""
    return function(*args) if store.in_memory else await to_thread.run_sync(function, *args)


class _Check:
    """Collects what is found."""

    def __init__(self, registry: Registry, codec: Codec | None) -> None:
        self._registry = registry
        self._codec = codec
        self._checked: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._notes: list[Finding] = []
        self._waiting: list[Waiting] = []

    def report(self, url: str, *, strict: bool) -> Report:
        """Puts everything together."""
        return Report(
            store=url,
            checked=dict(sorted(self._checked.items())),
            findings=tuple(self._findings + self._notes if strict else self._findings),
            notes=() if strict else tuple(self._notes),
            waiting=tuple(self._waiting),
        )

    def take(self, row: SagaRow, journal: Sequence[JournalRow]) -> None:
        """Checks one saga, unless it has ended by now."""
        try:
            history = read_history(row.id, journal, self._codec)
        except JournalCorrupted as error:
            self._count(row)
            self._find(row, _unreadable(error, self._codec))
            return
        if not any(isinstance(command, c.Complete) for command in history.records[-1].commands):
            self._count(row)
            self._rehearse(row, history.records)

    def _count(self, row: SagaRow) -> None:
        """Counts a saga."""
        self._checked[f"{row.name}@{row.version}"] += 1

    def _find(self, row: SagaRow, *objections: Objection) -> None:
        """Keeps what is wrong with a saga."""
        self._findings += [_finding(row, objection) for objection in objections]

    def _rehearse(self, row: SagaRow, records: Sequence[Record]) -> None:
        """Tries the code on a journal."""
        saga = self._registry.find(row.name, row.version)
        if saga is None:
            told = f"there is no code for {row.name} version {row.version}, so it would wait"
            self._find(row, Objection("code", "", told, _CONTINUE))
            return
        with Secluded():
            tried = rehearse(saga, row.id, self._registry.steps, records)
        self._notes += [_finding(row, note) for note in tried.notes]
        waits = _waits(records)
        if waits is None:
            self._find(row, *tried.objections)
            return
        self._find(row, *(objection for objection in tried.objections if objection.when == "rollback"))
        still = next((_told(x) for x in tried.objections if x.when == "forward"), tried.halted)
        self._waiting.append(Waiting(row.id, row.name, row.version, still is None, still or one_line(waits)))


def _waits(records: Sequence[Record]) -> e.ErrorInfo | None:
    """Says why a saga waits for better code; ``None`` if it does not."""
    parked = parked_by(records)
    if parked is not None:
        return parked.error
    failed: e.ErrorInfo | None = None
    for record in records:
        if isinstance(record.event, e.SagaResumed):
            failed = None
        failed = next((x.error for x in record.commands if isinstance(x, c.Halt) and not x.path), failed)
    return failed


def _unreadable(error: JournalCorrupted, codec: Codec | None) -> Objection:
    """Explains why a journal cannot be read."""
    remedy = "Restore the journal from a backup"
    if isinstance(error.__cause__, PayloadError):  # its digest is right, so this is what was written
        remedy = "Install the newer sagakit that wrote it"
        if codec is None:
            remedy = f"If its coordinators have a codec, check with it too; else {remedy[0].lower()}{remedy[1:]}"
    return Objection("journal", "", str(error), remedy)


def _told(objection: Objection) -> str:
    """Puts where and why into one sentence."""
    return f"operation {objection.operation}: {objection.reason}" if objection.operation else objection.reason


def _finding(row: SagaRow, objection: Objection) -> Finding:
    """Says whose objection it is; without the id in its reason, so that equal ones can be put together."""
    reason = re.sub(rf"^saga {re.escape(row.id)}: ", "", objection.reason)
    return Finding(row.id, row.name, row.version, objection.when, objection.operation, reason, objection.remedy)
