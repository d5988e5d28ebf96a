"""Right sagas, whose steps keep what they did by idempotency key, as a good participant does."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sagas import ReceiveTimeout, Rejected, Retry, gather, receive, saga, scope, sleep, step
from sagas.context import current_step
from sagas.core.definitions import NotApplied

__all__ = ["World", "errand", "patient", "plain", "talk", "trip", "view", "world"]


@dataclass
class World:
    """What was done, by idempotency key; what was undone is never done again."""

    done: dict[str, str] = field(default_factory=dict[str, str])
    undone: set[str] = field(default_factory=set[str])


_world: ContextVar[World] = ContextVar("world")


@contextmanager
def world() -> Generator[World]:
    token = _world.set(World())
    try:
        yield _world.get()
    finally:
        _world.reset(token)


def view(world: World) -> list[str]:
    return sorted(world.done.values())


def act(what: str) -> str:
    key = current_step().idempotency_key
    if key in _world.get().undone:
        raise Rejected("it was undone before it was done")
    return _world.get().done.setdefault(key, what)


def undo() -> None:
    key = current_step().undoes
    assert key is not None
    _world.get().done.pop(key, None)
    _world.get().undone.add(key)


@step(retry=Retry(attempts=3, initial=5.0))
async def reserve(what: str) -> str:
    return act(f"reserve {what}")


@reserve.compensator(retry=Retry(attempts=2))
async def release(what: str) -> None:
    undo()


@step(timeout=5.0)
async def charge(amount: int) -> str:
    return act(f"charge {amount}")


@charge.compensator(retry=Retry(attempts=2, initial=5.0))
async def refund(amount: int, result: str | None) -> None:
    undo()


@step(retry=Retry(attempts=2))
async def book(place: str) -> str:
    return act(f"book {place}")


@book.compensator
async def unbook(place: str) -> None:
    undo()


@book.probe
async def find_booking(place: str) -> str | NotApplied:
    return _world.get().done.get(current_step().idempotency_key) or NotApplied()


@step(pivot=True, retry=Retry(attempts=2))
async def ship(what: str) -> str:
    return act(f"ship {what}")


@ship.probe
async def find_shipment(what: str) -> str | NotApplied:
    return _world.get().done.get(current_step().idempotency_key) or NotApplied()


@step(retry=Retry(attempts=None))
async def notify(what: str) -> str:
    return act(f"notify {what}")


@saga
async def plain(amount: int) -> str:
    await reserve("stock")
    await charge(amount)
    return await book("courier")


@saga
async def trip(amount: int) -> int:
    await reserve("seat")
    await gather(book("hotel"), book("car"), charge(amount))
    await sleep(3600.0)
    await reserve("table")
    return amount


@saga
async def errand(amount: int) -> str:
    await reserve("stock")
    try:
        async with scope():
            await charge(amount)
            await book("van")
    except Exception:
        await book("bicycle")
    await ship("parcel")
    await notify("customer")
    return "done"


@saga
async def talk(amount: int) -> int:
    await reserve("stock")
    try:
        first = await receive("answer", int, timeout=600.0)
    except ReceiveTimeout:
        first = 0
    await charge(amount)
    return first + await receive("answer", int)


@saga(timeout=86_400.0)
async def patient(amount: int) -> int:
    async def with_helper() -> None:
        await book("a")
        await book("b")

    await gather(with_helper(), reserve("c"), charge(amount))
    return amount
