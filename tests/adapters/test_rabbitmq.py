"""Queues on a RabbitMQ server, which is killed at times."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import anyio
import pytest

from sagas.testing.contracts import OpenQueue, QueueContract
from sagas_adapters.rabbitmq import RabbitQueue
from tests.adapters.loops import OnAsyncio, OnOtherLoops, Some
from tests.support.servers.rabbitmq import RabbitServer, need_rabbitmq


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    need_rabbitmq()
    with RabbitServer() as server:
        yield server


class OnRabbit:
    leeway = 2.0

    @pytest.fixture
    async def connect(self, rabbit: RabbitServer) -> AsyncIterator[OpenQueue]:
        name, opened = f"contract {uuid4().hex}", list[RabbitQueue]()

        async def connect() -> RabbitQueue:
            opened.append(RabbitQueue(rabbit.url, name, visibility=1.0, max_deliveries=3))
            return opened[-1]

        yield connect
        for queue in opened:
            await queue.close()


class TestRabbitQueue(OnAsyncio, OnRabbit, QueueContract):
    """All of the contract."""


class TestRabbitQueueOnOtherLoops(OnOtherLoops, OnRabbit, Some):
    """Some of it, or all."""
