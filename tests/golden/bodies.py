"""The sagas that the golden journals belong to. They must stay as they are: only new ones may be added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sagas import (
    Deadlock,
    LockTimeout,
    ReceiveTimeout,
    Rejected,
    gather,
    lock,
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

__all__ = ["SAGAS", "STEPS"]


class SoldOut(Rejected):
    def __init__(self, sku: str, left: Decimal) -> None:
        super().__init__(f"{sku} is sold out")
        self.sku = sku
        self.left = left


@dataclass(frozen=True)
class Line:
    sku: str
    price: Decimal


@dataclass(frozen=True)
class Receipt:
    id: UUID
    total: Decimal
    at: datetime
    label: bytes


@step
async def reserve(line: Line) -> int:
    return 1


@reserve.compensator
async def release(line: Line, result: int | None) -> None: ...


@step
async def charge(amount: Decimal) -> str:
    return "charge"


@charge.compensator
async def refund(amount: Decimal) -> None: ...


@step(pivot=True)
async def ship(skus: list[str]) -> bytes:
    return b"\xff"


@step
async def notify(text: str) -> None: ...


@saga
async def shop(lines: list[Line]) -> Receipt:
    """Side by side, one by one, and a pivot."""
    order = await uuid4()
    await gather(map_each(reserve, lines, limit=2), charge(sum((x.price for x in lines), Decimal(0))))
    label = await ship([x.sku for x in lines])
    await notify(f"{order} {await random()}")
    return Receipt(order, sum((x.price for x in lines), Decimal(0)), await now(), label)


@saga
async def scoped(lines: list[Line]) -> str:
    """A scope that is undone, and a body that goes on."""
    await charge(Decimal(1))
    try:
        async with scope():
            await gather(*(reserve(x) for x in lines))
            await charge(Decimal(2))
    except SoldOut as error:
        await notify(f"{error.sku}: {error.left + 1}")
    await reserve(Line("last", Decimal(1)))
    return "done"


@saga(timeout=50)
async def approved(by: str) -> str:
    await reserve(Line(by, Decimal(3)))
    return await receive("approval", str)


@saga
async def patient(by: str) -> list[Any]:
    """Everything that waits."""
    settings = await record(lambda: {"limit": 3})
    await sleep(60)
    try:
        first: str = await receive("hello", str, timeout=10)
    except ReceiveTimeout:
        first = "nobody"
    quick = await race(receive("never", str), sleep(5))
    answer = await approved(by)
    patched = await version("patch")
    return [settings, first, quick, answer, patched]


async def _count(sku: str) -> int:
    """Keeps others away for a moment."""
    try:
        async with lock(f"shelf {sku}", timeout=20, hold="block"):
            return await reserve(Line(sku, Decimal(1)))
    except LockTimeout:
        return 0
    except Deadlock:
        return -1


@saga
async def careful(sku: str) -> list[int]:
    """One lock to the end, and several for a block: granted, given up, refused."""
    async with lock(sku):
        counts = await gather(_count("a"), _count("b"), _count("a"), _count("c"))
        await charge(Decimal(1))
    await ship([sku])
    return list(counts)


SAGAS: dict[str, Any] = {x.name: x for x in (shop, scoped, patient, careful)}
STEPS: dict[str, Any] = {x.name: x for x in (reserve, charge, ship, notify)}
