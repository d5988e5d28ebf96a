"""`memory:` has no session to give: the step fails with a sentence, and is not tried for ever."""

from __future__ import annotations

import anyio
from sqlmodel import Session

from sagas import Coordinator, StepFailed, saga, step


@step(transactional=True)
def write(session: Session) -> None:
    raise AssertionError("there is no session to call it with")


@saga
async def body() -> str:
    try:
        await write()
    except StepFailed as failure:
        return f"{type(failure).__name__}: {failure.error_message}"
    return "it ran"


async def test_a_transactional_step_fails_in_memory() -> None:
    with anyio.fail_after(10):
        async with Coordinator("memory:", sagas=[body]) as coordinator:
            said = await coordinator.run(body())
    assert said == "StepFailed: step write is transactional, and memory: has no database for it"
