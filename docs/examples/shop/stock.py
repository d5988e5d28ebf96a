"""The stock service: owns the shelf, and serves two steps over HTTP beside its own API."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from sqlmodel import Field, Session, SQLModel, create_engine, select

from sagas import Worker, step
from sagas_adapters.http import participant_app

from .contracts import Order, OutOfStock, Reservation
from .tracing import export_traces

SHELF = {"book": 350, "lamp": 60, "anvil": 12}


class Shelf(SQLModel, table=True):
    """How many pieces there are."""

    item: str = Field(primary_key=True)
    pieces: int


class Movement(SQLModel, table=True):
    """What went from the shelf (less than 0), or back to it. Nothing is changed here, so that all can be seen."""

    id: int | None = Field(default=None, primary_key=True)
    order: str
    item: str
    pieces: int


def move(session: Session, order: Order, pieces: int) -> int:
    """Moves pieces; gives how many there are then. It may run once only, and that is all it has to rely on."""
    shelf = session.get_one(Shelf, order.item, with_for_update=True)
    shelf.pieces += pieces
    session.add_all([shelf, Movement(order=order.number, item=order.item, pieces=pieces)])
    return shelf.pieces


@step(name="stock.reserve", transactional=True)
def reserve_stock(session: Session, order: Order) -> Reservation:
    """Takes pieces from the shelf, in one transaction with what the inbox remembers of it."""
    if move(session, order, -order.pieces) < 0:
        raise OutOfStock(order.item)  # what was written is rolled back
    return Reservation(order=order.number, item=order.item, pieces=order.pieces)


@reserve_stock.compensator(transactional=True)
def release_stock(session: Session, order: Order) -> None:
    """Puts them back. It is called only if they were taken, and once."""
    move(session, order, order.pieces)


def prepare(database: str) -> None:
    """Makes the tables, and fills the shelf."""
    engine = create_engine(database)
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables[name] for name in ("shelf", "movement")])
    with Session(engine) as session:
        if session.exec(select(Shelf)).first() is None:
            session.add_all(Shelf(item=item, pieces=pieces) for item, pieces in SHELF.items())
            session.commit()
    engine.dispose()


def create_app(database: str) -> FastAPI:
    """Makes the service."""
    worker = Worker([reserve_stock], inbox=database, name="stock")
    engine = create_engine(database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        prepare(database)
        async with worker:  # on SIGTERM, it ends what it has begun
            yield
        engine.dispose()

    app = FastAPI(title="stock", lifespan=lifespan)
    app.mount("/sagas", participant_app(worker))

    @app.get("/shelf")
    def read_shelf() -> dict[str, int]:
        with Session(engine) as session:
            return {shelf.item: shelf.pieces for shelf in session.exec(select(Shelf))}

    return app


if __name__ == "__main__":
    export_traces("stock")
    uvicorn.run(
        create_app(os.environ["STOCK_DATABASE"]), host="127.0.0.1", port=int(os.environ["STOCK_PORT"]), access_log=False
    )
