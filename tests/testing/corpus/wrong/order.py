"""What is undone by hand, twice, in the wrong order, by somebody else, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from sagas import saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

if TYPE_CHECKING:
    from sagas import StepCall

UNDONE = "undone is as if it had never been"
STUCK = "an operator can finish it"
SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


def nothing_is_left(world: Shop, run: Run) -> None:
    """Once it is compensated, the shop is as it was."""
    assert run.status == "completed" or books(world) == books(Shop())


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


# --- by hand, and once more -------------------------------------------------------------------------------------


@step
async def pay_back(cents: int) -> None:
    shop.cash -= cents


@saga
async def undo_twice(cents: int) -> str:
    """The body refunds by hand what the library refunds too.

    After danielgerlag/workflow-core#242, where nobody can tell which of two levels compensates what.
    """
    await charge(cents)
    try:
        return await ship(cents)
    except Exception:
        await pay_back(cents)
        raise


# --- by hand, and not when it is cancelled ------------------------------------------------------------------------


@step
async def take_stock() -> None:
    shop.stock -= 1


@step
async def put_back() -> None:
    shop.stock += 1


@saga
async def undo_by_hand(cents: int) -> str:
    """What the body undoes by hand is not undone when the saga is cancelled.

    temporalio/sdk-java#305: "in the case of cancellation the compensations are not going to run".
    """
    await take_stock()
    try:
        return await ship(cents)
    except Exception:
        await put_back()
        raise


# --- forward --------------------------------------------------------------------------------------------------------


@step
async def open_folder(name: str) -> None:
    shop.notes[name] = "folder"


@step(atomic=True)
async def delete_folder(name: str) -> None:
    assert not [x for x in shop.notes if x.startswith(f"{name}/")], "there are files in it"
    shop.notes.pop(name, None)


@step
async def write_file(name: str) -> None:
    shop.notes[f"{name}/file"] = "file"


@step
async def delete_file(name: str) -> None:
    shop.notes.pop(f"{name}/file", None)


def no_orphans(world: Shop, run: Run) -> None:
    """Nothing is left of a project that was not made."""
    assert run.status == "completed" or not world.notes


@saga
async def undo_forward(name: str) -> None:
    """A list of undos is walked from its beginning, so the folder cannot go, since its file is still there.

    restatedev/examples, ``BookingWorkflow.java``, documents reverse order and loops forward; jbosstm/narayana#2301
    made compensators run "in the opposite order from which they enlisted" in 2024 only.
    """
    undos: list[StepCall[None]] = []
    try:
        undos.append(delete_folder(name))
        await open_folder(name)
        undos.append(delete_file(name))
        await write_file(name)
        await ship(1)
    except Exception:
        for undo in undos:
            await undo
        raise


# --- registered after the act -----------------------------------------------------------------------------------


@step
async def make_nic(cents: int) -> int:
    shop.stock -= 1
    return cents


@step
async def note_nic(cents: int) -> int:
    return cents


@note_nic.compensator
async def remove_nic(result: int | None) -> None:
    if result is not None:
        shop.stock += 1


@saga
async def undo_by_the_next(cents: int) -> int:
    """What a step made is undone by the compensator of the step after it, which may never succeed.

    oxidecomputer/omicron#1466: the undo is attached to a neighbour. temporalio/temporal-compensating-transactions#4 and
    durable-workflow/workflow#89: a compensation is registered only when the activity has returned.
    """
    await make_nic(cents)
    return await note_nic(cents)


# --- what comes later -------------------------------------------------------------------------------------------


@step
async def reserve(cents: int) -> int:
    return shop.reserved.enter(cents)


@reserve.compensator
async def release_by_label(cents: int) -> None:
    del shop.notes[f"label {cents}"]
    shop.reserved.take_back()


@step
async def print_label(cents: int) -> str:
    shop.notes[f"label {cents}"] = "printed"
    return "printed"


@saga
async def undo_needs_the_next(cents: int) -> str:
    """The compensator needs what only a later step makes.

    oxidecomputer/omicron#3894: undo actions look up a node that is not there, and no test got so far.
    """
    await reserve(cents)
    await print_label(cents)
    return await ship(cents)


# --- whatever is newest -----------------------------------------------------------------------------------------


@step
async def append_line(text: str) -> str:
    return shop.bookings.enter(text)


@append_line.compensator
async def remove_last_line() -> None:
    if shop.bookings.entries:
        shop.bookings.entries.popitem()


def open_with_a_line() -> Shop:
    """Makes a world in which somebody else has written already."""
    open_shop()
    shop.bookings.entries["of somebody else"] = "preface"
    return shop


@saga
async def undo_the_newest(text: str) -> str:
    """The compensator takes away what is newest, whoever wrote it.

    After grumpitect/SAGA#2, where a compensation acts on what the values of the whole saga hold by then.
    """
    await append_line("chapter 1")
    await append_line(text)
    return await ship(1)


# --- for a business reason --------------------------------------------------------------------------------------


@step
async def deposit(cents: int) -> int:
    return shop.payments.enter(cents)


@deposit.compensator
async def withdraw(cents: int) -> None:
    if cents > 5:
        raise ValueError("so much is paid out at the counter only")
    shop.payments.take_back()


@saga
async def undo_refused(cents: int) -> str:
    """The compensator refuses larger sums, today and ever.

    dtm-labs/dtm#306 and elsa-workflows/elsa-core#4541: a compensation that fails is tried again without end.
    microservices-patterns/ftgo-application#107: it was not implemented yet.
    """
    await deposit(cents)
    return await ship(cents)


# --- dropped errors ---------------------------------------------------------------------------------------------


@step
async def invest(cents: int) -> int:
    return shop.payments.enter(cents)


@invest.compensator
async def sell(cents: int) -> None:
    try:
        if cents > 5:
            raise ValueError("the market is closed")
        shop.payments.take_back()
    except ValueError:
        pass  # somebody will look at the log


@saga
async def undo_pretended(cents: int) -> str:
    """The compensator drops its errors, so that the saga is called compensated and the money is gone.

    agentjido/jizoku#155: a failed compensation returns ``:ok``. hoangdaochuz/booking#39: a refund that fails is logged.
    """
    await invest(cents)
    return await ship(cents)


NAMES = Options(inputs={"name": st.just("saga")}, world=open_shop, view=books)
CASES = [
    Found(undo_twice, "nothing is left", 1, SHOP | Options(invariants=[nothing_is_left])),
    Found(undo_by_hand, "nothing is left", 1, SHOP | Options(invariants=[nothing_is_left])),
    Found(undo_forward, "no orphans", 1, NAMES | Options(invariants=[no_orphans])),
    Found(undo_by_the_next, "nothing is left", 1, SHOP | Options(invariants=[nothing_is_left])),
    Found(undo_needs_the_next, STUCK, 1, SHOP),
    Found(undo_the_newest, UNDONE, 1, Options(inputs={"text": st.text()}, world=open_with_a_line, view=books)),
    Found(undo_refused, STUCK, 1, SHOP),
    Found(undo_pretended, UNDONE, 1, SHOP),
]
