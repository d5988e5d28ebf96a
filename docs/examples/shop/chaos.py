"""Tries to break the shop: ``python -m docs.examples.shop.chaos --orders 200 --kills 20 --seconds 60 --seed 7``.

Sends orders while processes are killed, paused and restarted, answers are lost and requests come late. Then it waits
until every order has ended, and holds the books of all three services against each other. Ends with 1 if they differ.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx2
from anyio import to_thread

from sagas.transport import open_queue

from .audit import Books, audit, read_books
from .payments import CARDS
from .proxy import BadLine
from .run import SERVICES, Shop, add_options, broker
from .stock import SHELF

__all__ = ["Options", "Story", "run"]

_PRICES = {"book": 1_999, "lamp": 4_550, "anvil": 19_901}
# Seconds after which payments gets again what it has not answered, and until every order must have ended.
_VISIBILITY, _PATIENCE = 3.0, 240.0
# Seconds between two replies that are lost on their way back from payments.
_DROP = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is done.

    Attributes:
        orders: How many are sent.
        kills: How many times a process is killed; about half as many times, one is paused.
        seconds: For how long orders are sent and things go wrong.
        seed: Of all that is drawn.
    """

    orders: int = 200
    kills: int = 20
    seconds: float = 60.0
    seed: int = 0


@dataclass(slots=True)
class Story:
    """What happened.

    Attributes:
        events: How often each kind of trouble was made.
        books: In the end.
        problems: What does not fit together.
        causes: Why orders were compensated.
        took: Seconds.
    """

    events: Counter[str] = field(default_factory=Counter[str])
    books: Books | None = None
    problems: list[str] = field(default_factory=list[str])
    causes: Counter[str] = field(default_factory=Counter[str])
    took: float = 0.0

    def told(self) -> str:
        """Writes it as a few lines."""
        assert self.books is not None, "it is over"
        books, ended = self.books, Counter(self.books.statuses.values())
        trouble = ", ".join(f"{count} {what}" for what, count in sorted(self.events.items()))
        causes = ", ".join(f"{count} {what}" for what, count in self.causes.most_common())
        return "\n".join([
            f"trouble   {trouble}",
            f"orders    {', '.join(f'{count} {status}' for status, count in sorted(ended.items()))} ({causes})",
            f"          sold {books.pieces_sold()} pieces for {_euros(books.sold())} in {len(books.sales)} sales",
            f"stock     {books.pieces_gone()} pieces gone, in {_left(books.movements)} reservations",
            f"payments  took {_euros(books.taken())}, in {_left(books.bookings)} charges",
            *(f"✗ {problem}" for problem in self.problems),
            "✗ they do not agree" if self.problems else f"✓ they agree to the cent, after {self.took:.0f} s",
        ])  # fmt: skip


def _euros(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def _left(entries: Mapping[str, list[tuple[str, int]]]) -> int:
    """Counts what was done and not undone."""
    return sum(1 if amount < 0 else -1 for each in entries.values() for _, amount in each)


class Chaos:
    """One run.

    Args:
        shop: Its processes are at the mercy of this.
        line: The way from orders to stock.
        options: See there.
        chance: For everything but the line.
    """

    def __init__(self, shop: Shop, line: BadLine, options: Options, chance: random.Random) -> None:
        self._shop = shop
        self._line = line
        self._options = options
        self._chance = chance
        self._locks = {service: anyio.Lock() for service in SERVICES}
        self.story = Story()

    async def run(self) -> Story:
        """Makes trouble, then waits for peace, and audits."""
        began = time.monotonic()
        async with httpx2.AsyncClient(base_url=self._shop.orders_url, timeout=5.0) as client:
            async with anyio.create_task_group() as group:
                for delay, order in self._orders():
                    group.start_soon(self._place, client, delay, order)
                for service, delay, seconds, killed in self._disruptions():
                    group.start_soon(self._disrupt, service, delay, seconds, killed)
                group.start_soon(self._drop_replies)
                group.start_soon(self._hold_requests)
            self._line.bad = False
            statuses = await self._wait_for_peace(client)
            await self._count_causes(client, statuses)
        self.story.events["answers of stock lost"] += self._line.lost
        self.story.events["requests to stock late"] += self._line.late
        await to_thread.run_sync(self._shop.stop)
        books = read_books(self._shop.environ, statuses, shelf=SHELF, cards=CARDS)
        self.story.books, self.story.problems = books, audit(books)
        self.story.took = time.monotonic() - began
        return self.story

    # --- orders -------------------------------------------------------------------------------------------------

    def _orders(self) -> Iterator[tuple[float, dict[str, object]]]:
        """Draws orders, and when each is sent; some must be refused."""
        draw = self._chance
        for number in range(self._options.orders):
            item = draw.choices(list(_PRICES), [6, 3, 1])[0]
            pieces = draw.randint(1, 3)
            yield draw.uniform(0, self._options.seconds), {
                "number": f"{number:04}", "item": item, "pieces": pieces, "cents": pieces * _PRICES[item],
                "card": draw.choices(list(CARDS), [7, 2, 1])[0], "country": draw.choices(["DE", "XX"], [9, 1])[0],
            }  # fmt: skip

    async def _place(self, client: httpx2.AsyncClient, delay: float, order: dict[str, object]) -> None:
        """Sends an order, until it was taken; as a customer does who has got no answer."""
        await anyio.sleep(delay)
        while True:
            try:
                answer = await client.put(f"/orders/{order['number']}", json=order)
            except httpx2.TransportError:
                await anyio.sleep(0.3)
            else:
                if answer.status_code == 202:  # noqa: PLR2004 - accepted
                    return
                if answer.status_code < 500:  # noqa: PLR2004 - it is our own mistake
                    raise RuntimeError(f"order {order['number']}: {answer.status_code} {answer.text}")
                await anyio.sleep(0.3)

    async def _wait_for_peace(self, client: httpx2.AsyncClient) -> dict[str, str]:
        """Waits until every order has ended, and everything that is late has arrived; gives how they ended."""
        statuses: dict[str, str] = {}
        with anyio.move_on_after(_PATIENCE):
            while True:
                try:
                    statuses = (await client.get("/orders")).json()
                except httpx2.TransportError:
                    pass
                else:
                    if len(statuses) == self._options.orders and set(statuses.values()) <= {"completed", "compensated"}:
                        break
                await anyio.sleep(0.2)
            while self._line.held:  # noqa: ASYNC110 - a proxy knows no events
                await anyio.sleep(0.1)
            await anyio.sleep(_VISIBILITY + 1.0)  # what payments did not answer comes once more
        return statuses

    async def _count_causes(self, client: httpx2.AsyncClient, statuses: dict[str, str]) -> None:
        """Counts why orders were refused."""
        for order, status in statuses.items():
            if status == "compensated":
                cause = str((await client.get(f"/orders/{order}")).json()["cause"])
                self.story.causes[cause.partition(":")[0]] += 1

    # --- trouble ------------------------------------------------------------------------------------------------

    def _disruptions(self) -> Iterator[tuple[str, float, float, bool]]:
        """Draws what happens to whom, when, for how long, and whether it is killed or only paused."""
        draw, options = self._chance, self._options
        for number in range(options.kills + options.kills // 2):
            killed = number < options.kills
            seconds = draw.uniform(0.1, 1.0) if killed else draw.uniform(0.5, 7.0)
            yield SERVICES[number % 3], draw.uniform(0.5, options.seconds), seconds, killed

    async def _disrupt(self, service: str, delay: float, seconds: float, killed: bool) -> None:  # noqa: FBT001 - drawn
        """Kills a process and starts another one, or pauses it for a while."""
        await anyio.sleep(delay)
        async with self._locks[service]:
            if killed:
                await to_thread.run_sync(self._shop.kill, service)
                await anyio.sleep(seconds)
                self._shop.start(service)
            else:
                self._shop.signal(service, signal.SIGSTOP)
                await anyio.sleep(seconds)
                self._shop.signal(service, signal.SIGCONT)
            self.story.events[f"{'kills' if killed else 'pauses'} of {service}"] += 1

    async def _drop_replies(self) -> None:
        """Takes replies of payments, now and then, that orders waits for."""
        await self._steal(self._shop.replies, "replies of payments lost", acknowledge=True)

    async def _hold_requests(self) -> None:
        """Takes requests to payments, now and then, and neither performs nor acknowledges them: they come later."""
        await self._steal(self._shop.requests, "requests to payments late", acknowledge=False)

    async def _steal(self, url: str, what: str, *, acknowledge: bool) -> None:
        queue = open_queue(url)
        try:
            with anyio.move_on_after(self._options.seconds):
                while True:
                    await anyio.sleep(_DROP)
                    for delivery in await queue.receive(1, wait=_DROP):
                        self.story.events[what] += 1
                        if acknowledge:
                            await queue.ack(delivery)
        finally:
            with anyio.CancelScope(shield=True):
                await queue.close()


async def run(home: Path, options: Options, *, store: str | None = None, url: str | None = None) -> Story:
    """Opens a shop, makes trouble in it, and tells what came of it.

    Args:
        home: Where its databases and logs are.
        options: What is done.
        store: See ``Shop``.
        url: Of the queues' broker; see ``Shop``.
    """
    chance = random.Random(options.seed)  # noqa: S311 - repeatable
    shop = Shop(home, store=store, broker=url, lease=3.0, visibility=_VISIBILITY)
    line = BadLine(shop.stock_port, random.Random(chance.random()))  # noqa: S311 - repeatable
    async with line.open():
        shop.environ["STOCK_URL"] = f"http://127.0.0.1:{line.port}/sagas"
        try:
            await to_thread.run_sync(shop.__enter__)
            return await Chaos(shop, line, options, chance).run()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(shop.stop)


def main() -> None:
    """Runs it as the command line says."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.chaos", description="Try to break the shop.")
    parser.add_argument("--orders", type=int, default=Options().orders)
    parser.add_argument("--kills", type=int, default=Options().kills)
    parser.add_argument("--seconds", type=float, default=Options().seconds, help="how long there is trouble")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    add_options(parser)
    given = parser.parse_args()
    options = Options(orders=given.orders, kills=given.kills, seconds=given.seconds, seed=given.seed)
    print(f"seed      {options.seed}: {options.orders} orders within {options.seconds:g} s", flush=True)
    home = Path(tempfile.mkdtemp(prefix="shop-"))
    with broker(home, given.nats) as url:
        story = anyio.run(lambda: run(home, options, store=given.store, url=url))
    print(story.told())
    print(f"databases and logs are in {home}")
    sys.exit(1 if story.problems else 0)


if __name__ == "__main__":
    main()
