"""What may be deployed in place of ``tests.cli.orders``: code that does not fit its open sagas, and some that does."""

from __future__ import annotations

from sagas import receive, saga, step
from tests.cli.orders import good, ship


@step
async def weigh(item: str) -> float:
    return 1.0


@saga(name="asks")
async def weighs_first(item: str) -> bool:
    await weigh(item)
    await ship(item)
    return await receive("approval", bool)


@saga(name="asks")
async def ships_the_whole_lot(item: str) -> bool:
    await ship(f"a lot of {item}")
    return await receive("approval", bool)


@saga(name="asks", version="2", continues=("1",))
async def asks_since(item: str) -> bool:
    await ship(item)
    return await receive("approval", bool)


BOTH = [asks_since, [good]]
NEITHER = "no declaration"


class Reversed:
    """A codec."""

    def encode(self, value: bytes, context: object) -> bytes:
        return value[::-1]

    def decode(self, value: bytes, context: object) -> bytes:
        return value[::-1]
