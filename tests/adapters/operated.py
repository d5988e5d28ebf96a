"""A world for the console's tests: sagas that get stuck, run, wait and end, with names that nobody would give."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx2

from sagas import Coordinator, Rejected, Retry, SagaNotCompleted, lock, receive, saga, step
from sagas.core.secrets import Secret

__all__ = ["EVIL", "SAGAS", "Warehouse", "browsing", "mark", "settled", "start_all"]

# What must never be more than text, wherever it stands.
EVIL = "<script>alert('x')</script>\"'><img/src=x/onerror=alert(1)>&{{7*7}}"
HTML = {"accept": "text/html"}


class Warehouse:
    """Another service, which can be down."""

    is_up = False


@step
async def reserve(item: str, card: Annotated[str, Secret()]) -> dict[str, str]:
    return {"reservation": f"r-{item}", "card": card}


@reserve.compensator(retry=Retry(attempts=2, initial=0.001))
async def release(item: str, result: dict[str, str] | None) -> None:
    if not Warehouse.is_up:
        raise ConnectionError(f"the warehouse does not answer for {item}: {EVIL}")


@step(name=f"charge{EVIL}", atomic=True)
async def charge(item: str) -> None:
    raise Rejected(f"no such card {EVIL}")


@saga(name=f"order{EVIL}")
async def order(item: str, card: Annotated[str, Secret()]) -> None:
    await reserve(item, card)
    await charge(item)


@saga(name="await_payment")
async def await_payment(item: str) -> str:
    async with lock(f"lock{EVIL}"):
        paid: str = await receive("paid", str)
        return f"{item}: {paid}"


@saga(name="ship")
async def ship(item: str) -> str:
    return f"{item}{EVIL}"


SAGAS: list[Any] = [order, await_payment, ship]
CARD = "4111-1111-1111-1111"


async def start_all(coordinator: Coordinator) -> dict[str, str]:
    """Has a saga of every kind, and gives their ids; returns when they do nothing any more."""
    for number in range(2):
        handle = await coordinator.start(order(EVIL, CARD), id=f"stuck-{number}{EVIL}")
        with contextlib.suppress(SagaNotCompleted):
            await handle.result()
    for number in range(2):
        await coordinator.start(await_payment("lamp"), id=f"waiting-{number}")
    await coordinator.run(ship("lamp"), id="shipped")
    await settled(coordinator, "waiting-1", lambda view: bool(view.locks))
    return {"stuck": f"stuck-0{EVIL}", "waiting": "waiting-0", "ended": "shipped"}


async def settled(desk: Any, saga_id: str, holds: Any) -> Any:
    """Waits until something holds of a saga."""
    with anyio.fail_after(30):
        while not holds(view := await desk.get(saga_id)):  # noqa: ASYNC110 - a journal gives no sign
            await anyio.sleep(0.01)
    return view


@asynccontextmanager
async def browsing(
    app: Any, *, peer: str = "127.0.0.1", url: str = "http://localhost"
) -> AsyncGenerator[httpx2.AsyncClient]:
    """Gives a client of an ASGI app, with cookies as a browser has them."""
    transport = httpx2.ASGITransport(app, client=(peer, 40_000))
    async with httpx2.AsyncClient(transport=transport, base_url=url, headers=HTML) as browser:
        yield browser


def mark(page: httpx2.Response) -> str:
    """What a page's forms say to show that they are ours."""
    found = re.search(r'name="csrf" value="([0-9a-f]+)"', page.text)
    assert found, page.text
    return found[1]
