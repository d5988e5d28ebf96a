"""What a transactional step does to constraints that the server checks at the end of a transaction."""

from __future__ import annotations

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import Coordinator, SagaCompensated, saga, step


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
