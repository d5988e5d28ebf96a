"""A world and sagas that the tests of the checks share."""

from __future__ import annotations

from sagas import Rejected, current_step, receive, saga, step

__all__ = ["OutOfStock", "Shop", "buy", "buy_if_approved", "new_shop", "put_back", "shop", "take", "total"]


class OutOfStock(Rejected):
    """There is not enough."""


class Shop:
    """Keeps what was taken, by key, as a participant with an idempotency key does."""

    def __init__(self) -> None:
        self.stock = 10
        self.taken: dict[str, int] = {}
        self.gifts: set[str] = set()

    def take(self, key: str, items: int) -> None:
        if key in self.taken:
            return
        if items > self.stock:
            raise OutOfStock(f"{items} of {self.stock}")
        self.taken[key] = items
        self.stock -= items

    def put_back(self, key: str) -> None:
        self.stock += self.taken.get(key, 0)
        self.taken[key] = 0


_last = Shop()


def new_shop() -> Shop:
    """Makes a world, and puts it where the steps find it."""
    global _last  # noqa: PLW0603 - as the fakes of a test suite are
    _last = Shop()
    return _last


def shop() -> Shop:
    """Gives the world of the run."""
    return _last


def total(world: Shop) -> int:
    """Gives what counts of a world."""
    return world.stock


@step
async def take(items: int) -> int:
    shop().take(current_step().idempotency_key, items)
    return items


@take.compensator
async def put_back() -> None:
    shop().put_back(current_step().undoes or "")


@saga
async def buy(items: int) -> int:
    return await take(items) + await take(items)


@saga
async def buy_if_approved(items: int) -> int:
    taken = await take(items)
    if not await receive("approval", bool, timeout=3600):
        raise OutOfStock("not approved")
    return taken
