"""Whatever consumers do, in whatever order, a queue in a SQL database does what the one in memory does."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas.errors import DeliveryExpired
from sagas.stores.opening import store_for
from sagas.stores.sql import SqlStore
from sagas.transport import Delivery, MemoryQueue, Message, Queue
from sagas_adapters.sql import SqlQueue
from tests.transport.virtual import VirtualClock

_VISIBILITY = 10.0
_names = (f"q{number}" for number in itertools.count())


class Both:
    """The model and the real one, which are asked for the same."""

    def __init__(self, store: SqlStore, clock: VirtualClock) -> None:
        self.clock = clock
        terms: dict[str, Any] = {"visibility": _VISIBILITY, "max_deliveries": 3}
        name = next(_names)
        model = MemoryQueue(**terms, clock=clock)
        self.models: list[Queue] = [model, model.connect()]
        self.reals: list[Queue] = [SqlQueue(store, name, **terms, clock=clock.now) for _ in range(2)]
        self.given: list[tuple[Delivery, Delivery]] = []

    async def send(self, messages: list[Message], who: int) -> None:
        for queue in (self.models[who], self.reals[who]):
            await queue.send(*messages)

    async def receive(self, limit: int, who: int) -> None:
        model, real = [await queue.receive(limit) for queue in (self.models[who], self.reals[who])]
        assert [(x.message, x.count) for x in real] == [(x.message, x.count) for x in model]
        self.given.extend(zip(model, real, strict=True))

    async def act(self, what: str, which: int, who: int, seconds: float) -> None:
        """Acknowledges, gives back or holds something that was delivered at any time."""
        if not self.given:
            return
        pair = self.given[which % len(self.given)]
        ends: list[bool] = []
        for queue, delivery in ((self.models[who], pair[0]), (self.reals[who], pair[1])):
            try:
                if what == "ack":
                    await queue.ack(delivery)
                elif what == "nack":
                    await queue.nack(delivery, delay=seconds, reason="no")
                else:
                    await queue.extend(delivery, seconds + 1.0)
            except DeliveryExpired:
                ends.append(False)
            else:
                ends.append(True)
        assert ends[0] == ends[1], what

    async def ack_all(self, who: int) -> None:
        """Acknowledges many together, some of them late; of those of one message, the last."""
        last = {pair[1].receipt.partition(".")[0]: pair for pair in self.given[-5:]}
        ends: list[bool] = []
        for number, queue in enumerate((self.models[who], self.reals[who])):
            try:
                await queue.ack(*[pair[number] for pair in last.values()])
            except DeliveryExpired:
                ends.append(False)
            else:
                ends.append(True)
        assert ends[0] == ends[1]

    async def dead_letters(self, who: int) -> list[tuple[str, str]]:
        model, real = [await queue.dead_letters() for queue in (self.models[who], self.reals[who])]
        assert sorted((x.message.body, x.count, x.reason) for x in model) == sorted(
            (x.message.body, x.count, x.reason) for x in real
        )
        ids = {letter.message.body: letter.id for letter in real}
        return [(letter.id, ids[letter.message.body]) for letter in model]

    async def redrive(self, which: int, who: int) -> None:
        if letters := await self.dead_letters(who):
            pair = letters[which % len(letters)]
            counts = [
                await queue.redrive([one]) for queue, one in zip((self.models[who], self.reals[who]), pair, strict=True)
            ]
            assert counts == [1, 1]


_moments = st.sampled_from([0.0, 0.5, _VISIBILITY / 2, _VISIBILITY, 2 * _VISIBILITY])
_who = st.integers(0, 1)
_which = st.integers(0, 30)
_message = st.fixed_dictionaries(
    {
        "group": st.sampled_from([None, None, "a", "b"]),
        "delay": st.sampled_from([0.0, 0.0, 0.0, 0.5, _VISIBILITY]),
        "dedup_id": st.sampled_from([None, None, None, "x", "y"]),
    }
)
_step = st.one_of(
    st.tuples(st.just("send"), st.lists(_message, min_size=1, max_size=4), _who),
    st.tuples(st.just("receive"), st.integers(1, 5), _who),
    st.tuples(st.just("receive"), st.integers(1, 5), _who),
    st.tuples(st.sampled_from(["ack", "nack", "extend"]), _which, _who, _moments),
    st.tuples(st.just("ack_all"), _who),
    st.tuples(st.just("pass"), _moments),
    st.tuples(st.just("redrive"), _which, _who),
)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    """As fast as can be: nothing here is about crashes."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('model') / 'q.db'}?synchronous=OFF"
        drop = None
    else:
        server = request.getfixturevalue("postgres_server")
        created = server.create_database()
        url, drop = f"{created}&synchronous_commit=off", (server, created)
    store = store_for(url)
    assert isinstance(store, SqlStore)
    yield store
    store.close()
    if drop is not None:
        drop[0].drop_database(drop[1])


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_step, min_size=5, max_size=25))
def test_it_does_what_the_one_in_memory_does(store: SqlStore, steps: list[tuple[Any, ...]]) -> None:
    anyio.run(_follow, store, steps)


async def _follow(store: SqlStore, steps: list[tuple[Any, ...]]) -> None:
    clock = VirtualClock()
    both = Both(store, clock)
    bodies = itertools.count()
    try:
        for what, *rest in steps:
            match what:
                case "send":
                    await both.send([Message(body=str(next(bodies)).encode(), **each) for each in rest[0]], rest[1])
                case "receive":
                    await both.receive(*rest)
                case "ack_all":
                    await both.ack_all(*rest)
                case "pass":
                    await clock.advance(rest[0])
                case "redrive":
                    await both.redrive(*rest)
                case _:
                    await both.act(what, *rest)
        await both.receive(100, 0)
    finally:
        for queue in both.reals:
            await queue.close()


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
@pytest.mark.parametrize("seed", range(3))
async def test_a_group_stays_in_order_whoever_consumes_it(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, seed: int
) -> None:
    """Consumers with connections of their own, as in processes of their own; some give back what they got."""
    url = f"sqlite:///{tmp_path / 'q.db'}" if database == "sqlite" else request.getfixturevalue("postgres_url")
    rng = random.Random(seed)
    stores = [store_for(url) for _ in range(3)]
    queues = [SqlQueue(store, "q", max_deliveries=1000) for store in stores]  # type: ignore[arg-type]  # they are SQL
    groups, each = [f"g{number}" for number in range(5)], 12
    await queues[0].receive()
    held: set[str] = set()
    done: dict[str, list[int]] = defaultdict(list)
    counts: Counter[str] = Counter()

    async def send(queue: SqlQueue, group: str) -> None:
        for number in range(each):
            await queue.send(Message(body=str(number).encode(), group=group))

    async def consume(queue: SqlQueue) -> None:
        while counts.total() < each * len(groups):
            found = await queue.receive(rng.choice([1, 3, 10]), wait=0.05)
            names = [delivery.message.group or "" for delivery in found]
            assert len(set(names)) == len(names), "two of a group at once"
            assert not held.intersection(names), "two of a group at once"
            held.update(names)
            await anyio.sleep(0.001)
            for delivery, name in zip(found, names, strict=True):
                held.remove(name)
                if rng.random() < 0.2:
                    await queue.nack(delivery)
                else:
                    done[name].append(int(delivery.message.body))
                    counts[name] += 1
                    await queue.ack(delivery)

    with anyio.fail_after(120.0):
        async with anyio.create_task_group() as tasks:
            for group in groups:
                tasks.start_soon(send, rng.choice(queues), group)
            for queue in queues * 2:
                tasks.start_soon(consume, queue)
    assert done == {group: list(range(each)) for group in groups}
    for queue, store in zip(queues, stores, strict=True):
        await queue.close()
        store.close()
