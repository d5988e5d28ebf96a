"""What a participant does, wherever it remembers requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sagas import Worker
from sagas.testing.contracts import Participant, TransportContract
from sagas.transport import Transport
from sagas.worker import LocalTransport


class WorkerContract(TransportContract):
    @pytest.fixture
    def inbox(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def transport(self, participant: Participant, inbox: str) -> AsyncIterator[Transport]:
        async with Worker(participant.steps, inbox=inbox) as worker:
            yield LocalTransport(worker)


class TestInMemory(WorkerContract):
    @pytest.fixture
    def inbox(self) -> str:
        return "memory:"


class TestOnSqlite(WorkerContract):
    @pytest.fixture
    def inbox(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'stock.db'}"


class TestOnPostgres(WorkerContract):
    @pytest.fixture
    def inbox(self, postgres_url: str) -> str:
        return postgres_url
