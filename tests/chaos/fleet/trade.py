"""What the sagas do: side by side, in scopes, with timers, signals, children, pivots, probes, and stubborn undos."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio import to_thread
from sqlmodel import Session

from sagas import NotApplied, Rejected, Retry, Saga, SagaCall, gather, map_each, receive, saga, scope, sleep, step
from tests.chaos.fleet.world import World

__all__ = ["CALLS", "SAGAS", "owed", "use"]

_here: list[World] = []
_LEGS = 3
_UNTIL_IT_WORKS = Retry(attempts=None, initial=0.02, maximum=0.5)
_A_FEW = Retry(attempts=4, initial=0.02, maximum=0.5)


def use(world: World) -> None:
    """Says where the steps of this process act."""
    _here[:] = [world]


def _act(kind: str, *, sure: bool = False) -> str:
    world = _here[0]
    number = world.begin()
    time.sleep(world.fate(kind, sure=sure).seconds)
    world.act(kind, number, sure=sure)
    return kind


async def _act_async(kind: str, *, sure: bool = False) -> str:
    # The business is asked in a thread: an event loop that waits for a database renews no lease.
    world = _here[0]
    number = await to_thread.run_sync(world.begin)
    await anyio.sleep(world.fate(kind, sure=sure).seconds)
    await to_thread.run_sync(lambda: world.act(kind, number, sure=sure))
    return kind


def _undo(kind: str) -> None:
    _here[0].undo(kind, failures=_here[0].grumble(kind))


@step
async def reserve(number: int) -> str:
    """Tried once, in the event loop."""
    return await _act_async("reserve")


@reserve.compensator(retry=_UNTIL_IT_WORKS)
async def release(number: int, result: str | None) -> None:
    await to_thread.run_sync(_undo, "reserve")


@step(retry=_A_FEW)
def charge(number: int) -> str:
    """In a worker thread, and tried again."""
    return _act("charge")


@charge.compensator(retry=_UNTIL_IT_WORKS)
def refund(number: int, result: str | None) -> None:
    _undo("charge")


@step
async def insure(number: int) -> str:
    """In a scope whose failure the body gets over."""
    return await _act_async("insure")


@insure.compensator(retry=_UNTIL_IT_WORKS)
async def uninsure(number: int) -> None:
    await to_thread.run_sync(_undo, "insure")


@step(retry=Retry(attempts=2, initial=0.01), timeout=0.6)
async def ship(number: int) -> str:
    """Takes too long at times."""
    return await _act_async("ship")


@ship.compensator(retry=_UNTIL_IT_WORKS)
async def unship(number: int) -> None:
    await to_thread.run_sync(_undo, "ship")


@step(retry=_A_FEW)
async def pay(number: int) -> str:
    """Whoever does not know whether it acted can ask."""
    return await _act_async("pay")


@pay.probe
async def find_payment(number: int) -> str | NotApplied:
    return "pay" if await to_thread.run_sync(_here[0].find) else NotApplied()


@pay.compensator(retry=_UNTIL_IT_WORKS)
async def pay_back(number: int) -> None:
    await to_thread.run_sync(_undo, "pay")


@step(retry=_A_FEW)
def book_leg(leg: int) -> str:
    """One of several, two at a time."""
    return _act("leg")


@book_leg.compensator(retry=_UNTIL_IT_WORKS)
def cancel_leg(leg: int) -> None:
    _undo("leg")


@step(pivot=True, retry=_UNTIL_IT_WORKS)
async def commit(number: int) -> str:
    """The point of no return."""
    return await _act_async("commit", sure=True)


@step(retry=_UNTIL_IT_WORKS)
async def confirm(number: int) -> str:
    """After it, so it works in the end."""
    return await _act_async("confirm", sure=True)


@step(transactional=True)
def enter(session: Session, number: int) -> int:
    """Writes into the journal's own database; every fifth entry is refused after it was written."""
    _here[0].enter(session.connection())
    if number % 5 == 4:
        raise Rejected(f"no {number}")
    return number


@enter.compensator(retry=_UNTIL_IT_WORKS)
async def strike(number: int) -> None:
    await to_thread.run_sync(_here[0].strike)


@step(retry=Retry(attempts=3, initial=2.0, jitter=0.0))
async def insist(number: int) -> str:
    """Its pauses are so long that they are records."""
    return await _act_async("insist")


@insist.compensator(retry=Retry(attempts=None, initial=2.0, factor=1.0))
async def desist(number: int) -> None:
    await to_thread.run_sync(lambda: _here[0].undo("insist", failures=min(1, _here[0].grumble("insist"))))


@step
async def settle(number: int) -> str:
    """Its compensator gives up before it works, so that an operator has to act."""
    return await _act_async("settle")


@settle.compensator(retry=Retry(attempts=3, initial=0.01))
async def unsettle(number: int) -> None:
    await to_thread.run_sync(lambda: _here[0].undo("settle", failures=4))


@step
async def veto(number: int) -> str:
    """Never wants it."""
    raise Rejected("never")


@saga
async def order(number: int) -> str:
    await gather(reserve(number), charge(number))
    try:
        async with scope():
            await insure(number)
    except Exception as error:
        _ = error
    await ship(number)
    return f"order {number}"


@saga
async def trip(number: int) -> int:
    """Waits for a signal, then cannot go back."""
    await map_each(book_leg, range(_LEGS), limit=2)
    await sleep(0.1 * (number % 10))
    approval = await receive("approval", int)
    await commit(number)
    await confirm(number)
    return approval


@saga
async def entry(number: int) -> int:
    await reserve(number)
    await pay(number)
    entered = await enter(number)
    await ship(number)
    return entered


@saga(timeout=2.0)
async def dream(number: int) -> str:
    """Waits for what never comes, until its time is up."""
    await reserve(number)
    return await receive("never", str)


@saga
async def parcel(number: int) -> str:
    await insure(number)
    return await ship(number)


@saga
async def bundle(number: int) -> str:
    """Has a child, and is patient."""
    await insist(number)
    await sleep(0.5)
    return await parcel(number)


@saga
async def grudge(number: int) -> str:
    """Is stuck in the end, unless an operator tries again."""
    await settle(number)
    await reserve(number)
    return await veto(number)


SAGAS: tuple[Saga[..., Any], ...] = (order, trip, entry, dream, parcel, bundle, grudge)
CALLS: Mapping[str, Callable[[int], SagaCall[Any]]] = {
    "order": order, "trip": trip, "entry": entry, "dream": dream, "bundle": bundle, "grudge": grudge,
}  # fmt: skip
# What a completed saga has done; an order may have insured in addition.
_OWED: Mapping[str, Counter[str]] = {
    "order": Counter(("reserve", "charge", "ship")),
    "trip": Counter({"leg": _LEGS, "commit": 1, "confirm": 1}),
    "entry": Counter(("reserve", "pay", "ship")),
    "bundle": Counter(("insist", "insure", "ship")),
    "dream": Counter(),
    "grudge": Counter(),
}


def owed(name: str, done: Counter[str]) -> bool:
    """Says whether what a completed saga did is what it had to do."""
    extra = done - _OWED[name]
    return done >= _OWED[name] and (not extra or (name == "order" and extra == Counter(("insure",))))
