"""Trying again: budgets, pauses, timeouts, heartbeats; in this process and in the next."""

from __future__ import annotations

import anyio
import pytest

from sagas import Rejected, Retry, SagaCompensated, current_step, saga, step
from tests.coordinator.places import Clock, Gate, Place, until


async def test_a_step_is_tried_as_often_as_its_budget_says_under_one_key(place: Place) -> None:
    """Every attempt is kept, with its error."""
    seen: list[tuple[int, str]] = []

    @step(retry=Retry(attempts=3, initial=0.001))
    async def flaky() -> int:
        seen.append((current_step().attempt, current_step().idempotency_key))
        if len(seen) < 3:
            raise ConnectionError(f"try {len(seen)}")
        return 7

    @saga
    async def body() -> int:
        return await flaky()

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body(), id="s") == 7
        (found,) = (await coordinator.get("s")).steps
    assert [attempt for attempt, _ in seen] == [1, 2, 3]
    assert len({key for _, key in seen}) == 1
    assert [attempt.error for attempt in found.attempts] == ["ConnectionError: try 1", "ConnectionError: try 2", None]


async def test_a_used_up_budget_ends_in_doubt(place: Place) -> None:
    """With the last error."""
    tries = 0

    @step(retry=Retry(attempts=4, initial=0))
    async def flaky() -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError(f"try {tries}")

    @saga
    async def body() -> None:
        await flaky()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match=r"StepInDoubt.*try 4"):
            await coordinator.run(body())
    assert tries == 4


async def test_an_attempt_that_takes_too_long_is_cancelled_and_in_doubt(place: Place) -> None:
    """The deadline is what the step was told."""
    deadlines: list[float | None] = []
    gate = Gate()

    @step(timeout=0.05)
    async def slow() -> None:
        deadlines.append(current_step().deadline)
        await gate.wait()

    @saga
    async def body() -> None:
        await slow()

    async with place.coordinator(body, clock=Clock(ahead=1_000_000)) as coordinator:
        with pytest.raises(SagaCompensated, match=r"TimeoutError: no result within 0\.05 s"):
            await coordinator.run(body())
    (deadline,) = deadlines
    assert deadline is not None
    assert deadline > Clock(ahead=999_000).now()


async def test_a_sync_step_that_takes_too_long_is_waited_for_all_the_same(place: Place) -> None:
    """A thread cannot be interrupted, and what it does late must not overtake its undo; its result counts."""
    released = anyio.Event()
    log: list[str] = []

    @step(timeout=0.05)
    def slow() -> str:
        anyio.from_thread.run(released.wait)
        log.append("acted")
        return "late"

    @slow.compensator
    def undo() -> None:
        log.append("undone")

    @saga
    async def body() -> str:
        return await slow()

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")
        await anyio.sleep(0.1)  # beyond the timeout
        await coordinator.cancel("s", reason="too slow")
        released.set()
        with pytest.raises(SagaCompensated, match="too slow"):
            await handle.result()
    assert log == ["acted", "undone"]


async def test_the_total_timeout_bounds_all_attempts_with_their_pauses(place: Place) -> None:
    """However large the budget."""
    tries = 0

    @step(retry=Retry(attempts=None, initial=0.01, factor=1, jitter=0), total_timeout=0.1)
    async def flaky() -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("no")

    @step(total_timeout=0.05)
    async def slow() -> None:
        await anyio.sleep_forever()

    @saga
    async def body(which: str) -> None:
        await (flaky() if which == "flaky" else slow())

    async with place.coordinator(body) as coordinator:
        for which in ("flaky", "slow"):
            with anyio.fail_after(10), pytest.raises(SagaCompensated, match="StepInDoubt"):
                await coordinator.run(body(which))
    assert 2 <= tries <= 11


async def test_a_step_that_gives_no_sign_of_life_is_cancelled(place: Place) -> None:
    """The next attempt can read what the last sign said."""
    said: list[object] = []

    @step(heartbeat=0.05, retry=Retry(attempts=2, initial=0))
    async def work() -> str:
        said.append(current_step().last_heartbeat)
        current_step().heartbeat("half")
        if current_step().attempt == 1:
            await anyio.sleep_forever()
        return "done"

    @saga
    async def body() -> str:
        return await work()

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body(), id="s") == "done"
        (found,) = (await coordinator.get("s")).steps
    assert said == [None, "half"]
    assert found.attempts[0].error == "TimeoutError: no heartbeat within 0.05 s"


async def test_a_step_that_gives_signs_of_life_may_take_its_time(place: Place) -> None:
    """From the event loop and from a worker thread."""

    @step(heartbeat=0.8)
    async def beats() -> int:
        for _ in range(10):
            await anyio.sleep(0.1)
            current_step().heartbeat()
        return 1

    @step(heartbeat=0.8)
    def beats_in_a_thread() -> int:
        for _ in range(10):
            anyio.from_thread.run(anyio.sleep, 0.1)
            current_step().heartbeat()
        return 2

    @saga
    async def body() -> list[int]:
        return [await beats(), await beats_in_a_thread()]

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body()) == [1, 2]


async def test_the_exceptions_of_a_watched_step_keep_their_type(place: Place) -> None:
    """Heartbeats run in a group of tasks, which would wrap them."""

    @step(heartbeat=5)
    async def refuse() -> None:
        raise Rejected("no")

    @saga
    async def body() -> str:
        try:
            await refuse()
        except Rejected as error:
            return str(error)
        return ""

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body()) == "no"


async def test_a_long_pause_is_persisted_and_ends_in_the_next_process(place: Place) -> None:
    """It neither begins anew nor is skipped, and attempts are counted on."""
    attempts: list[int] = []

    @step(retry=Retry(attempts=3, initial=3600, factor=1, maximum=3600, jitter=0))
    async def flaky() -> int:
        attempts.append(current_step().attempt)
        if len(attempts) < 3:
            raise ConnectionError("down for maintenance")
        return 7

    @saga
    async def body() -> int:
        return await flaky()

    for ahead, tries in ((0, 1), (10, 1), (3_000, 1), (3_601, 2), (3_700, 2)):
        async with place.coordinator(body, clock=Clock(ahead)) as coordinator:
            await coordinator.start(body(), id="s")

            async def waits(tries: int = tries) -> bool:
                found = await coordinator.get("s")
                return found.waiting and len(found.steps[0].attempts) == tries

            await until(waits)
    assert attempts == [1, 2]
    async with place.coordinator(body, clock=Clock(7_300)) as coordinator:
        assert await coordinator.run(body(), id="s") == 7
    assert attempts == [1, 2, 3]


async def test_a_long_pause_of_a_compensator_is_persisted_too(place: Place) -> None:
    """The saga is compensating all the while."""
    attempts: list[int] = []

    @step
    async def book() -> int:
        return 1

    @book.compensator(retry=Retry(attempts=2, initial=3600, jitter=0, maximum=3600))
    async def unbook() -> None:
        attempts.append(current_step().attempt)
        if len(attempts) < 2:
            raise ConnectionError("down")

    @saga
    async def body() -> None:
        await book()
        raise ValueError("changed my mind")

    async with place.coordinator(body) as coordinator:
        await coordinator.start(body(), id="s")

        async def waits() -> bool:
            found = await coordinator.get("s")
            return found.waiting and found.status == "compensating" and found.wake_at is not None

        await until(waits)
    async with place.coordinator(body, clock=Clock(3_601)) as coordinator:
        with pytest.raises(SagaCompensated, match="changed my mind"):
            await coordinator.run(body(), id="s")
    assert attempts == [1, 2]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_no_more_attempts_than_the_limit_run_side_by_side(place: Place, kind: str) -> None:
    """In all sagas of the process together."""
    running = most = 0

    @step(limit=3)
    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.002)
        running -= 1
        return number

    @step(limit=3)
    def work_in_a_thread(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        anyio.from_thread.run(anyio.sleep, 0.002)
        running -= 1
        return number

    @saga
    async def body(number: int) -> int:
        return await (work(number) if kind == "async" else work_in_a_thread(number))

    async with place.coordinator(body) as coordinator:
        handles = [await coordinator.start(body(number)) for number in range(20)]
        assert [await handle.result() for handle in handles] == list(range(20))
    assert 1 <= most <= 3
