"""What is done twice, though the saga asked for it once."""

from __future__ import annotations

from uuid import uuid4

from hypothesis import strategies as st

from sagas import Rejected, Retry, current_step, map_each, saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

ONCE = "done is as if it had been done once"
UNDONE = "undone is as if it had never been"
SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


@step
async def ship(cents: int) -> str:
    return shop.parcels.enter(f"worth {cents}")


@ship.compensator
async def call_back() -> None:
    shop.parcels.take_back()


# --- charged twice ----------------------------------------------------------------------------------------------


@step(retry=Retry(attempts=3))
async def charge_counting(cents: int) -> int:
    shop.cash += cents
    return cents


@charge_counting.compensator
async def refund_counting(cents: int, result: int | None) -> None:
    shop.cash -= cents if result is not None else 0


@saga
async def charge_again(cents: int) -> int:
    """The step is tried again when its reply is lost, and charges again.

    oxidecomputer/omicron#6069: after a restart 31 sagas were recovered, and 3 failed, since a node ran a second time.
    """
    return await charge_counting(cents)


# --- a key of its own for every attempt -------------------------------------------------------------------------


@step(retry=Retry(attempts=3))
async def charge_by_attempt(cents: int) -> int:
    here = current_step()
    return shop.payments.entries.setdefault(f"{here.idempotency_key}/{here.attempt}", cents)


@charge_by_attempt.compensator
async def refund_by_attempt() -> None:
    key = current_step().undoes
    for mine in [x for x in shop.payments.entries if x.startswith(f"{key}/")]:
        del shop.payments.entries[mine]


@saga
async def charge_by_number(cents: int) -> int:
    """The bank is given the number of the attempt as part of the key, so that it takes each for a new payment.

    After medusajs/medusa#16681: a retry sends a different idempotency key, and a lost reply becomes a second refund.
    """
    return await charge_by_attempt(cents)


# --- refunded twice ---------------------------------------------------------------------------------------------


@step
async def charge(cents: int) -> int:
    return shop.payments.enter(cents)


@charge.compensator
async def refund_with_new_key(cents: int) -> None:
    if current_step().undoes in shop.payments.entries:
        shop.payments.entries[f"refund {uuid4()}"] = -cents


def refunded_once(world: Shop, run: Run) -> None:
    """Whatever was undone is paid back to the cent."""
    assert run.status == "completed" or world.payments.total == 0


@saga
async def refund_again(cents: int) -> str:
    """The compensator makes up a new key each time, so the bank cannot know that it has refunded already.

    medusajs/medusa#16681: retrying a refund after a failure at the provider sends a different idempotency key.
    """
    await charge(cents)
    return await ship(cents)


# --- stock put back twice ---------------------------------------------------------------------------------------


@step
def reserve(cents: int) -> str | None:
    if current_step().idempotency_key not in shop.notes:
        shop.notes[current_step().idempotency_key] = "reserved"
        shop.stock -= 1
    return "reserved"


@reserve.compensator
def put_back() -> None:
    if current_step().undoes in shop.notes:
        shop.stock += 1


def stock_only(world: Shop) -> int:
    """Shows the stock."""
    return world.stock


@saga
async def put_back_again(cents: int) -> str:
    """The reservation knows its key and the compensator does not take note: delivered twice, it puts back twice.

    hoangdaochuz/booking#23: a redelivered message changes the number of available seats once more.
    """
    await reserve(cents)
    return await ship(cents)


# --- one key for all --------------------------------------------------------------------------------------------


@step
async def charge_for(item: int) -> int:
    return shop.payments.entries.setdefault(current_step().saga_id, item)


@charge_for.compensator
async def refund_for() -> None:
    shop.payments.entries.pop(current_step().saga_id, None)


def everything_is_paid(world: Shop, run: Run) -> None:
    """An order that is completed is paid."""
    assert run.status != "completed" or world.payments.total == run.result, "the bank has less than was due"


@saga
async def charge_for_all(items: list[int]) -> int:
    """The saga's id is the key of every payment, so that the bank takes the second one for the first.

    After temporalio/sdk-typescript#1935 and others, where what should name one thing comes to name another.
    """
    await map_each(charge_for, items)
    return sum(items)


# --- created twice ----------------------------------------------------------------------------------------------


@step(retry=Retry(attempts=3), rejects=[ValueError])
async def create_subnet(name: str) -> str:
    if name in shop.notes:
        raise ValueError("it overlaps with an existing one")
    shop.notes[name] = "subnet"
    return name


@create_subnet.compensator
async def delete_subnet(name: str) -> None:
    shop.notes.pop(name, None)


@saga
async def create_network(name: str) -> str:
    """Run again, the step finds what it made itself, takes it for somebody else's, and says that nothing happened.

    oxidecomputer/omicron#6069: "failed to create default VPC Subnet, IP address range overlaps with existing".
    """
    try:
        return await create_subnet(name)
    except ValueError as error:
        raise Rejected(str(error)) from error


CASES = [
    Found(charge_again, ONCE, 1, SHOP),
    Found(charge_by_number, ONCE, 1, SHOP),
    Found(
        refund_again, "refunded once", 2,
        Options(inputs={"cents": st.just(1)}, world=open_shop, invariants=[refunded_once]),
    ),
    Found(put_back_again, UNDONE, 2, Options(inputs={"cents": st.just(1)}, world=open_shop, view=stock_only)),
    Found(
        charge_for_all, "everything is paid", 0,
        Options(
            inputs={"items": st.lists(st.integers(1, 9), min_size=1, max_size=3)},
            world=open_shop, view=books, invariants=[everything_is_paid],
        ),
    ),
    Found(create_network, UNDONE, 1, Options(inputs={"name": st.just("default")}, world=open_shop, view=books)),
]  # fmt: skip
