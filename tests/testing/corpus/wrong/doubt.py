"""What is taken for done, or for not done, though nobody knows."""

from __future__ import annotations

from hypothesis import strategies as st

from sagas import NotApplied, Rejected, Retry, StepInDoubt, current_step, saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

ONCE = "done is as if it had been done once"
UNDONE = "undone is as if it had never been"
STUCK = "an operator can finish it"
SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


# --- the forgotten case -----------------------------------------------------------------------------------------


@step(timeout=5.0)
async def charge(cents: int) -> str:
    shop.payments.enter(cents)
    return current_step().idempotency_key


@charge.compensator
async def refund_if_charged(result: str | None) -> None:
    if result is None:
        return  # it failed, so there is nothing to refund
    shop.payments.entries.pop(result, None)


@saga
async def forget_doubt(cents: int) -> str:
    """The compensator takes "no result" for "nothing happened", and keeps the money when a reply was lost.

    apache/servicecomb-pack#221: a method that has committed and then fails is not compensated. Just so in
    oxidecomputer/steno#66, cdddg/py-saga-orchestration#1.
    """
    return await charge(cents)


# --- a refund of what was never paid ----------------------------------------------------------------------------


@step
async def charge_cash(cents: int) -> int:
    shop.cash += cents
    return cents


@charge_cash.compensator
async def refund_cash(cents: int) -> None:
    shop.cash -= cents


@saga
async def refund_nothing(cents: int) -> int:
    """The compensator pays back without asking whether anything was ever paid.

    apache/incubator-seata#5256 and #4180 discuss this "empty rollback".
    """
    return await charge_cash(cents)


# --- an undo that fails if there is nothing to undo ---------------------------------------------------------------


@step
async def insert_record(name: str) -> str:
    shop.notes[name] = "record"
    return name


@insert_record.compensator
async def delete_record(name: str) -> None:
    del shop.notes[name]


@saga
async def delete_nothing(name: str) -> str:
    """The compensator fails if there is no such record: if the request was lost, or it has deleted it already.

    oxidecomputer/omicron#2095: deleting the record failed the second time. apache/incubator-seata-go-samples#53: an
    empty rollback is an error, and tried again without end.
    """
    return await insert_record(name)


# --- an undo that needs the result ------------------------------------------------------------------------------


@step
async def pay(cents: int) -> dict[str, str]:
    shop.payments.enter(cents)
    return {"intent": current_step().idempotency_key}


@pay.compensator
async def cancel_payment(result: dict[str, str] | None) -> None:
    assert result is not None
    shop.payments.entries.pop(result["intent"], None)


@saga
async def need_the_response(cents: int) -> str:
    """The compensator reads the payment's id out of a response that nobody received.

    hoangdaochuz/booking#39: the response is nil when the compensation runs, which crashes instead of refunding.
    """
    return (await pay(cents))["intent"]


# --- all or nothing, it says ------------------------------------------------------------------------------------


@step(atomic=True)
async def reserve_all(pieces: list[int]) -> int:
    for piece in pieces:
        if piece > shop.stock:
            raise Rejected(f"there are no {piece} left")
        shop.stock -= piece
    return len(pieces)


@reserve_all.compensator
async def release_all(pieces: list[int], result: int | None) -> None:
    shop.stock += sum(pieces) if result is not None else 0


@saga
async def reserve_some(pieces: list[int]) -> int:
    """The step says that it does all or nothing, and stops in the middle.

    oxidecomputer/omicron#1466 and #3097: one action creates several things, and what it made before it failed is left.
    """
    return await reserve_all(pieces)


# --- a timeout, taken for a no ----------------------------------------------------------------------------------


@step(rejects=[TimeoutError])
async def charge_or_time_out(cents: int) -> int:
    return shop.payments.enter(cents)


@charge_or_time_out.compensator
async def refund_if_known() -> None:
    shop.payments.take_back()


@saga
async def trust_a_timeout(cents: int) -> int:
    """A client's timeout is declared to mean that nothing happened.

    woocommerce/woocommerce#21083: the payment times out, the order is cancelled, and the money arrives.
    """
    return await charge_or_time_out(cents)


# --- somebody else is asked instead -----------------------------------------------------------------------------


@step
async def charge_elsewhere(cents: int) -> int:
    return shop.payments.enter(cents)


@charge_elsewhere.compensator
async def refund_elsewhere() -> None:
    shop.payments.take_back()


def paid_once(world: Shop, run: Run) -> None:
    """A completed order is paid once."""
    assert run.status != "completed" or world.payments.total == run.result


@saga
async def ask_another(cents: int) -> int:
    """When the first bank does not answer, the second is asked, and the first is forgotten.

    oxidecomputer/steno#66: an action may not be called failed unless it is known that it made no change.
    """
    try:
        await charge(cents)
    except StepInDoubt:
        await charge_elsewhere(cents)
    return cents


# --- a probe that says yes --------------------------------------------------------------------------------------


@step
async def book(room: str) -> str:
    return shop.bookings.enter(room)


@book.compensator
async def cancel_booking() -> None:
    shop.bookings.take_back()


@book.probe
async def find_booking(room: str) -> str | NotApplied:
    return shop.bookings.find() or room


@saga
async def believe_in_a_room(room: str) -> str:
    """The probe falls back on what should be there, so that a room that nobody booked counts as booked.

    After agentjido/jizoku#155: a failure is dropped, and ``:ok`` is returned whatever came of it.
    """
    return await book(room)


# --- a probe that says no while it is under way -------------------------------------------------------------------


@step(retry=Retry(attempts=2))
async def order_transfer(cents: int) -> str:
    shop.notes[current_step().idempotency_key] = f"to be booked: {cents}"
    return "accepted"


@order_transfer.compensator
async def call_off() -> None:
    shop.notes.pop(current_step().undoes or "", None)


@order_transfer.probe
async def find_transfer() -> str | NotApplied:
    return "accepted" if shop.payments.find() is not None else NotApplied()


@saga
async def look_in_the_wrong_place(cents: int) -> str:
    """The probe looks for what is booked, and an order that is accepted is booked only at night.

    omise/omise-woocommerce#161: of two charges the one that is looked at has timed out, and the other went through.
    """
    return await order_transfer(cents)


# --- an error that becomes a value ------------------------------------------------------------------------------


@step
async def charge_if_possible(cents: int) -> str | None:
    try:
        if cents > 5:
            raise Rejected("the card is declined")
        return str(shop.payments.enter(cents))
    except Rejected:
        return None


@charge_if_possible.compensator
async def refund_if_charged_before() -> None:
    shop.payments.take_back()


@step
async def send(cents: int) -> str:
    return shop.parcels.enter(f"worth {cents}")


@send.compensator
async def call_back() -> None:
    shop.parcels.take_back()


def sent_means_paid(world: Shop) -> None:
    """Nothing is on its way that is not paid."""
    assert len(world.parcels.entries) <= len(world.payments.entries)


@saga
async def overlook_a_refusal(cents: int) -> str:
    """The step catches the refusal and returns ``None``, at which nobody looks.

    agentjido/jizoku#155: the result of an update is ignored, and the failed branch returns ``:ok``.
    """
    await charge_if_possible(cents)
    return await send(cents)


# --- a late request ---------------------------------------------------------------------------------------------


@step(timeout=5.0)
async def order_room(room: str) -> str:
    return shop.notes.setdefault(current_step().idempotency_key, room)


@order_room.compensator
async def cancel_room() -> None:
    shop.notes.pop(current_step().undoes or "", None)


@saga
async def come_too_late(room: str) -> str:
    """The hotel does not remember what was cancelled, so a request that comes after its cancellation books a room.

    apache/servicecomb-pack#346: "compensation method invoke before compensable method". Also
    changmingxie/tcc-transaction#299, which asks for a defence.
    """
    return await order_room(room)


# --- a probe that asks too early --------------------------------------------------------------------------------


@step(retry=Retry(attempts=2))
async def pay_by_wire(cents: int) -> int:
    return shop.payments.enter(cents)


@pay_by_wire.compensator
async def pay_back() -> None:
    shop.payments.take_back()


@pay_by_wire.probe
async def find_wire() -> int | NotApplied:
    return shop.payments.find() or NotApplied()


@saga
async def ask_too_early(cents: int) -> int:
    """The probe says "not applied" of a request that is still on its way, and the bank takes it afterwards.

    apache/servicecomb-pack#346 once more: what was given up comes late. A probe may say so only if the bank will refuse
    whatever comes from now on.
    """
    return await pay_by_wire(cents)


ROOM = Options(inputs={"room": st.just("12a")}, world=open_shop, view=books)
CASES = [
    Found(forget_doubt, UNDONE, 1, SHOP),
    Found(refund_nothing, UNDONE, 1, SHOP),
    Found(delete_nothing, STUCK, 1, Options(inputs={"name": st.just("disk")}, world=open_shop, view=books)),
    Found(need_the_response, STUCK, 1, SHOP),
    Found(
        reserve_some, UNDONE, 0,
        Options(inputs={"pieces": st.lists(st.integers(1, 8), max_size=3)}, world=open_shop, view=books),
    ),
    Found(trust_a_timeout, UNDONE, 1, SHOP),
    Found(ask_another, "paid once", 1, SHOP | Options(invariants=[paid_once])),
    Found(believe_in_a_room, ONCE, 1, ROOM),
    Found(look_in_the_wrong_place, UNDONE, 2, SHOP),
    Found(overlook_a_refusal, "sent means paid", 0, SHOP | Options(invariants=[sent_means_paid])),
    Found(ask_too_early, UNDONE, 2, SHOP | Options(late=True)),
    Found(come_too_late, UNDONE, 1, ROOM | Options(late=True)),
]  # fmt: skip
