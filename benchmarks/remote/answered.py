"""The same steps, as a participant declares them."""

from __future__ import annotations

from sqlalchemy import text
from sqlmodel import Session

from benchmarks.workload import Done, Order
from sagas import current_step, step

__all__ = ["SERVED"]

_INSERT = text("INSERT INTO note VALUES (:name, :value)")


@step(name="remote.plain")
async def answer_plain(order: Order, number: int) -> Done:
    """Answers; what is durable of it is the participant's memory of it."""
    return Done(f"{order.sku}-{number}")


@step(name="remote.written", transactional=True)
def answer_written(session: Session, order: Order, number: int) -> Done:
    """Writes a row, in one transaction with the participant's memory of it."""
    name = current_step().idempotency_key
    session.connection().execute(_INSERT, {"name": name, "value": f"{order.sku}-{number}"})
    return Done(f"{order.sku}-{number}")


SERVED = (answer_plain, answer_written)
