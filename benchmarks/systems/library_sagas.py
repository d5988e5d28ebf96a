"""The benchmark's saga as a user of this library declares it."""

from __future__ import annotations

from benchmarks.workload import Approval, Done, Order, gate
from sagas import Rejected, receive, saga, step


@step
async def reserve_stock(order: Order) -> Done:
    """Step 1."""
    return Done(f"stock-{order.sku}")


@reserve_stock.compensator
async def release_stock(order: Order, result: Done | None) -> None:
    """Undo of step 1."""


@step
async def charge_card(order: Order) -> Done:
    """Step 2."""
    return Done(f"charge-{order.amount_cents}")


@charge_card.compensator
async def refund_card(order: Order, result: Done | None) -> None:
    """Undo of step 2."""


@step
async def book_courier(order: Order) -> Done:
    """Step 3, which the recovery benchmark holds."""
    await gate()
    return Done(f"courier-{order.sku}")


@book_courier.compensator
async def cancel_courier(order: Order, result: Done | None) -> None:
    """Undo of step 3."""


@step
async def print_label(order: Order) -> Done:
    """Step 4."""
    return Done(f"label-{order.sku}")


@print_label.compensator
async def void_label(order: Order, result: Done | None) -> None:
    """Undo of step 4."""


@step
async def confirm_order(order: Order) -> Done:
    """Step 5, which may be rejected."""
    if not order.accepted:
        raise Rejected("not accepted")
    return Done(f"order-{order.sku}")


@saga
async def five_steps(order: Order) -> Done:
    """Five steps in a row; the library undoes those before a refusal."""
    await reserve_stock(order)
    await charge_card(order)
    await book_courier(order)
    await print_label(order)
    return await confirm_order(order)


@saga
async def awaits_approval(order: Order) -> Approval:
    """One step, then a wait for a signal."""
    await book_courier(order)
    return await receive("approval", Approval)
