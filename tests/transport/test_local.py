"""A participant in the same process is the reference for every other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anyio
import pytest

from sagas import step
from sagas.errors import DeclarationError
from sagas.testing.contracts import Participant, TransportContract
from sagas.transport import LocalTransport, StepRequest


class TestLocalTransport(TransportContract):
    @pytest.fixture
    def transport(self, participant: Participant) -> LocalTransport:
        return LocalTransport(participant.steps)


async def test_a_step_is_given_up_at_its_deadline_and_then_in_doubt() -> None:
    @step
    async def linger() -> None:
        await anyio.sleep_forever()

    transport = LocalTransport([linger])
    request: dict[str, Any] = {"step": "linger", "saga_id": "s", "path": "1"}
    reply = await transport.call(
        StepRequest(kind="action", idempotency_key="k", deadline=time.time() + 0.01, **request)
    )
    assert reply.outcome == "in_doubt"
    assert reply.error is not None
    assert reply.error.type == "builtins:TimeoutError"
    asked = await transport.call(StepRequest(kind="probe", idempotency_key="k", **request))
    assert asked.outcome == "in_doubt"


async def test_a_cancelled_attempt_leaves_its_step_in_doubt() -> None:
    undone: list[None] = []

    @step
    async def linger() -> None:
        await anyio.sleep_forever()

    @linger.compensator
    async def unlinger() -> None:
        undone.append(None)

    transport = LocalTransport([linger])
    request: dict[str, Any] = {"step": "linger", "saga_id": "s", "path": "1"}
    with anyio.move_on_after(0.01):
        await transport.call(StepRequest(kind="action", idempotency_key="k", **request))
    reply = await transport.call(StepRequest(kind="undo", idempotency_key="k:undo", undoes="k", **request))
    assert reply.outcome == "succeeded"
    assert undone == [None]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_a_step_lets_out_is_a_failure_of_it() -> None:
    """And not an order to whoever called it."""

    @step
    async def abandon() -> None:
        raise asyncio.CancelledError

    transport = LocalTransport([abandon])
    request = StepRequest(kind="action", step="abandon", saga_id="s", path="1", idempotency_key="k")
    reply = await transport.call(request)
    assert reply.outcome == "in_doubt"


async def test_a_rejection_does_not_take_back_an_earlier_doubt() -> None:
    """The first attempt may have acted, so what it did is undone."""
    tries: list[str] = []

    @step(rejects=(LookupError,))
    async def flaky() -> None:
        tries.append("act")
        raise (OSError("reset") if len(tries) == 1 else LookupError("declined: duplicate"))

    @flaky.compensator
    async def unflaky() -> None:
        tries.append("undo")

    transport = LocalTransport([flaky])
    request: dict[str, Any] = {"step": "flaky", "saga_id": "s", "path": "1"}
    replies = [await transport.call(StepRequest(kind="action", idempotency_key="k", **request)) for _ in range(2)]
    assert [reply.outcome for reply in replies] == ["in_doubt", "rejected"]
    await transport.call(StepRequest(kind="undo", idempotency_key="k:undo", undoes="k", **request))
    assert tries == ["act", "act", "undo"]


def test_a_transactional_step_is_refused() -> None:
    @step(transactional=True)
    def write(session: object) -> None:
        raise AssertionError

    with pytest.raises(DeclarationError, match="LocalTransport has no database"):
        LocalTransport([write])


@pytest.mark.parametrize(
    "wrong", [{"kind": "undo"}, {"kind": "action", "undoes": "k"}, {"kind": "probe", "result": b"1"}]
)
def test_a_request_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a request for an undo"):
        StepRequest(step="s", saga_id="s", path="1", idempotency_key="k", **wrong)
