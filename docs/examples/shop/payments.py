"""The payments service: owns the cards, and serves two steps that come through a queue. It has no port at all."""

from __future__ import annotations

import logging
import os
import signal

import anyio
from sqlmodel import Field, Session, SQLModel, create_engine, select

from sagas import Worker, step

from .contracts import CardDeclined, Charge, Order
from .tracing import export_traces

CARDS = {"gold": 5_000_000, "silver": 150_000, "bronze": 20_000}


class Card(SQLModel, table=True):
    """How much money there is."""

    name: str = Field(primary_key=True)
    cents: int


class Booking(SQLModel, table=True):
    """What was taken from a card (less than 0), or given back. Nothing is ever changed here."""

    id: int | None = Field(default=None, primary_key=True)
    order: str
    card: str
    cents: int


def book(session: Session, order: Order, cents: int) -> int:
    """Moves money; gives how much there is then."""
    card = session.get_one(Card, order.card, with_for_update=True)
    card.cents += cents
    session.add_all([card, Booking(order=order.number, card=order.card, cents=cents)])
    return card.cents


@step(name="payments.charge", transactional=True)
def charge_card(session: Session, order: Order) -> Charge:
    """Takes money from the card."""
    if book(session, order, -order.cents) < 0:
        raise CardDeclined(order.card)
    return Charge(order=order.number, cents=order.cents)


@charge_card.compensator(transactional=True)
def refund_card(session: Session, order: Order) -> None:
    """Gives it back."""
    book(session, order, order.cents)


def prepare(database: str) -> None:
    """Makes the tables, and issues the cards."""
    engine = create_engine(database)
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables[name] for name in ("card", "booking")])
    with Session(engine) as session:
        if session.exec(select(Card)).first() is None:
            session.add_all(Card(name=name, cents=cents) for name, cents in CARDS.items())
            session.commit()
    engine.dispose()


async def serve(database: str, queue: str) -> None:
    """Serves the queue until somebody wants the process to end."""
    prepare(database)
    async with anyio.create_task_group() as group, Worker([charge_card], inbox=database, name="payments") as worker:
        group.start_soon(worker.serve, queue)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break  # to leave the worker: it takes nothing new, and ends and answers what it has begun


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    export_traces("payments")
    anyio.run(serve, os.environ["PAYMENTS_DATABASE"], os.environ["PAYMENTS_QUEUE"])
