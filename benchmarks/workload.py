"""The saga that every system runs: its payloads, its clients, and how its latencies are read."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.model import Case

STEPS = 5
UNDONE = 4


@dataclass(frozen=True, slots=True)
class Order:
    """The input of a saga. Small, as most are."""

    sku: str
    quantity: int
    amount_cents: int
    accepted: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a step."""

    reference: str


@dataclass(frozen=True, slots=True)
class Approval:
    """What a parked saga waits for."""

    approved: bool


ORDERS = {
    Case.COMPLETED: Order("sku-1234", 2, 4999),
    Case.COMPENSATED: Order("sku-1234", 2, 4999, accepted=False),
}


class Gate:
    """Stands in the third step: counts who comes by and, when shut, holds them for good.

    Attributes:
        shut: Whether whoever arrives stays.
        arrived: How many third steps have begun in this process.
        visit: What to call on each arrival.
    """

    def __init__(self) -> None:
        """Open, with nobody there yet."""
        self.shut = False
        self.arrived = 0
        self.visit: Callable[[], None] | None = None

    async def __call__(self) -> None:
        """Pass, or wait until the process is killed."""
        self.arrived += 1
        if self.visit is not None:
            self.visit()
        if self.shut:
            await asyncio.Event().wait()


gate = Gate()


@dataclass(frozen=True, slots=True)
class Timing:
    """A closed loop's sagas.

    Attributes:
        elapsed: Seconds from the first start to the last end.
        latencies: Seconds each saga took, in ascending order.
    """

    elapsed: float
    latencies: list[float]

    @property
    def per_second(self) -> float:
        """Sagas a second."""
        return len(self.latencies) / self.elapsed

    def percentile(self, percent: float) -> float:
        """The latency, in milliseconds, that `percent` of the sagas did not exceed."""
        rank = min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))
        return self.latencies[rank] * 1_000


async def closed_loop(
    run: Callable[[str], Awaitable[object]], *, concurrency: int, seconds: float, prefix: str
) -> Timing:
    """Keeps `concurrency` sagas going for `seconds`, then lets them end.

    The drain counts, in sagas and in time: a system that finishes many at once is neither
    favoured nor punished by where a window happens to end.

    Args:
        run: Starts the saga with the given id and returns when it has ended.
        concurrency: How many clients.
        seconds: How long a client goes on to start another; each runs at least one.
        prefix: What the ids begin with; must not recur in the same database.
    """
    latencies: list[float] = []
    numbers = itertools.count()
    begun = time.perf_counter()

    async def client() -> None:
        now = begun
        while now < begun + seconds:
            started = time.perf_counter()
            await run(saga_id(prefix, next(numbers)))
            now = time.perf_counter()
            latencies.append(now - started)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return Timing(time.perf_counter() - begun, sorted(latencies))


async def spread(run: Callable[[str], Awaitable[object]], *, count: int, prefix: str) -> None:
    """Runs `count` sagas, at most 256 at a time."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await run(saga_id(prefix, number))

    await asyncio.gather(*(client() for _ in range(min(256, count))))


def saga_id(prefix: str, number: int) -> str:
    """An id as an application would give it: readable, and of one length."""
    return f"{prefix}-{number:07}"
