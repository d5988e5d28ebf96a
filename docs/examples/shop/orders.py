"""The orders service: takes orders, and runs a saga for each of them across all three services."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from sqlmodel import Field, Session, SQLModel, create_engine

from sagas import Breaker, Coordinator, IdempotencyConflict, Rejected, Route, SagaNotFound, gather, saga, step
from sagas.transport import QueueTransport, open_queue
from sagas_adapters.http import HttpTransport

from .contracts import Charge, Order, Reservation, charge_card, reserve_stock
from .tracing import export_traces


class Sale(SQLModel, table=True):
    """An order that is paid, and on its way."""

    order: str = Field(primary_key=True)
    item: str
    pieces: int
    cents: int


class NoDelivery(Rejected):
    """No courier goes there."""


@step(atomic=True)
async def book_courier(order: Order) -> None:
    """Refuses what cannot be delivered. A step of this very service."""
    if order.country == "XX":
        raise NoDelivery(order.country)


@step(transactional=True)
def record_sale(session: Session, order: Order, reservation: Reservation, charge: Charge) -> str:
    """Writes to the journal's own database, in one transaction with the record that it is done."""
    session.add(Sale(order=order.number, item=reservation.item, pieces=reservation.pieces, cents=charge.cents))
    return f"{reservation.pieces} x {reservation.item} for {charge.cents} cents"


@saga(timeout=3600)
async def place_order(order: Order) -> str:
    """Completes, or leaves nothing behind in any of the three services."""
    reservation, charge = await gather(reserve_stock(order), charge_card(order))
    await book_courier(order)
    return await record_sale(order, reservation, charge)


def create_coordinator(store: str, *, stock: str, payments: str, replies: str, lease: float = 30.0) -> Coordinator:
    """Says where the steps are performed: stock at a URL, payments behind a queue."""
    return Coordinator(
        store,
        sagas=[place_order],
        routes={
            "stock.*": Route(HttpTransport(stock), breaker=Breaker(failures=5, reset=1.0)),
            "payments.*": QueueTransport(open_queue(payments), open_queue(replies)),
        },
        lease=lease,
    )


def create_app(coordinator: Coordinator) -> FastAPI:
    """Makes the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with coordinator:
            yield

    app = FastAPI(title="orders", lifespan=lifespan)

    @app.put("/orders/{number}", status_code=202)
    async def put_order(number: str, order: Order) -> dict[str, str]:
        """Starts the saga; from here on, the order survives whatever happens. To repeat this does no harm."""
        if number != order.number:
            raise HTTPException(422, "the order has another number")
        try:
            handle = await coordinator.start(place_order(order), id=number)
        except IdempotencyConflict as error:
            raise HTTPException(409, str(error)) from error
        return {"saga": handle.id}

    @app.get("/orders/{number}")
    async def get_order(number: str) -> dict[str, object]:
        try:
            view = await coordinator.get(number)
        except SagaNotFound as error:
            raise HTTPException(404, str(error)) from error
        return {"status": view.status, "result": view.result, "cause": view.cause}

    @app.get("/orders")
    async def list_orders() -> dict[str, str]:
        return {summary.id: summary.status for summary in await coordinator.list(limit=10_000)}

    return app


def prepare(store: str) -> None:
    """Makes the table of sales."""
    engine = create_engine(store)
    SQLModel.metadata.create_all(engine, tables=[SQLModel.metadata.tables["sale"]])
    engine.dispose()


def main(environ: dict[str, str]) -> None:
    """Runs the service as the environment says."""
    export_traces("orders")
    prepare(environ["ORDERS_STORE"])
    coordinator = create_coordinator(
        environ["ORDERS_STORE"],
        stock=environ["STOCK_URL"],
        payments=environ["PAYMENTS_QUEUE"],
        replies=environ["ORDERS_REPLIES"],  # of this process alone: another replica has another one
        lease=float(environ.get("ORDERS_LEASE", "30")),
    )
    uvicorn.run(create_app(coordinator), host="127.0.0.1", port=int(environ["ORDERS_PORT"]), access_log=False)


if __name__ == "__main__":
    main(dict(os.environ))
