"""What the services agree on: the types that travel, and the steps that others may call. Each service has a copy.

The steps are only *declared* here. Stock and payments perform them: see ``stock.py`` and ``payments.py``.
"""

from __future__ import annotations

from pydantic import BaseModel

from sagas import Rejected, Retry, step


class Order(BaseModel):
    """What a customer wants, and what it costs."""

    number: str
    item: str
    pieces: int
    cents: int
    card: str
    country: str


class Reservation(BaseModel):
    """Pieces that stock keeps for an order."""

    order: str
    item: str
    pieces: int


class Charge(BaseModel):
    """Money that payments has taken."""

    order: str
    cents: int


class OutOfStock(Rejected):
    """There are not so many pieces, so none is reserved."""


class CardDeclined(Rejected):
    """The card has not so much money, so none is taken."""


# Longer than a step may take when all is well. What is not answered by then is asked for again, under the same key.
PATIENCE = 2.0
# Enough for a reply that gets lost. While a service is away, its route is left alone, and attempts wait. When they are
# used up all the same, the step is in doubt, and is undone.
A_FEW_TIMES = Retry(attempts=5, initial=0.2, maximum=2.0)
# An undo has to get through, however long the other service is away.
FOR_EVER = Retry(attempts=None, initial=0.1, maximum=2.0)


@step(name="stock.reserve", remote=True, retry=A_FEW_TIMES, timeout=PATIENCE, total_timeout=60.0)
async def reserve_stock(order: Order) -> Reservation:
    """Takes pieces from the shelf. Raises OutOfStock."""
    raise NotImplementedError


@reserve_stock.compensator(retry=FOR_EVER, timeout=PATIENCE)
async def release_stock(order: Order) -> None:
    """Puts them back."""
    raise NotImplementedError


@step(name="payments.charge", remote=True, retry=A_FEW_TIMES, timeout=PATIENCE, total_timeout=60.0)
async def charge_card(order: Order) -> Charge:
    """Takes money from the card. Raises CardDeclined."""
    raise NotImplementedError


@charge_card.compensator(retry=FOR_EVER, timeout=PATIENCE)
async def refund_card(order: Order) -> None:
    """Gives it back."""
    raise NotImplementedError
