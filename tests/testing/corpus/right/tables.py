"""Steps that write to tables, in one transaction with the saga's own record."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from sqlalchemy.pool import StaticPool
from sqlmodel import Field, Session, SQLModel, create_engine, select

from sagas import Rejected, current_step, saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Options, Right

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Engine


class CorpusAccount(SQLModel, table=True):
    """Whose money is where."""

    name: str = Field(primary_key=True)
    cents: int


class CorpusUndone(SQLModel, table=True):
    """What was undone already: a compensator may run twice."""

    key: str = Field(primary_key=True)


TABLES = [SQLModel.metadata.tables[x] for x in ("corpusaccount", "corpusundone")]
engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})


@contextmanager
def open_bank() -> Generator[Engine]:
    """Makes the world of a run."""
    SQLModel.metadata.create_all(engine, tables=TABLES)
    with Session(engine) as session:
        session.add_all([CorpusAccount(name="Ada", cents=1000), CorpusAccount(name="Grace", cents=0)])
        session.commit()
    yield engine
    SQLModel.metadata.drop_all(engine, tables=TABLES)


def balances(world: Engine) -> dict[str, int]:
    """Shows every account."""
    with Session(world) as session:
        return {x.name: x.cents for x in session.exec(select(CorpusAccount))}


def move(session: Session, name: str, cents: int) -> int:
    """Adds to an account."""
    account = session.get_one(CorpusAccount, name)
    account.cents += cents
    if account.cents < 0:
        raise Rejected("not enough")
    session.add(account)
    session.flush()
    return account.cents


@step(transactional=True)
def withdraw(session: Session, name: str, cents: int) -> int:
    return move(session, name, -cents)


def move_back(name: str, cents: int) -> None:
    """Adds to an account, once for each step that is undone."""
    key = current_step().undoes
    with Session(engine) as session:
        if key is not None and session.get(CorpusUndone, key) is None:
            session.add(CorpusUndone(key=key))
            move(session, name, cents)
            session.commit()


@withdraw.compensator
def put_back(name: str, cents: int) -> None:
    move_back(name, cents)


@step(transactional=True)
def deposit(session: Session, name: str, cents: int) -> int:
    return move(session, name, cents)


@deposit.compensator
def take_back(name: str, cents: int) -> None:
    move_back(name, -cents)


@step(transactional=True)
def pay_in(session: Session, name: str, cents: int) -> int:
    return move(session, name, cents)


@pay_in.compensator(transactional=True)
def pay_out(session: Session, name: str, cents: int, result: int) -> None:
    """Needs no note of what was undone, since it commits with one."""
    assert result >= cents
    move(session, name, -cents)


@step(transactional=True)
def approve(session: Session, cents: int) -> None:
    if cents == 13:
        raise Rejected("unlucky")


def no_money_is_lost(world: Engine, run: Run) -> None:
    """What one has less the other has more."""
    assert sum(balances(world).values()) == 1000
    assert run.status == "completed" or balances(world)["Ada"] == 1000


@saga
async def pay(cents: int) -> int:
    """Moves money from one account to another, and asks only then."""
    await withdraw("Ada", cents)
    left = await deposit("Grace", cents)
    await approve(cents)
    return left


@saga
async def give(cents: int) -> int:
    """Has an undo in a transaction, and one that writes by itself before it."""
    await withdraw("Ada", cents)
    left = await pay_in("Grace", cents)
    await pay_in("Ada", 1)
    await approve(cents)
    await withdraw("Ada", 1)
    return left


CASES = [
    Right(
        pay,
        Options(
            inputs={"cents": st.one_of(st.integers(1, 20), st.just(2000))}, world=open_bank, view=balances,
            invariants=[no_money_is_lost], database=lambda world: world,
        ),
    ),
    Right(
        give,
        Options(
            inputs={"cents": st.one_of(st.integers(1, 20), st.just(2000))}, world=open_bank, view=balances,
            database=lambda world: world,
        ),
    ),
]  # fmt: skip
