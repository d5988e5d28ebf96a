# ruff: noqa: INP001, ARG001 - a script beside the pages, in no package; steps say what they are about
"""Makes the pictures of ``how-to/console.md`` and of the README: of a real console with real sagas, in a real browser.

Run ``python docs/make_screenshots.py`` after changing how the console looks. Needs the extra ``dev`` and Debian's
Chromium.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from sagas import Client, Coordinator, Rejected, Retry, SagaNotCompleted, gather, receive, saga, step
from sagas_adapters.console import Visitor, serve_console
from tests.support.chromium import chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

IMAGES = Path(__file__).parent / "how-to" / "images"
_TOO_MUCH = 13_00
_SIZE = {"width": 1040, "height": 660}


class CardDeclined(Rejected):
    """The bank says no."""


@step
async def reserve_stock(order: str, item: str) -> str:
    """Puts something aside."""
    await anyio.sleep(random.uniform(0.02, 0.05))  # noqa: S311 - so that there is something to see
    return f"reservation-{order}"


@reserve_stock.compensator(retry=Retry(attempts=3, initial=0.05))
async def release_stock(order: str, item: str) -> None:
    """Puts it back."""
    await anyio.sleep(0.02)
    if item == "piano":
        raise ConnectionError("warehouse 7 does not answer: connection refused")


@step
async def charge_card(order: str, cents: int) -> str:
    """Takes the money."""
    await anyio.sleep(random.uniform(0.03, 0.08))  # noqa: S311 - as above
    if cents == _TOO_MUCH:
        raise CardDeclined("the card is declined")
    return f"charge-{order}"


@charge_card.compensator
async def refund_card(order: str, result: str | None) -> None:
    """Gives it back."""
    await anyio.sleep(0.03)


@step(atomic=True, retry=Retry(attempts=2, initial=0.05))
async def book_courier(order: str, item: str) -> str:
    """Has it fetched."""
    await anyio.sleep(0.03)
    if item in ("piano", "anvil"):
        raise ValueError(f"no courier takes a {item}")
    return f"courier-{order}"


@saga(version="2")
async def place_order(order: str, item: str, cents: int) -> str:
    """Sells something."""
    await gather(reserve_stock(order, item), charge_card(order, cents))
    if item == "desk":
        await receive("approval")
    return await book_courier(order, item)


@saga
async def refund(order: str) -> None:
    """Gives money back."""
    await charge_card(order, 10_00)


async def main() -> None:
    """Makes all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        store = f"sqlite:///{directory}/orders.db"
        async with Coordinator(store, sagas=[place_order, refund], name="worker-1") as coordinator:
            await _sell(coordinator)
            async with anyio.create_task_group() as group, chromium() as browser:
                await _take(browser, await _serve(group, store))
                group.cancel_scope.cancel()


async def _sell(coordinator: Coordinator) -> None:
    """Has orders of every kind."""
    items = ["lamp", "lamp", "anvil", "chair", "piano", "desk", "lamp", "chair", "lamp", "piano", "chair", "desk"]
    for number, item in enumerate(items):
        cents = _TOO_MUCH if number == 7 else 40_00  # noqa: PLR2004 - one of them
        order = f"order-{1040 + number}"
        handle = await coordinator.start(place_order(order, item, cents), id=order)
        if item != "desk":
            with contextlib.suppress(SagaNotCompleted):
                await handle.result()
    await coordinator.run(refund("order-1017"), id="refund-1017")


async def _serve(group: Any, store: str) -> str:
    """Serves the console; gives its URL."""
    ready, urls = anyio.Event(), list[str]()

    def started(url: str) -> None:
        urls.append(url)
        ready.set()

    async def serve() -> None:
        visitor = Visitor("grace", "operator")
        await serve_console(Client(store), port=0, loopback=visitor, title="Orders", started=started)

    group.start_soon(serve)
    await ready.wait()
    return urls[0]


async def _take(browser: Browser, url: str) -> None:
    """Takes the pictures."""
    for scheme in ("light", "dark"):
        page = await browser.new_page(viewport=_SIZE, color_scheme=scheme)  # type: ignore[arg-type]  # one of these
        for name, address in (("list", ""), ("saga", "saga?id=order-1044"), ("stuck", "stuck")):
            await page.goto(url + address)
            await page.locator("#live").wait_for()
            height: int = await page.evaluate("document.body.scrollHeight")
            clip = {"x": 0, "y": 0, "width": _SIZE["width"], "height": min(height, _SIZE["height"])}
            await page.screenshot(path=IMAGES / f"console-{name}-{scheme}.png", clip=clip)  # type: ignore[arg-type]  # as above
        await page.close()


if __name__ == "__main__":
    anyio.run(main)
