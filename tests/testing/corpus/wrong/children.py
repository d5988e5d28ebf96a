"""Sagas in sagas, and sagas that outlive a release."""

from __future__ import annotations

from hypothesis import strategies as st

from sagas import Rejected, saga, sleep, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


@step
async def charge(cents: int) -> int:
    return shop.payments.enter(cents)


@charge.compensator
async def refund() -> None:
    shop.payments.take_back()


@step
async def ship(cents: int) -> str:
    return shop.parcels.enter(f"worth {cents}")


@ship.compensator
async def call_back() -> None:
    shop.parcels.take_back()


@step(rejects=[Rejected])
async def take_deposit(cents: int) -> int:
    shop.cash += cents if shop.bookings.find() is None else 0
    shop.bookings.enter("deposit")
    return cents


def paid_and_shipped(world: Shop, run: Run) -> None:
    """Nothing is shipped unpaid."""
    assert len(world.parcels.entries) <= len(world.payments.entries)


@saga
async def pay(cents: int) -> bool:
    """Says whether it worked, instead of failing."""
    try:
        await charge(cents)
    except Exception:
        return False
    return True


@saga
async def trust_the_child(cents: int) -> str:
    """The child tells by its result that it failed, and its parent does not ask.

    After discovery-ukraine/saga-lara-flow#48: a parent carries on past a child that failed, and what it did then is
    lost from the rollback.
    """
    await pay(cents)
    return await ship(cents)


def nothing_is_left(world: Shop, run: Run) -> None:
    """Once it is compensated, the shop is as it was."""
    assert run.status == "completed" or books(world) == books(Shop())


@saga
async def deposit(cents: int) -> int:
    """Takes a deposit, for good."""
    return await take_deposit(cents)


@saga
async def forget_the_child(cents: int) -> str:
    """A child that has completed cannot be undone with its parent, since its step has no compensator.

    discovery-ukraine/saga-lara-flow#22: "a child that has already completed never takes part in the parent's rollback".
    """
    await deposit(cents)
    return await ship(cents)


@saga(name="deliver", version="2")
async def deliver_anew(cents: int) -> str:
    """The next release, which ships first."""
    parcel = await ship(cents)
    await charge(cents)
    return parcel


@saga
async def deliver(cents: int) -> str:
    """The next release is another version, and nobody is left who goes on with sagas of this one.

    oxidecomputer/omicron#6804: sagas are not compatible across releases, and a new one "could accidentally start up"
    while some are live. oxidecomputer/omicron#7678 finds no easy solution.
    """
    await charge(cents)
    await sleep(86_400)
    return await ship(cents)


CASES = [
    Found(trust_the_child, "paid and shipped", 1, SHOP | Options(invariants=[paid_and_shipped])),
    Found(forget_the_child, "nothing is left", 1, SHOP | Options(invariants=[nothing_is_left])),
    Found(deliver, "it terminates", 1, SHOP | Options(deploys=[deliver_anew])),
]
