"""Transactional compensators in simulated runs: nothing keeps them from acting twice but that they act once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import StaticPool
from sqlmodel import Session

from sagas import Rejected, RequestError, Retry, saga, step
from sagas.coordinator.transactional import TransactionalAttempt, UndoWork
from sagas.core.attempts import Done
from sagas.testing import CheckFailed, Fault, assert_undos_tested, check, mutate
from sagas.testing.planned import play


class Stock:
    """A world with a database, and how much is there of two things."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE stock (item TEXT, n INTEGER)"))
            connection.execute(text("INSERT INTO stock VALUES ('lamp', 9), ('desk', 9)"))

    def count(self) -> dict[str, int]:
        """Is the view."""
        with self.engine.connect() as connection:
            return {str(row[0]): int(row[1]) for row in connection.execute(text("SELECT item, n FROM stock"))}


_STOCK: list[Stock] = []


def new() -> Stock:
    _STOCK[:] = [Stock()]
    return _STOCK[0]


def engine(world: Stock) -> Engine:
    return world.engine


def add(session: Session, item: str, items: int) -> None:
    session.connection().execute(text("UPDATE stock SET n = n + :n WHERE item = :item"), {"n": items, "item": item})


@step(transactional=True)
def take(session: Session, item: str, items: int) -> int:
    add(session, item, -items)
    return items


@take.compensator(transactional=True, retry=Retry(attempts=2))
def put_back(session: Session, item: str, items: int, result: int) -> None:
    assert result == items
    add(session, item, 1)
    add(session, item, items - 1)


@step
async def pack(item: str) -> None:
    if item == "anvil":
        raise Rejected("too heavy")


@saga
async def send(items: int) -> None:
    await take("lamp", items)
    await take("desk", items + 1)
    await pack("lamp")


_OPTIONS: dict[str, Any] = {
    "inputs": st.integers(2, 4), "world": new, "view": Stock.count, "database": engine, "seed": 1,
}  # fmt: skip


def test_a_transactional_undo_acts_once_however_the_process_dies() -> None:
    report = check(send, runs=300, **_OPTIONS)
    fired = report.coverage.fired
    for what in ("error", "down", "crash before", "cancel", "restart"):
        assert fired[what, "undo of take"], f"{what} never happened"
    for what in ("crash before", "crash after", "unavailable", "doubtful", "pause before", "pause after"):
        assert fired[what, "commit"], f"{what} never happened"
    never = {"lost reply", "mute", "twice", "late", "pause after", "crash after"}
    assert not never & {what for what, at in fired if at == "undo of take"}


def test_the_same_undo_by_itself_acts_twice() -> None:
    """So those runs could tell."""

    @step(transactional=True)
    def grab(session: Session, items: int) -> None:
        add(session, "lamp", -items)

    @grab.compensator
    def let_go(items: int) -> None:
        with Session(_STOCK[0].engine) as session:
            add(session, "lamp", items)
            session.commit()

    @saga
    async def body(items: int) -> None:
        await grab(items)
        await pack("lamp")

    with pytest.raises(CheckFailed, match="undo of grab"):
        check(body, runs=300, **_OPTIONS)


def test_an_undo_whose_record_is_committed_after_its_writes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    tell: Callable[[TransactionalAttempt, Done], None] = TransactionalAttempt._tell  # noqa: SLF001 - a mutant

    def tell_later(self: TransactionalAttempt, action: Done) -> None:
        if not isinstance(self.work, UndoWork):
            tell(self, action)

    monkeypatch.setattr(TransactionalAttempt, "_tell", tell_later)
    with pytest.raises(CheckFailed):
        check(send, runs=300, **_OPTIONS)


def test_what_happens_to_a_transactional_undo_can_be_planned() -> None:
    """A refused request is tried again, and a commit that fails takes it back."""
    options = {key: value for key, value in _OPTIONS.items() if key in ("world", "view", "database")}
    run = play(send(3), Fault("rejected", at="pack"), Fault("error", at="undo of take"), **options)
    assert run.status == "compensated"
    undos = [(x.path, x.acted) for x in run.calls if x.role == "undo"]
    assert undos == [("2", 0), ("2", 1), ("1", 1)]


def test_after_a_transactional_pivot_only_what_may_be_refused_is() -> None:
    """As after any other: what has to succeed is retried until it does."""

    @step(transactional=True, pivot=True)
    def sell(session: Session) -> None:
        add(session, "lamp", -1)

    @step(retry=Retry(attempts=None))
    async def tell() -> None: ...

    @saga
    async def body(items: int) -> None:
        await take("desk", items)
        await sell()
        await tell()

    report = check(body, runs=200, **_OPTIONS)
    assert report.coverage.fired["rejected", "sell"]
    assert not report.coverage.fired["rejected", "tell"]


def test_a_transactional_undo_needs_a_database() -> None:
    @step
    async def plain() -> None: ...

    @plain.compensator(transactional=True)
    def unplain(session: Session) -> None: ...

    @saga
    async def body() -> None:
        await plain()

    with pytest.raises(RequestError, match="transactional steps need a database, and plain is one"):
        check(body, runs=50, seed=1)


def test_a_transactional_undo_is_broken_within_its_transaction() -> None:
    found = mutate(send, runs=100, **_OPTIONS)
    fates = {x.breakage: x.fate for x in found.all}
    assert not found.never_undone
    for what in ("gets a wrong items", "gets no result", "stops before"):
        concerned = [fate for breakage, fate in fates.items() if breakage.startswith(what)]
        assert concerned == ["killed"] * len(concerned) != [], f"{what}: {concerned}"
    assert fates["does nothing"] == fates["acts twice under two keys"] == "killed"
    assert_undos_tested(send, runs=100, **_OPTIONS)
