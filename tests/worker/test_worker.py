"""What a worker does beside what every participant does."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from sqlmodel import Session

from sagas import Coordinator, NotApplied, Worker, current_step, step
from sagas.errors import DeclarationError, RequestError, StoreError, TransportClosed
from sagas.transport import StepReply, StepRequest

pytestmark = pytest.mark.anyio


def request(name: str, kind: Literal["action", "undo", "probe"] = "action", **more: Any) -> StepRequest:
    """A request about the action with the key ``k``."""
    key, undoes = ("k:undo", "k") if kind == "undo" else ("k", None)
    return StepRequest(
        kind=kind, step=name, saga_id="s", path="1", idempotency_key=key, undoes=undoes, **more
    )  # fmt: skip


async def test_what_misses_its_deadline_goes_on_as_long_as_it_may_and_is_in_doubt_then() -> None:
    @step
    async def linger() -> None:
        await anyio.sleep_forever()

    async with Worker([linger], inbox="memory:") as worker:
        first = await worker.perform(request("linger", deadline=time.time() + 0.01))
        assert first.outcome in {"running", "in_doubt"}
        with anyio.fail_after(10):
            while (asked := await worker.perform(request("linger", "probe"))).outcome == "running":  # noqa: ASYNC110 - its answer is waited for
                await anyio.sleep(0.001)
        assert asked.outcome == "in_doubt"


async def test_an_attempt_goes_on_when_its_caller_is_cancelled() -> None:
    """Whoever sends the request again gets its reply."""
    go = anyio.Event()
    begun = anyio.Event()
    acted: list[str] = []

    @step
    async def slow() -> str:
        begun.set()
        await go.wait()
        acted.append("x")
        return "done"

    async with Worker([slow], inbox="memory:") as worker:
        async with anyio.create_task_group() as group:
            group.start_soon(worker.perform, request("slow"))
            await begun.wait()
            group.cancel_scope.cancel()
        go.set()
        assert await worker.perform(request("slow")) == StepReply.succeeded(b'"done"')
    assert acted == ["x"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_that_a_step_lets_out_is_a_failure_of_it() -> None:
    """And not an order to whoever called it."""

    @step
    async def abandon() -> None:
        raise asyncio.CancelledError

    async with Worker([abandon], inbox="memory:") as worker:
        assert (await worker.perform(request("abandon"))).outcome == "in_doubt"


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

    async with Worker([flaky], inbox="memory:") as worker:
        replies = [await worker.perform(request("flaky")) for _ in range(2)]
        assert [reply.outcome for reply in replies] == ["in_doubt", "in_doubt"]
        assert replies[1].error is not None
        assert "declined" in replies[1].error.message
        await worker.perform(request("flaky", "undo"))
    assert tries == ["act", "act", "undo"]


@pytest.mark.parametrize("found", ["acted", "did not act", "does not know"])
async def test_what_a_probe_says_decides_about_another_attempt(found: str) -> None:
    acted: list[int] = []

    @step
    async def flaky() -> int:
        acted.append(current_step().attempt)
        if len(acted) == 1:
            raise OSError("reset")
        return 2

    @flaky.probe
    async def ask() -> int | NotApplied:
        if found == "does not know":
            raise TimeoutError
        return 1 if found == "acted" else NotApplied()

    async with Worker([flaky], inbox="memory:") as worker:
        assert (await worker.perform(request("flaky"))).outcome == "in_doubt"
        again = await worker.perform(request("flaky", attempt=2))
    if found == "does not know":
        assert (again.outcome, acted) == ("in_doubt", [1])
    else:
        assert again == StepReply.succeeded(b"1" if found == "acted" else b"2")
        assert acted == ([1] if found == "acted" else [1, 2])


async def test_what_was_not_begun_does_not_hide_an_earlier_attempt() -> None:
    """A repeated request that comes too late, or to a worker that lacks the code, has not failed: it may have acted."""

    @step
    async def lose(item: str = "") -> None:
        raise OSError("reset")

    worker = Worker([lose], inbox="memory:")
    async with worker:
        assert (await worker.perform(request("lose", deadline=time.time() - 1.0))).outcome == "failed"
        await worker.perform(request("lose"))
        assert (await worker.perform(request("lose", deadline=time.time() - 1.0))).outcome == "in_doubt"
        worker._steps.clear()  # noqa: SLF001 - as in a process with other code
        assert (await worker.perform(request("lose"))).outcome == "in_doubt"


async def test_signs_of_life_are_passed_on() -> None:
    beats: list[float] = []
    heard = anyio.Event()

    def beat() -> None:
        beats.append(time.monotonic())
        heard.set()

    @step(heartbeat=30.0)
    async def long() -> None:
        current_step().heartbeat()
        await heard.wait()

    async with Worker([long], inbox="memory:") as worker:
        with anyio.fail_after(10):
            assert (await worker.perform(request("long"), beat=beat)).outcome == "succeeded"
    assert beats


async def test_a_step_without_a_sign_of_life_is_given_up() -> None:
    @step(heartbeat=0.01)
    async def silent() -> None:
        await anyio.sleep_forever()

    async with Worker([silent], inbox="memory:") as worker:
        reply = await worker.perform(request("silent"))
    assert reply.outcome == "in_doubt"
    assert reply.error is not None
    assert "no heartbeat" in reply.error.message


async def test_a_worker_that_is_left_lets_its_steps_end_and_takes_nothing_new() -> None:
    begun, go = anyio.Event(), anyio.Event()
    replies: list[StepReply] = []
    refused: list[str] = []

    @step
    async def slow(item: str = "") -> str:
        begun.set()
        await go.wait()
        return "done"

    async def ask(worker: Worker) -> None:
        replies.append(await worker.perform(request("slow")))

    async def ask_late(worker: Worker) -> None:
        await begun.wait()
        while worker._jobs.is_open:  # noqa: ASYNC110, SLF001 - nobody says when it is being left
            await anyio.sleep(0.001)
        with pytest.raises(TransportClosed, match="takes nothing new"):
            await worker.perform(StepRequest(kind="action", step="slow", saga_id="s", path="1", idempotency_key="l"))
        refused.append("late")
        go.set()

    worker = Worker([slow], inbox="memory:")
    async with anyio.create_task_group() as group, worker:
        group.start_soon(ask, worker)
        group.start_soon(ask_late, worker)
        await begun.wait()
    assert [reply.payload for reply in replies] == [b'"done"']
    assert refused == ["late"]
    with pytest.raises(TransportClosed):
        await worker.perform(request("slow"))


async def test_a_worker_runs_once_at_a_time() -> None:
    async with Worker([], inbox="memory:") as worker:
        with pytest.raises(RequestError, match="running already"):
            await worker.__aenter__()


def test_steps_that_cannot_be_served_are_refused() -> None:
    @step(transactional=True)
    def write(session: Session) -> None:
        raise AssertionError

    @step
    async def plain() -> None: ...

    @plain.compensator(transactional=True)
    def unplain(session: Session) -> None: ...

    @step(name="plain")
    async def namesake() -> None: ...

    for bad in (write, plain):
        with pytest.raises(DeclarationError, match="inbox in memory has no database"):
            Worker([bad], inbox="memory:")
    with pytest.raises(DeclarationError, match="two steps are called 'plain'"):
        Worker([plain, namesake], inbox="sqlite:///x.db")
    with pytest.raises(StoreError, match="no store goes by"):
        Worker([plain], inbox="carrier-pigeon:")


@pytest.mark.parametrize(
    "wrong", [{"kind": "undo"}, {"kind": "action", "undoes": "k"}, {"kind": "probe", "result": b"1"}]
)
def test_a_request_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a request for an undo"):
        StepRequest(step="s", saga_id="s", path="1", idempotency_key="k", **wrong)


async def test_a_worker_beside_a_coordinator_is_none(tmp_path: Path) -> None:
    """Though both keep a lease in the same database."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    async with Coordinator(url, name="orders") as coordinator, Worker([], inbox=url):
        assert [view.name for view in await coordinator.coordinators()] == ["orders"]
