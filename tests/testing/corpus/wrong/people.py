"""Signals that come twice, late, or never."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import strategies as st

from sagas import ReceiveTimeout, Rejected, receive, saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop


@step
async def pay_out(cents: int) -> int:
    return shop.payments.enter(cents)


@pay_out.compensator
async def claim_back() -> None:
    shop.payments.take_back()


@step
async def note_approval(by: str) -> str:
    return shop.bookings.enter(by)


@note_approval.compensator
async def strike_out() -> None:
    shop.bookings.take_back()


def two_people(world: Shop, run: Run) -> None:
    """Nothing is paid out that two people have not approved."""
    assert run.status != "completed" or len(set(world.bookings.entries.values())) == 2


@saga
async def count_one_for_two(cents: int) -> int:
    """Two approvals are needed, and one that is delivered twice counts as two.

    cadence-workflow/cadence#1477: "it would be useful if cadence server could handle dedupping of signals".
    moneat-io/moneat#489: a stale approval lets a later request through.
    """
    await note_approval(await receive("approval", str))
    await note_approval(await receive("approval", str))
    return await pay_out(cents)


def approved(world: Shop, run: Run) -> None:
    """Nothing is paid out that nobody has approved."""
    assert run.status != "completed" or world.bookings.entries


@saga
async def silence_is_consent(cents: int) -> int:
    """An approval that does not come in time is taken for a yes.

    After moneat-io/moneat#489 and its time to wait for an approval.
    """
    with suppress(ReceiveTimeout):  # nobody has said no
        await note_approval(await receive("approval", str, timeout=86_400))
    return await pay_out(cents)


@step
async def reserve(cents: int) -> int:
    return shop.reserved.enter(cents)


@reserve.compensator
async def release() -> None:
    shop.reserved.take_back()


@step
async def ship(cents: int) -> str:
    return shop.parcels.enter(f"worth {cents}")


@ship.compensator
async def call_back() -> None:
    shop.parcels.take_back()


def enough_is_paid(world: Shop, run: Run) -> None:
    """Nothing is shipped for less than it costs."""
    assert run.status != "completed" or world.notes.get("paid") == str(run.scenario.call.arguments["cents"])


@step
async def book_payment(amount: int) -> int:
    shop.notes["paid"] = str(amount)
    return amount


@book_payment.compensator
async def return_payment() -> None:
    shop.notes.pop("paid", None)


@saga
async def any_sum_will_do(cents: int) -> str:
    """The body does not compare what was paid with what was due.

    After coreshop/CoreShop#2529 and omise/omise-woocommerce#161, where the payment that comes is not the one that is
    waited for.
    """
    await reserve(cents)
    try:
        await book_payment(await receive("payment", int, timeout=3600))
    except ReceiveTimeout as error:
        raise Rejected("not paid in time") from error
    return await ship(cents)


CENTS = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)
NAMES = {"approval": st.sampled_from(["Ada", "Grace"])}
CASES = [
    Found(count_one_for_two, "two people", 1, CENTS | Options(signals=NAMES, invariants=[two_people])),
    Found(silence_is_consent, "approved", 1, CENTS | Options(signals=NAMES, invariants=[approved])),
    Found(
        any_sum_will_do, "enough is paid", 0,
        CENTS | Options(signals={"payment": st.integers(1, 9)}, invariants=[enough_is_paid]),
    ),
]  # fmt: skip
