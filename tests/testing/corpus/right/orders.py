"""Orders: one step after the other, points of no return, fallbacks."""

from __future__ import annotations

from hypothesis import strategies as st

from sagas import Rejected, StepInDoubt, gather, map_each, race, saga, scope
from sagas.testing import Run
from tests.testing.corpus.cases import Options, Right
from tests.testing.corpus.right.steps import (
    CardDeclined,
    bill,
    book,
    charge,
    charge_surely,
    hand_over,
    note,
    pack,
    reserve,
    ship,
    tell,
)
from tests.testing.corpus.world import Shop, books, open_shop

CENTS = st.integers(1, 1500)
PIECES = st.integers(1, 12)


def nothing_is_left(world: Shop, run: Run) -> None:
    """Once it is compensated, the shop is as it was."""
    assert run.status == "completed" or books(world) == books(Shop())


SHOP = Options(world=open_shop, view=books, invariants=[nothing_is_left])


@saga
async def place_order(pieces: int, cents: int) -> str:
    """Reserves, charges, ships."""
    await reserve(pieces)
    await charge(cents)
    return await ship(f"{pieces} pieces")


@saga
async def pay_surely(cents: int) -> int:
    """A payment with retries, timeouts and a probe."""
    paid = await charge_surely(cents)
    await pack(f"worth {paid}")
    return paid


@saga
async def pass_the_pivot(pieces: int, cents: int) -> str:
    """Everything that may fail comes before the point of no return, and what comes after it is tried until it works."""
    await reserve(pieces)
    await charge_surely(cents)
    parcel = await hand_over(f"{pieces} pieces")
    await bill(cents)
    await tell("it is on its way")
    return parcel


@saga
async def fall_back(cents: int) -> str:
    """A card that does not work, or may have worked, is undone before an invoice is written."""
    try:
        async with scope():
            await charge(cents)
            return await ship("prepaid")
    except (CardDeclined, StepInDoubt):
        await note(f"invoice over {cents}")
        return await ship("on account")


@saga
async def decline_politely(cents: int) -> str:
    """A refusal is an answer, and nothing is to be undone."""
    try:
        await charge(cents)
    except CardDeclined as declined:
        return f"sorry: {declined.code}"
    await pack("a present")
    return "thank you"


def paid_as_told(world: Shop, run: Run) -> None:
    """Whoever is thanked has paid, and nobody else."""
    if run.status == "completed":
        assert bool(world.payments.entries) == (run.result == "thank you")


@saga
async def fill_a_basket(items: list[int]) -> list[int]:
    """Reserves side by side, two at a time, and then packs."""
    reserved = await map_each(reserve, items, limit=2)
    await pack(f"{sum(reserved)} pieces")
    return reserved


@saga
async def do_both(pieces: int, cents: int) -> tuple[int, int]:
    """Reserves and charges side by side, each with something after it, then ships."""

    async def pay() -> int:
        paid = await charge_surely(cents)
        await note(f"receipt for {paid}")
        return paid

    async def fetch() -> int:
        found = await reserve(pieces)
        await pack(f"{found} pieces")
        return found

    both = await gather(fetch(), pay())
    await ship("everything")
    return both


@saga
async def take_the_faster(what: str) -> str:
    """Asks two suppliers; what the slower one has booked is cancelled."""
    winner = await race(book(f"{what} here"), book(f"{what} there"))
    await pack(winner)
    return winner


def one_supplier(world: Shop, run: Run) -> None:
    """One of them delivers, if it completes."""
    assert run.status != "completed" or len(world.bookings.entries) == 1


@saga
async def try_one_by_one(items: list[int]) -> int:
    """What cannot be had is left out, and what was begun for it is undone."""
    got = 0
    for item in items:
        try:
            async with scope():
                await pack(f"a box for {item}")
                got += await reserve(item)
        except Rejected:
            continue
    return got


def boxes_are_full(world: Shop, run: Run) -> None:
    """There is a box for everything that was got, and no empty one."""
    if run.status == "completed":
        assert len(world.parcels.entries) == len(world.reserved.entries)
        assert world.reserved.total == run.result


CASES = [
    Right(place_order, Options(**SHOP, inputs={"pieces": PIECES, "cents": CENTS}, late=True)),
    Right(pay_surely, Options(**SHOP, inputs={"cents": CENTS})),
    Right(
        pass_the_pivot, Options(**SHOP, inputs={"pieces": PIECES, "cents": CENTS}),
    ),
    Right(fall_back, Options(**SHOP, inputs={"cents": CENTS}, late=True)),
    Right(
        decline_politely,
        Options(world=open_shop, view=books, invariants=[nothing_is_left, paid_as_told], inputs={"cents": CENTS}),
    ),
    Right(fill_a_basket, Options(**SHOP, inputs={"items": st.lists(PIECES, max_size=4)})),
    Right(do_both, Options(**SHOP, inputs={"pieces": PIECES, "cents": CENTS})),
    Right(
        take_the_faster,
        Options(world=open_shop, view=books, invariants=[nothing_is_left, one_supplier], inputs={"what": st.just("tea")}),
    ),
    Right(
        try_one_by_one,
        Options(
            world=open_shop, view=books, invariants=[nothing_is_left, boxes_are_full],
            inputs={"items": st.lists(PIECES, max_size=3)},
        ),
    ),
]  # fmt: skip
