"""Sagas for the command line's tests; also run as a coordinator's process: ``python -m tests.cli.orders URL``."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from sagas import Coordinator, Rejected, Retry, gather, lock, receive, saga, step

# While this file is there, `unship` cannot undo.
BROKEN = "undo-is-broken"
# While this file is there, `asks` is another body, as after a deployment that does not fit.
CHANGED = "body-is-changed"


class SoldOut(Rejected):
    pass


@step
async def ship(item: str) -> str:
    return f"parcel with {item}"


@ship.compensator(retry=Retry(attempts=2, initial=0.001))
def unship(item: str) -> None:
    if Path(BROKEN).exists():
        raise ConnectionError("the depot does not answer")


@step(retry=Retry(attempts=3, initial=0.001))
async def flaky(item: str) -> str:
    raise TimeoutError("no answer")


@flaky.compensator
async def unflaky(item: str) -> None:
    pass


@step
async def sell(item: str) -> str:
    raise SoldOut(item)


@saga
async def good(item: str = "book", pieces: int = 1) -> tuple[str, ...]:
    return await gather(*(ship(item) for _ in range(pieces)))


@step
async def shout() -> None:
    raise SoldOut("red \x1b[31m alarm\x07\nsecond line")


@saga
async def loud() -> None:
    await shout()


@saga
async def bad(item: str) -> str:
    await ship(item)
    return await sell(item)


@saga
async def doubtful(item: str) -> str:
    await ship(item)
    return await flaky(item)


@saga
async def asks(item: str) -> bool:
    if Path(CHANGED).exists():  # noqa: ASYNC240 - against the rules on purpose
        await flaky(item)
    await ship(item)
    return await receive("approval", bool)


@saga
async def guards(sku: str) -> bool:
    async with lock(sku):
        await ship(sku)
        return await receive("approval", bool)


async def serve(url: str) -> None:
    async with Coordinator(url, sagas=[good, bad, doubtful, asks], poll=0.05):
        await anyio.sleep(60)


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1])
