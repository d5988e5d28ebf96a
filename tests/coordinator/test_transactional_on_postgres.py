"""What a transactional step does to the rest of its transaction, and the other way round."""

from __future__ import annotations

import anyio
import pytest
from sqlalchemy import Connection, NullPool, create_engine, make_url, text
from sqlmodel import Session

from sagas import Coordinator, SagaCompensated, saga, step
from sagas.stores.port import Batch, Committed
from sagas.stores.postgres import PostgresStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@step(transactional=True)
def make_table(session: Session) -> None:
    session.connection().execute(text("CREATE TABLE seats (seat int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))


@step(transactional=True)
def seat(session: Session, seats: list[int]) -> int:
    for number in seats:
        session.connection().execute(text("INSERT INTO seats VALUES (:number)"), {"number": number})
    return int(session.connection().execute(text("SELECT count(*) FROM seats")).scalar_one())


@saga
async def prepare() -> None:
    await make_table()


@saga
async def book(seats: list[int]) -> int:
    return await seat(seats)


async def test_a_step_fails_by_a_deferred_constraint_as_by_any_other(postgres_url: str) -> None:
    """Instead of its whole transaction, again and again; what it breaks for a moment only is fine."""
    async with Coordinator(postgres_url, sagas=[prepare, book]) as coordinator:
        with anyio.fail_after(20):
            await coordinator.run(prepare())
            with pytest.raises(SagaCompensated, match="duplicate key"):
                await coordinator.run(book([1, 1]))
            assert await coordinator.run(book([1, 2])) == 2


@step(transactional=True)
def go_elsewhere(session: Session, setting: str) -> str:
    session.connection().execute(text(setting))
    return str(session.connection().execute(text("SHOW transaction_isolation")).scalar_one())


@saga
async def wander(setting: str) -> str:
    return await go_elsewhere(setting)


async def test_what_a_step_sets_for_itself_does_not_hold_for_the_journal(postgres_url: str) -> None:
    """A schema or a role of a tenant, say; and what the database sets for everybody does not hold for either."""
    with create_engine(postgres_url, poolclass=NullPool).begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        connection.execute(
            text(f"ALTER DATABASE {make_url(postgres_url).database} SET default_transaction_isolation = 'serializable'")
        )
    async with Coordinator(postgres_url, sagas=[wander]) as coordinator:
        with anyio.fail_after(20):
            for setting in ("SET LOCAL search_path TO tenant", "SET LOCAL ROLE pg_monitor"):
                assert await coordinator.run(wander(setting)) == "read committed"


class Refusing(PostgresStore):
    """Cannot write what a transactional step has led to."""

    def _write_unless_superseded(self, connection: Connection, batch: Batch) -> Committed:
        raise ValueError(f"{len(batch.rows)} records are too many")


async def test_a_step_whose_transaction_is_refused_at_its_end_has_failed(postgres_url: str) -> None:
    """It would be refused each time."""
    async with Coordinator(Refusing(postgres_url), sagas=[wander]) as coordinator:
        with anyio.fail_after(20), pytest.raises(SagaCompensated, match="are too many"):
            await coordinator.run(wander("SELECT 1"))
