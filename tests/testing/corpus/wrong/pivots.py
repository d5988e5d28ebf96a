"""Points of no return in the wrong place, or missing."""

from __future__ import annotations

from hypothesis import strategies as st

from sagas import Rejected, Retry, saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

STUCK = "an operator can finish it"
SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


class OutOfStock(Rejected):
    """There is none left."""


@step
async def charge(cents: int) -> int:
    return shop.payments.enter(cents)


@charge.compensator
async def refund() -> None:
    shop.payments.take_back()


@step(pivot=True, retry=Retry(attempts=None))
async def capture(cents: int) -> int:
    return shop.payments.enter(cents)


@step(rejects=[OutOfStock])
async def reserve(cents: int) -> int:
    if cents > 5:
        raise OutOfStock(f"nothing for {cents}")
    return shop.reserved.enter(cents)


@reserve.compensator
async def release() -> None:
    shop.reserved.take_back()


@saga
async def pay_first(cents: int) -> int:
    """The money is captured for good before anybody has looked whether there is something to sell.

    After microservices-patterns/ftgo-application#107, where a confirmation that fails late leaves the order in between.
    """
    await capture(cents)
    return await reserve(cents)


@step
async def write_letter(cents: int) -> None:
    text = f"your order of {cents} is on its way"
    if text not in shop.letters:
        shop.letters.append(text)


def letters_are_true(world: Shop, run: Run) -> None:
    """Nobody is told of an order that there is not."""
    assert run.status == "completed" or not world.letters


@saga
async def write_too_early(cents: int) -> int:
    """A letter, which nobody can take back, is sent before the last step that may fail.

    After woocommerce/woocommerce#21083, where what a customer is told and what has become of the order differ.
    """
    await charge(cents)
    await write_letter(cents)
    return await reserve(cents)


CASES = [
    Found(pay_first, STUCK, 0, SHOP),
    Found(write_too_early, "letters are true", 1, SHOP | Options(invariants=[letters_are_true])),
]
