"""Queues on a NATS server, which is killed at times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest

from sagas.testing.contracts import OpenQueue, QueueContract
from sagas_adapters.nats import NatsQueue
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some
from tests.support.servers.nats import NatsServer


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


class OnNats:
    leeway = 1.0

    @pytest.fixture
    async def connect(self, nats: NatsServer) -> AsyncIterator[OpenQueue]:
        name, opened = f"contract {uuid4().hex}", list[NatsQueue]()

        async def connect() -> NatsQueue:
            opened.append(NatsQueue(nats.url, queue=name, visibility=1.0, max_deliveries=3, dedup_window=2.0))
            return opened[-1]

        yield connect
        for queue in opened:
            await queue.close()


class TestNatsQueue(OnAsyncio, OnNats, QueueContract):
    """All of the contract."""


class TestNatsQueueOnOtherLoops(OnOtherLoops, OnNats, Some):
    """Some of it, or all."""
