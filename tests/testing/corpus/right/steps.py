"""Steps as they should be: each hands on its key, and its compensator finds by it what there is to undo, if anything."""

from __future__ import annotations

from sagas import NotApplied, Rejected, Retry, current_step, step
from tests.testing.corpus.world import shop

__all__ = [
    "CardDeclined", "book", "bill", "charge", "charge_surely", "hand_over", "note", "pack", "reserve", "ship", "tell",
]  # fmt: skip


class CardDeclined(Exception):
    """The bank said no, and did nothing.

    Attributes:
        code: Its reason.
    """

    def __init__(self, code: str) -> None:
        super().__init__(f"declined: {code}")
        self.code = code


@step(retry=Retry(attempts=3), timeout=5.0)
async def reserve(pieces: int) -> int:
    if pieces > shop.stock:
        raise Rejected(f"there are no {pieces} left")
    return shop.reserved.enter(pieces)


@reserve.compensator
async def release() -> None:
    shop.reserved.take_back()


@step(rejects=[CardDeclined])
async def charge(cents: int) -> int:
    if cents > 1000:
        raise CardDeclined("limit")
    return shop.payments.enter(cents)


@charge.compensator
async def refund() -> None:
    shop.payments.take_back()


@step(retry=Retry(attempts=4), timeout=3.0, total_timeout=60.0)
async def charge_surely(cents: int) -> int:
    return shop.payments.enter(cents)


@charge_surely.compensator(retry=Retry(attempts=None, maximum=600.0))
async def refund_surely(result: int | None) -> None:
    shop.payments.take_back()


@charge_surely.probe
async def find_charge() -> int | NotApplied:
    found = shop.payments.find()
    return NotApplied() if found is None else found


@step
def pack(what: str) -> str:
    return shop.parcels.enter(what)


@pack.compensator
def unpack() -> None:
    shop.parcels.take_back()


@step(timeout=30.0)
async def ship(what: str) -> str:
    return shop.parcels.enter(what)


@ship.compensator
async def call_back() -> None:
    shop.parcels.take_back()


@step(retry=Retry(attempts=2))
async def book(what: str) -> str:
    return shop.bookings.enter(what)


@book.compensator
async def cancel_booking(what: str) -> None:
    shop.bookings.take_back()


@step(pivot=True, retry=Retry(attempts=None))
async def hand_over(what: str) -> str:
    return shop.parcels.enter(what)


@step(retry=Retry(attempts=None))
async def bill(cents: int) -> int:
    return shop.payments.enter(cents)


@step(retry=Retry(attempts=None))
async def tell(text: str) -> None:
    """Tells somebody, once for each key."""
    shop.notes[current_step().idempotency_key] = text


@step(atomic=True)
def note(text: str) -> str:
    return shop.bookings.enter(text)


@note.compensator
def strike_out() -> None:
    shop.bookings.take_back()
