"""Taking what comes from a queue, whatever becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from sagas.errors import TransportClosed, TransportError
from sagas.transport import Delivery, MemoryQueue, Message
from sagas.transport import intake as module
from sagas.transport.intake import Intake

pytestmark = pytest.mark.anyio

logger = logging.getLogger("sagas.test")


class Shaky(MemoryQueue):
    """Raises what it is given, before it works."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__("shaky")
        self.errors = list(errors)

    async def receive(self, limit: int = 1, *, wait: float = 0.0) -> Sequence[Delivery]:
        if self.errors:
            raise self.errors.pop(0)
        return await super().receive(limit, wait=wait)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.0)


async def test_a_broker_that_is_away_is_told_once_and_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    queue = Shaky(*[TransportError("it is away")] * 3)
    intake = Intake(queue, "requests", logger)
    for _ in range(3):
        assert list(await intake.take(1)) == []
    for number in (1, 2):
        await queue.send(Message(body=b"%d" % number))
        assert [found.message.body for found in await intake.take(1)] == [b"%d" % number]
    assert caplog.messages == [
        "queue shaky gives no requests at the moment, and is asked until it does: it is away",
        "queue shaky gives requests again",
    ]


async def test_a_fault_is_told_with_its_place(caplog: pytest.LogCaptureFixture) -> None:
    assert list(await Intake(Shaky(KeyError("lost")), "replies", logger).take(1)) == []
    (record,) = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_a_closed_queue_says_so() -> None:
    queue = MemoryQueue()
    await queue.close()
    with pytest.raises(TransportClosed):
        await Intake(queue, "events", logger).take(1)
