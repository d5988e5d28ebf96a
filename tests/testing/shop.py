"""A small shop, its sagas, right and wrong ones, and the world that they act on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from sagas import Rejected, current_step, gather, receive, saga, scope, step

__all__ = [
    "Shop", "amounts", "ask", "careless", "never_more_than_two", "nothing_is_owed", "nothing_yet",
    "open_shop", "order", "total",
]  # fmt: skip


@dataclass
class Shop:
    reserved: dict[str, str] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)


shop = Shop()
nothing_yet: Shop | None = None
amounts = {"amount": st.integers(1, 9)}


@contextmanager
def open_shop() -> Generator[Shop]:
    global shop  # noqa: PLW0603 - as a module's connection to a database would be
    shop = Shop()
    yield shop


def total(world: Shop) -> dict[str, Any]:
    return {"reserved": sorted(world.reserved.values()), "charged": sorted(world.charged.values())}


def nothing_is_owed(world: Shop) -> bool:
    return all(amount > 0 for amount in world.charged.values())


def never_more_than_two(world: Shop) -> None:
    assert len(world.charged) <= 2, "charged three times"


@step
async def reserve(item: str) -> None:
    shop.reserved[current_step().idempotency_key] = item


@reserve.compensator
async def release(item: str) -> None:
    shop.reserved.pop(current_step().undoes or "", None)


@step
async def charge(amount: int) -> None:
    shop.charged[current_step().idempotency_key] = amount


@charge.compensator
async def refund(amount: int) -> None:
    shop.charged.pop(current_step().undoes or "", None)


@step
async def pack() -> None: ...


@pack.compensator
async def unpack() -> None: ...


@step(pivot=True)
async def ship() -> None: ...


@step
async def charge_for_ever(amount: int) -> None:
    shop.charged[current_step().idempotency_key] = amount


@charge_for_ever.compensator
async def keep_the_money(amount: int) -> None: ...


@saga
async def order(item: str, amount: int) -> None:
    await reserve(item)
    await gather(charge(amount), pack())
    await ship()


@saga
async def careless(amount: int) -> None:
    await charge_for_ever(amount)
    await ship()


@saga
async def ask(item: str) -> bool:
    await reserve(item)
    try:
        async with scope():
            await pack()
            if not await receive("approval", bool):
                raise Rejected("no")
    except Rejected:
        return False
    return True
