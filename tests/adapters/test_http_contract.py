"""Over HTTP, a participant is what it is in the same process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sagas.testing.contracts import Participant, TransportContract
from sagas_adapters.http import HttpTransport, Signing, participant_app
from tests.adapters.serving import LocalParticipant, serving, serving_on_trio

KEY = b"k" * 32


class TestOverUvicorn(TransportContract):
    @pytest.fixture
    async def transport(self, participant: Participant) -> AsyncGenerator[HttpTransport]:
        with serving(participant_app(LocalParticipant(participant.steps))) as url:
            transport = HttpTransport(url)
            yield transport
            await transport.close()


class TestWithAServerOnUvloopAndSignatures(TransportContract):
    @pytest.fixture
    async def transport(self, participant: Participant, tmp_path: Path) -> AsyncGenerator[HttpTransport]:
        inbox = f"sqlite:///{tmp_path / 'stock.db'}"
        app = participant_app(LocalParticipant(participant.steps, inbox), sign=Signing(KEY))
        with serving(app, loop="uvloop", root_path="/stock") as url:
            transport = HttpTransport(url, sign=Signing(KEY))
            yield transport
            await transport.close()


@pytest.mark.parametrize("anyio_backend", [pytest.param(("trio", {}), id="trio")])
class TestOverHypercornOnTrio(TransportContract):
    @pytest.fixture
    async def transport(self, participant: Participant) -> AsyncGenerator[HttpTransport]:
        async with serving_on_trio(participant_app(LocalParticipant(participant.steps))) as url:
            transport = HttpTransport(url)
            yield transport
            await transport.close()


class TestWithPolls(TransportContract):
    """Every step is answered with a promise first."""

    @pytest.fixture
    async def transport(self, participant: Participant) -> AsyncGenerator[HttpTransport]:
        with serving(participant_app(LocalParticipant(participant.steps), wait=0.000001)) as url:
            transport = HttpTransport(url)
            yield transport
            await transport.close()
