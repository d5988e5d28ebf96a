"""Holds the journals, the business, and what the processes said against each other."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Row, create_engine, text

from sagas.coordinator.loading import History, read_history
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.paths import follows
from sagas.core.registry import Registry
from sagas.core.replay import replay
from sagas.core.transitions import StepState
from sagas.stores.port import JournalRow
from tests.chaos.fleet import trade, witness

__all__ = ["Claims", "Findings", "audit"]

_HELD = "SELECT * FROM saga_lease WHERE expires_at > extract(epoch FROM statement_timestamp())"
_Rows = Mapping[str, Sequence[Row[Any]]]


@dataclass
class Claims:
    """What the processes answered, which has to be true.

    Attributes:
        started: Sagas whose start was acknowledged, with the order.
        signalled: Payloads of signals that were acknowledged, by saga.
    """

    started: dict[str, dict[str, Any]] = field(default_factory=dict)
    signalled: dict[str, set[int]] = field(default_factory=dict)


@dataclass
class Findings:
    """What there was.

    Attributes:
        statuses: How many sagas ended how.
        causes: Why those were undone that were: the type of the error.
        records: How many there are in all journals.
        takeovers: How many of them are.
        attempts: How many there were of steps and compensators.
        effects: How many are left, by kind.
        late: Attempts of coordinators that had lost the saga by then: they were paused on the brink of acting.
        lost: Records that were tried and are not there: of processes that died, or were fenced.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    records: int = 0
    takeovers: int = 0
    attempts: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    late: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class _Saga:
    """Everything that is known of one saga.

    Attributes:
        row: Of the table of sagas.
        rows: Its journal.
        history: The same, decoded.
        execution: The same, replayed.
        authors: Who wrote each record.
        owners: Whose it was, in turn.
        attempts: Of its steps and compensators, in the order in which they began.
        effects: What it did, by path.
        ledger: What it entered.
    """

    row: Row[Any]
    rows: Sequence[JournalRow]
    history: History
    execution: Execution
    authors: Sequence[str]
    owners: Sequence[str]
    attempts: Sequence[Row[Any]]
    effects: Mapping[str, Row[Any]]
    ledger: Sequence[Row[Any]]

    def __str__(self) -> str:
        lines = [f"saga {self.row._asdict()}"]
        for record, row, author in zip(self.history.records, self.rows, self.authors, strict=True):
            then = [f"{type(command).__name__} {getattr(command, 'path', '')}" for command in record.commands]
            lines.append(f"  {row.seq} {row.at:.3f} {row.kind} {row.path} by {author} -> {', '.join(then)}")
        for kind, those in (("attempt", self.attempts), ("effect", self.effects.values()), ("ledger", self.ledger)):
            lines += [f"  {kind} {row._asdict()}" for row in those]
        return "\n".join(lines)


def audit(journal: str, business: str, directory: Path, claims: Claims) -> Findings:
    """Looks for anything that is not as it must be.

    Args:
        journal: URL of the coordinators' database.
        business: URL of the business'.
        directory: Where the processes left their files.
        claims: What they answered.

    Raises:
        AssertionError: A law was broken; says which, and everything about the saga.
    """
    said = list(witness.read(directory))
    books = _Books.read(journal, business)
    books.close()
    missing = set(claims.started) - set(books.sagas)
    assert not missing, f"the start of these was acknowledged, and they are not there: {missing}"
    findings = Findings()
    authors = {(x.saga, x.seq, x.detail): x.owner for x in said if x.what == "tried"}
    registry = Registry(trade.SAGAS, ())
    for saga_id in books.sagas:
        saga = books.gather(saga_id, registry, authors)
        _look_at(saga, findings, claims)
    _hold_to_their_word(said, books, findings)
    return findings


@dataclass(frozen=True, slots=True)
class _Books:
    """Both databases, read."""

    sagas: Mapping[str, Row[Any]]
    journal: Mapping[str, Sequence[JournalRow]]
    ledger: _Rows
    attempts: _Rows
    effects: _Rows
    left: Sequence[Row[Any]]

    @classmethod
    def read(cls, journal: str, business: str) -> _Books:
        columns = ", ".join(JournalRow._fields)
        rows = _grouped(_read(journal, f"SELECT saga_id AS saga, {columns} FROM saga_journal ORDER BY saga_id, seq"))
        return cls(
            sagas={row.id: row for row in _read(journal, "SELECT * FROM saga ORDER BY id")},
            journal={key: [JournalRow._make(row[1:]) for row in those] for key, those in rows.items()},
            ledger=_grouped(_read(journal, "SELECT * FROM ledger")),
            attempts=_grouped(_read(business, "SELECT * FROM attempt ORDER BY began")),
            effects=_grouped(_read(business, "SELECT * FROM effect ORDER BY acted")),
            left=[*_read(journal, _HELD), *_read(journal, "SELECT * FROM saga_mail")],
        )

    def close(self) -> None:
        """Makes sure that nobody acted who is not there, and that nothing is left over."""
        assert not self.left, f"every process left in good order, but these leases or mail are there: {self.left}"
        strangers = {*self.journal, *self.attempts, *self.effects, *self.ledger} - set(self.sagas)
        assert not strangers, f"these sagas are known by what they did alone: {strangers}"

    def gather(self, saga_id: str, registry: Registry, authors: Mapping[tuple[str, int, str], str]) -> _Saga:
        """Puts together what is known of a saga; its chain must be intact, and it must replay."""
        rows = self.journal.get(saga_id, [])
        history = read_history(saga_id, rows, None)
        definition = registry.find(history.start.name, history.start.version)
        wrote = [authors.get((saga_id, row.seq, row.digest.hex()), "nobody") for row in rows]
        took = [record.event.owner for record in history.records if isinstance(record.event, e.SagaTakenOver)]
        effects = self.effects.get(saga_id, [])
        assert len({row.path for row in effects}) == len(effects), f"a step acted under two keys: {effects}"
        return _Saga(
            row=self.sagas[saga_id],
            rows=rows,
            history=history,
            execution=replay(definition, saga_id, registry.steps, history.records, strict=True),
            authors=wrote,
            owners=[wrote[0], *took],
            attempts=self.attempts.get(saga_id, []),
            effects={row.path: row for row in effects},
            ledger=self.ledger.get(saga_id, []),
        )


def _read(url: str, statement: str) -> Sequence[Row[Any]]:
    engine = create_engine(url)
    with engine.connect() as connection:
        rows = connection.execute(text(statement)).all()
    engine.dispose()
    return rows


def _grouped(rows: Sequence[Row[Any]]) -> dict[str, list[Row[Any]]]:
    groups: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        groups[row.saga].append(row)
    return groups


def _look_at(saga: _Saga, findings: Findings, claims: Claims) -> None:
    """Holds one saga to every law, and counts what there was."""
    checks: tuple[Callable[[_Saga], None], ...] = (
        _ended_or_stuck_for_a_reason, _never_parked, _written_by_its_owners, _acted_for_a_cause,
        _did_what_its_journal_says, _entered_exactly_once, _undone_in_reverse, _did_what_it_owed,
    )  # fmt: skip
    try:
        for check in checks:
            check(saga)
        _heard(saga, claims)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{saga}") from error
    findings.statuses[saga.row.status] += 1
    if saga.execution.cause is not None:
        findings.causes[saga.execution.cause.type.rpartition(":")[2]] += 1
    findings.records += len(saga.rows)
    findings.takeovers += len(saga.owners) - 1
    findings.attempts += len(saga.attempts)
    findings.effects.update(_kept(saga))
    findings.late += sum(_is_late(saga, row) for row in saga.attempts)


def _kept(saga: _Saga) -> Counter[str]:
    return Counter(x.kind for x in saga.effects.values() if x.acted is not None and x.undone is None)


def _ended_or_stuck_for_a_reason(saga: _Saga) -> None:
    row = saga.row
    assert saga.execution.state.status == row.status, f"its journal says {saga.execution.state}, its row {row.status}"
    owners = {saga.owners[-1]} | ({""} if row.ended_at is None else set())  # whoever leaves hands over what is open
    assert row.owner in owners, f"its row says that it is {row.owner}'s, its journal {saga.owners[-1]}'s"
    if row.status == "stuck":
        assert row.ended_at is None, "it is stuck, and has ended"
        names = {saga.execution.steps[path].name for path in saga.execution.halted if path}
        assert names == {"settle"}, f"only the compensator of settle gives up, and it is stuck: {row.error}"
        assert row.error, "it is stuck and does not say why"
    else:
        assert row.status in ("completed", "compensated"), f"it is {row.status}"
        assert row.ended_at == saga.rows[-1].at, "it ended at another time than its journal"


def _never_parked(saga: _Saga) -> None:
    """Every process has the same code, and no operator said that it was mended."""
    odd = [record for record in saga.history.records if isinstance(record.event, (e.SagaParked, e.SagaResumed))]
    assert not odd, f"nobody changed any code, and it was parked or resumed: {odd}"


def _written_by_its_owners(saga: _Saga) -> None:
    """Every record is by the coordinator that the last takeover before it names, or that one is."""
    owner = saga.owners[0]
    for record, author in zip(saga.history.records, saga.authors, strict=True):
        if isinstance(record.event, e.SagaTakenOver):
            owner = record.event.owner
        assert author == owner, f"record {record.seq} was written by {author}, when the saga was {owner}'s"


def _acted_for_a_cause(saga: _Saga) -> None:
    """What led to an attempt was committed when it began, and so was the takeover by whoever made it."""
    for row in (*saga.attempts, *saga.ledger):
        action = getattr(row, "action", "act")
        assert row.cause is not None, f"{action} {row.path} began before its cause was durable"
        asked = saga.history.records[row.cause].commands
        kind = c.RunStep if action == "act" else c.RunUndo
        assert any(isinstance(x, kind) and x.path == row.path for x in asked), f"record {row.cause} has changed"
        led_by = row.led_by or saga.owners[0]
        assert row.owner == led_by or _is_late(saga, row), (
            f"{row.owner} attempted to {action} {row.path}, when the saga was {led_by}'s"
        )


def _is_late(saga: _Saga, row: Row[Any]) -> bool:
    """Says whether an attempt was made by one who had owned the saga before whoever owned it then."""
    led_by = row.led_by or saga.owners[0]
    before = [saga.owners[:turn] for turn, owner in enumerate(saga.owners) if owner == led_by]
    return bool(row.owner != led_by) and any(row.owner in owners for owners in before)


def _did_what_its_journal_says(saga: _Saga) -> None:
    """Each effect is there if its step succeeded, and gone if it was undone or refused."""
    for path in saga.effects:
        assert path in saga.execution.steps, f"something acted at {path}, where the saga has no step"
    for path, entry in saga.execution.steps.items():
        effect = saga.effects.get(path)
        acted = effect is not None and effect.acted is not None
        undone = effect is not None and effect.undone is not None
        if entry.name == "enter":
            assert effect is None, "the ledger is in another database"
        elif entry.state is StepState.SUCCEEDED:
            assert acted, f"{entry.name} at {path} succeeded without an effect"
            assert not undone, f"{entry.name} at {path} is undone, and its journal does not say so"
        elif entry.state is StepState.REJECTED:
            assert not acted, f"{entry.name} at {path} was rejected, and acted all the same"
        elif entry.state is StepState.UNDONE:
            assert undone, f"{entry.name} at {path} is called undone, and is not"
        elif saga.row.status != "stuck":
            assert entry.name == "veto", f"{entry.name} at {path} is {entry.state.value}"
            assert not acted, "it never acts"


def _entered_exactly_once(saga: _Saga) -> None:
    """What a transactional step wrote is there once if its record is."""
    want = {
        path: 1 if entry.state is StepState.UNDONE else 0
        for path, entry in saga.execution.steps.items()
        if entry.name == "enter" and entry.state in (StepState.SUCCEEDED, StepState.UNDONE)
    }
    found = sorted((row.path, row.struck) for row in saga.ledger)
    assert found == sorted(want.items()), f"the ledger has {found}, and should have {want}"


def _undone_in_reverse(saga: _Saga) -> None:
    """No compensator was even called before those of all that came after it had done their work."""
    asked: dict[str, int] = {}
    for record in saga.history.records:
        for command in record.commands:
            if isinstance(command, c.RunStep):
                asked.setdefault(command.path, record.seq)
    first: dict[str, Row[Any]] = {}
    for row in saga.attempts:
        if row.action == "undo":
            first.setdefault(row.path, row)
    for earlier, later in itertools.permutations(first, 2):
        # Not what the body only came to when a scope had undone the other one.
        if follows(later, earlier) and asked[later] < first[earlier].cause:
            undone = saga.effects[later].undone if later in saga.effects else None
            assert undone is not None, f"{earlier} was to be undone, and {later} is not"
            assert undone < first[earlier].began, f"{earlier} was to be undone before {later} was"


def _did_what_it_owed(saga: _Saga) -> None:
    """A completed saga did all that it is for; a compensated one, nothing."""
    kept = _kept(saga)
    if saga.row.status == "completed":
        assert trade.owed(saga.row.name, kept), f"it is completed, having done {kept}"
    elif saga.row.status == "compensated":
        assert not kept, f"it is compensated, but {kept} is not undone"


def _heard(saga: _Saga, claims: Claims) -> None:
    """A signal that was acknowledged reached a saga that did not end before it."""
    sent = claims.signalled.get(saga.row.id, set())
    events = [record.event for record in saga.history.records]
    received = {int(event.payload) for event in events if isinstance(event, e.SignalReceived)}
    assert received or not sent or saga.row.status == "compensated", f"it never heard of {sent}"


def _hold_to_their_word(said: Sequence[witness.Said], books: _Books, findings: Findings) -> None:
    """What a process heard was written is there; what it reported is so."""
    there = {(row.saga_id, row.seq, row.digest.hex()) for rows in books.journal.values() for row in rows}
    for word in said:
        record = (word.saga, word.seq, word.detail)
        if word.what == "wrote":
            assert record in there, f"{word.owner} was told that record {word.seq} of {word.saga} is durable; it is not"
        elif word.what == "ended":
            status = books.sagas[word.saga].status
            assert status == word.detail, f"{word.owner} reported {word.saga} as {word.detail}; it is {status}"
        else:
            findings.lost += record not in there
