"""Sagas that wait: for people, for a date, for each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from hypothesis import strategies as st

from sagas import (
    ReceiveTimeout,
    Rejected,
    gather,
    lock,
    now,
    random,
    receive,
    record,
    saga,
    scope,
    sleep,
    sleep_until,
    uuid4,
    version,
)
from sagas.testing import Run
from tests.testing.corpus.cases import Options, Right
from tests.testing.corpus.right.orders import nothing_is_left
from tests.testing.corpus.right.steps import book, charge, charge_surely, note, pack, reserve, ship, tell
from tests.testing.corpus.world import Shop, books, open_shop

SHOP = Options(world=open_shop, view=books, invariants=[nothing_is_left])
CENTS = {"cents": st.integers(1, 9)}
DAY = 86_400


@dataclass(frozen=True)
class Approval:
    """What a person says.

    Attributes:
        by: Who.
        granted: Whether it may go on.
    """

    by: str
    granted: bool


@saga
async def ask_first(cents: int) -> str:
    """Waits a day for somebody to approve; silence is a no."""
    await reserve(1)
    try:
        approval = await receive("approval", Approval, timeout=DAY)
    except ReceiveTimeout as error:
        raise Rejected("nobody has said yes") from error
    if not approval.granted:
        raise Rejected(f"{approval.by} says no")
    await charge_surely(cents)
    return await ship(f"approved by {approval.by}")


@saga
async def ask_two(cents: int) -> int:
    """Collects approvals until two people have given one, whoever is heard twice."""
    heard: list[str] = []
    while len(heard) < 2:
        name = await receive("name", str, timeout=DAY)
        if name not in heard:
            heard.append(name)
            await note(name)
    return await charge_surely(cents)


def two_people(world: Shop, run: Run) -> None:
    """Nothing is paid out that two people have not approved."""
    assert run.status != "completed" or len(set(world.bookings.entries.values())) == 2


@saga
async def remind(cents: int) -> str:
    """Reminds twice, a week apart, and gives up."""
    await reserve(1)
    for reminder in range(3):
        try:
            paid = await receive("payment", int, timeout=7 * DAY)
        except ReceiveTimeout:
            await note(f"reminder {reminder}")
            continue
        if paid >= cents:
            return await ship("paid")
        await note(f"{cents - paid} are missing")
    raise Rejected("never paid")


@saga
async def subscribe(cents: int) -> int:
    """Charges every month, on the day."""
    began = await now()
    for month in range(1, 4):
        await charge(cents)
        await sleep_until(began + timedelta(days=30 * month))
    return 3 * cents


@saga
async def cool_off(cents: int) -> str:
    """Waits two weeks before it becomes serious."""
    await book("a trial")
    await sleep(14 * DAY)
    await charge_surely(cents)
    return await pack("the whole thing")


@saga(timeout=3600.0)
async def hurry(cents: int) -> str:
    """Is undone after an hour, wherever it is."""
    await reserve(1)
    await charge(cents)
    await receive("picked up", bool)
    return await ship("by hand")


@saga
async def draw_a_prize(cents: int) -> str:
    """Takes chance, time and a setting from the journal, and never from the machine."""
    number = await uuid4()
    chance = await random()
    limit = await record(lambda: 5, int)
    await charge(cents)
    prize = "a lamp" if chance < 0.5 or cents > limit else "a smile"
    return await ship(f"{prize} for {number} on {(await now()).isoformat()}")


@saga
async def book_a_room(night: int) -> str:
    """Books a room; a saga of its own, and part of others."""
    await note(f"room for night {night}")
    return await book(f"room {night}")


@saga
async def travel(nights: int) -> list[str]:
    """Books rooms side by side, by child sagas, and a flight; all or nothing."""
    async with scope():
        rooms = await gather(*(book_a_room(night) for night in range(nights)))
        flight = await book("flight")
    await charge_surely(100 * nights)
    return [*rooms, flight]


def all_or_nothing(world: Shop, run: Run) -> None:
    """There are as many beds as nights, and a flight."""
    if run.status == "completed":
        assert len(world.bookings.entries) == 2 * run.scenario.call.arguments["nights"] + 1


@saga
async def transfer(cents: int) -> int:
    """Keeps other sagas away from both accounts meanwhile."""
    async with lock("account 1"), lock("account 2"):
        await charge(cents)
        await note("moved")
    await tell("it is done")
    return cents


@saga(name="grow")
async def grow_anew(cents: int) -> str:
    """The next release, in which a check comes first, but for sagas that have gone without it."""
    if await version("check first"):
        await note("checked")
    await charge(cents)
    await sleep(DAY)
    return await ship("grown")


@saga
async def grow(cents: int) -> str:
    """Is replaced by the next release at any moment."""
    await charge(cents)
    await sleep(DAY)
    return await ship("grown")


NAMES = st.sampled_from(["Ada", "Grace", "Barbara"])
CASES = [
    Right(
        ask_first,
        Options(**SHOP, inputs=CENTS, signals={"approval": st.builds(Approval, NAMES, st.booleans())}),
    ),
    Right(
        ask_two,
        Options(
            world=open_shop, view=books, invariants=[nothing_is_left, two_people], inputs=CENTS,
            signals={"name": NAMES},
        ),
    ),
    Right(remind, Options(**SHOP, inputs=CENTS, signals={"payment": st.integers(1, 9)})),
    Right(subscribe, Options(**SHOP, inputs=CENTS)),
    Right(cool_off, Options(**SHOP, inputs=CENTS)),
    Right(hurry, Options(**SHOP, inputs=CENTS)),
    Right(draw_a_prize, Options(**SHOP, inputs=CENTS)),
    Right(
        travel,
        Options(
            world=open_shop, view=books, invariants=[nothing_is_left, all_or_nothing],
            inputs={"nights": st.integers(0, 3)},
        ),
    ),
    Right(transfer, Options(world=open_shop, view=books, inputs=CENTS)),
    Right(grow, Options(**SHOP, inputs=CENTS, deploys=[grow_anew])),
]  # fmt: skip
