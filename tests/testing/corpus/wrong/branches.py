"""Branches side by side that get in each other's way."""

from __future__ import annotations

import asyncio

from hypothesis import strategies as st

from sagas import current_step, gather, race, saga, step
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

ONCE = "done is as if it had been done once"
UNDONE = "undone is as if it had never been"
SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


# --- lost updates -----------------------------------------------------------------------------------------------


@step
async def credit(account: str, cents: int) -> int:
    if shop.payments.find() is None:
        read = shop.cash
        await asyncio.sleep(0.01)  # meanwhile the other one reads the same
        shop.cash = read + shop.payments.enter(cents)
    return cents


@credit.compensator
async def debit(cents: int) -> None:
    if shop.payments.entries.get(current_step().undoes or "") is not None:
        shop.payments.take_back()
        shop.cash -= cents


@saga
async def lose_an_update(cents: int) -> int:
    """Two branches read a balance, and each writes what it has made of it: one of them is lost.

    After microsoft/agent-governance-toolkit#145: state is read and changed without a lock, side by side.
    """
    await gather(credit("savings", cents), credit("current", cents))
    return cents


# --- undos that do not commute ----------------------------------------------------------------------------------


@step
async def set_price(cents: int) -> str:
    key = current_step().idempotency_key
    if key not in shop.notes:
        shop.notes[key] = shop.notes.get("price", "0")
        shop.notes["price"] = str(cents)
    return shop.notes[key]


@set_price.compensator
async def set_it_back(result: str | None) -> None:
    before = shop.notes.pop(current_step().undoes or "", None)
    if before is not None:
        shop.notes["price"] = before


@step
async def publish(cents: int) -> str:
    return shop.parcels.enter(f"catalogue {cents}")


@publish.compensator
async def recall() -> None:
    shop.parcels.take_back()


def price_only(world: Shop) -> str:
    """Shows the price."""
    return world.notes.get("price", "0")


@saga
async def put_back_across(cents: int) -> str:
    """Each branch remembers what it found and puts that back, but what one found is what the other wrote.

    After danielgerlag/workflow-core#1205, where two compensations run at the same time.
    """
    await gather(set_price(cents), set_price(2 * cents))
    return await publish(cents)


# --- a race that both win ---------------------------------------------------------------------------------------


@step
async def ask_supplier(name: str) -> str:
    return shop.bookings.enter(name)


def one_booking(world: Shop) -> None:
    """No more than one supplier is taken."""
    assert len(world.bookings.entries) <= 1


@saga
async def take_both(cents: int) -> str:
    """The supplier that loses the race keeps the order, since nobody said how to cancel it.

    After danielgerlag/workflow-core#679: which branches of a parallel loop are undone is not what was expected.
    """
    return await race(ask_supplier("near"), ask_supplier("far"))


# --- half of it -------------------------------------------------------------------------------------------------


@step
async def book_flight(cents: int) -> str:
    return shop.bookings.enter("flight")


@book_flight.compensator
async def cancel_flight() -> None:
    shop.bookings.take_back()


@step
async def book_hotel(cents: int) -> str:
    return shop.bookings.enter("hotel")


@book_hotel.compensator
async def cancel_hotel() -> None:
    shop.bookings.take_back()


def all_or_nothing(world: Shop) -> None:
    """There is no journey without a bed."""
    assert len(world.bookings.entries) in (0, 2)


@saga
async def keep_half(cents: int) -> str:
    """The body catches the failure of one branch, says "not booked", and keeps what the other branch did.

    After danielgerlag/workflow-core#288: what runs on after an error inside a saga is not what was expected.
    """
    try:
        await gather(book_flight(cents), book_hotel(cents))
    except Exception:
        return "not booked"
    return "booked"


CASES = [
    Found(lose_an_update, ONCE, 0, SHOP),
    Found(put_back_across, UNDONE, 1, Options(inputs={"cents": st.just(3)}, world=open_shop, view=price_only)),
    Found(take_both, "one booking", 1, SHOP | Options(invariants=[one_booking])),
    Found(keep_half, "all or nothing", 1, SHOP | Options(invariants=[all_or_nothing])),
]
