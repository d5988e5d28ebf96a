"""The benchmark's saga for DBOS Transact, with the compensation that its users write by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from dbos import DBOS

from benchmarks.workload import Approval, Done, Order, gate


class Declined(Exception):
    """The fifth step's refusal."""


@DBOS.step()
async def reserve_stock(order: Order) -> Done:
    """Step 1."""
    return Done(f"stock-{order.sku}")


@DBOS.step()
async def release_stock(order: Order, done: Done) -> None:
    """Undo of step 1."""


@DBOS.step()
async def charge_card(order: Order) -> Done:
    """Step 2."""
    return Done(f"charge-{order.amount_cents}")


@DBOS.step()
async def refund_card(order: Order, done: Done) -> None:
    """Undo of step 2."""


@DBOS.step()
async def book_courier(order: Order) -> Done:
    """Step 3, which the recovery benchmark holds."""
    await gate()
    return Done(f"courier-{order.sku}")


@DBOS.step()
async def cancel_courier(order: Order, done: Done) -> None:
    """Undo of step 3."""


@DBOS.step()
async def print_label(order: Order) -> Done:
    """Step 4."""
    return Done(f"label-{order.sku}")


@DBOS.step()
async def void_label(order: Order, done: Done) -> None:
    """Undo of step 4."""


@DBOS.step()
async def confirm_order(order: Order) -> Done:
    """Step 5, which may be rejected."""
    if not order.accepted:
        raise Declined("not accepted")
    return Done(f"order-{order.sku}")


@DBOS.workflow()
async def five_steps(order: Order) -> Done:
    """Five steps in a row; a refusal undoes those before it in reverse."""
    undo: list[Callable[[], Awaitable[None]]] = []
    try:
        reservation = await reserve_stock(order)
        undo.append(partial(release_stock, order, reservation))
        charge = await charge_card(order)
        undo.append(partial(refund_card, order, charge))
        courier = await book_courier(order)
        undo.append(partial(cancel_courier, order, courier))
        label = await print_label(order)
        undo.append(partial(void_label, order, label))
        return await confirm_order(order)
    except Declined:
        for compensate in reversed(undo):
            await compensate()
        raise


@DBOS.workflow()
async def awaits_approval(order: Order) -> Approval | None:
    """One step, then a wait for a message."""
    await book_courier(order)
    approval: Approval | None = await DBOS.recv_async("approval", timeout_seconds=86_400)
    return approval
