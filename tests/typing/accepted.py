"""Calls that type checkers have to accept, with the types that they have to see."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime
from typing import assert_type
from uuid import UUID

from sqlmodel import Session

from sagas import (
    Coordinator,
    Handle,
    NotApplied,
    Rejected,
    Retry,
    Saga,
    SagaCall,
    SagaView,
    Step,
    StepCall,
    gather,
    map_each,
    now,
    race,
    random,
    receive,
    record,
    saga,
    scope,
    sleep,
    step,
    uuid4,
    version,
)


@dataclass
class Order:
    number: int


@dataclass
class Charge:
    id: str


class Declined(Rejected):
    pass


@step
async def reserve(order: Order) -> str:
    return f"r-{order.number}"


@reserve.compensator
async def release(order: Order, result: str | None) -> None: ...


@step(retry=Retry(attempts=5), timeout=3.0, rejects=[Declined], limit=8)
async def charge(order: Order, *, cents: int = 100) -> Charge:
    return Charge(f"{order.number}/{cents}")


@charge.compensator(retry=Retry(attempts=None), timeout=1.0)
def refund(result: Charge | None) -> None: ...


@charge.probe
async def find_charge(order: Order) -> Charge | NotApplied:
    return NotApplied()


@step
def weigh(order: Order) -> float:
    return float(order.number)


@step(name="book", transactional=True, pivot=True)
def book(session: Session, order: Order) -> int:
    return order.number


@book.compensator(transactional=True, retry=Retry(attempts=3), limit=2)
def unbook(session: Session, order: Order, result: int) -> None: ...


def unbook_two(session: Session, first: Order, second: Order) -> None:
    """A compensator is returned as it is."""
    unbook(session, order=first, result=1)
    unbook(session=session, order=second, result=2)


@saga
async def ship(order: Order) -> bool:
    return await book(order) > 0


@saga(version="2", timeout=60.0)
async def place(order: Order, express: bool = False) -> Charge:
    call = reserve(order)
    assert_type(await assert_type(call, StepCall[str]), str)
    assert_type(await reserve(order), str)
    assert_type(await weigh(order), float)
    assert_type(await book(order), int)
    assert_type(await ship(order), bool)
    reserved, charged = await gather(reserve(order), charge(order, cents=5))
    assert_type(reserved, str)
    assert_type(charged, Charge)
    assert_type(await map_each(reserve, [order, order], limit=2), list[str])
    assert_type(await race(reserve(order), reserve(order)), str)
    assert_type(await receive("approval", Order, timeout=3.0), Order)
    assert_type(await now(), datetime)
    assert_type(await uuid4(), UUID)
    assert_type(await random(), float)
    assert_type(await version("change"), bool)
    assert_type(await record(lambda: 1), int)
    async with scope():
        await sleep(1.0)
    nested, _ = await gather(_branch(order), sleep(2))
    assert_type(nested, int)
    return charged


async def _branch(order: Order) -> int:
    return len(await reserve(order))


async def use(coordinator: Coordinator, order: Order) -> None:
    declared: tuple[Step[..., str], Saga[..., bool]] = (reserve, ship)
    del declared
    call = place(order, express=True)
    assert_type(await coordinator.run(assert_type(call, SagaCall[Charge]), id="order-1"), Charge)
    handle = await coordinator.start(place(order))
    assert_type(handle, Handle[Charge])
    assert_type(await handle.result(), Charge)
    assert_type(await coordinator.get("order-1"), SagaView)
    await coordinator.signal("order-1", "approval", order)
    await release(order, None)
    awaitable: Awaitable[str] = reserve(order)
    assert_type(await awaitable, str)
