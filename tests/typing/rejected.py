# The lines below hide this file from checks of the whole repository; test_typing.py takes them off.
# mypy: ignore-errors
# type: ignore
# ruff: noqa: F841, PGH003 - variables are there for their types; all of mypy and pyright is silenced
"""Mistakes that type checkers have to find: exactly in the lines that are marked, and in no other."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session

from sagas import Coordinator, Handle, Retry, gather, map_each, receive, saga, scope, step


@dataclass
class Order:
    number: int


@dataclass
class Charge:
    id: str


@step
async def reserve(order: Order) -> str:
    return f"r-{order.number}"


@step(retry=Retry(attempts=2))
async def charge(order: Order, *, cents: int = 100) -> Charge:
    return Charge(str(cents))


@step(transactional=True)
def book(session: Session, order: Order) -> int:
    return order.number


@saga
async def ship(order: Order) -> bool:
    return True


@saga(version="2")
async def place(order: Order) -> Charge:
    await reserve("order")  # error: wrong argument
    await reserve()  # error: missing argument
    await reserve(order, 1)  # error: too many arguments
    await charge(order, 5)  # error: keyword only
    await charge(order, pence=5)  # error: unknown argument
    number: int = await reserve(order)  # error: wrong result
    both: tuple[int, Charge] = await gather(reserve(order), charge(order))  # error: wrong result in a gather
    each: list[int] = await map_each(reserve, [order])  # error: wrong result of each
    await map_each(reserve, ["order"])  # error: wrong items
    approval: int = await receive("approval", Order)  # error: wrong signal
    session: Session | None = None
    await book(session, order)  # error: the session is not the caller's
    await ship(1)  # error: wrong input of a child
    with scope():  # error: asynchronous
        pass
    return await reserve(order)  # error: wrong result of the body


@step(timeout="3")  # error: wrong option
async def late(order: Order) -> None: ...


@step(transactional=True, timeout=3.0)  # error: a transaction cannot be interrupted
def slow(session: Session, order: Order) -> None: ...


@book.compensator(transactional=True, timeout=3.0)  # error: neither can its undo
def unbook(session: Session, order: Order) -> None: ...


@slow.compensator(transactional=True)  # error: there is no parameter for the session
def unslow() -> None: ...


@saga  # error: a body is asynchronous
def plain(order: Order) -> None: ...


async def use(coordinator: Coordinator, order: Order) -> None:
    await coordinator.run(place(1))  # error: wrong saga input
    await coordinator.run(place)  # error: not called
    await coordinator.run(reserve(order))  # error: a step is no saga
    text: str = await coordinator.run(place(order))  # error: wrong result of run
    handle: Handle[str] = await coordinator.start(place(order))  # error: wrong handle
    charged: bool = await (await coordinator.start(place(order))).result()  # error: wrong result of a handle
    await coordinator.cancel("order-1")  # error: a reason is needed
