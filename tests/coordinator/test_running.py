"""Starting a saga, waiting for its end, and what its id stands for."""

from __future__ import annotations

import anyio
import pytest

from sagas import (
    Coordinator,
    CoordinatorClosed,
    Handle,
    IdempotencyConflict,
    RequestError,
    SagaCompensated,
    SagaNotFound,
    SagaNotRegistered,
    current_step,
    gather,
    saga,
    step,
)
from sagas.errors import StoreError
from tests.coordinator.places import Gate, Place, until


@step
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@saga
async def total(numbers: list[int]) -> int:
    """Adds up, step by step."""
    result = 0
    for number in numbers:
        result = await add(result, number)
    return result


@saga
async def other(numbers: list[int]) -> int:
    """Another saga with the same input."""
    return (await gather(*(add(number, 0) for number in numbers)))[0]


async def test_run_gives_what_the_body_returns(place: Place) -> None:
    """Having made up an id."""
    async with place.coordinator(total) as coordinator:
        assert await coordinator.run(total([1, 2, 3])) == 6
        (found,) = await coordinator.list()
        assert (found.status, found.name, found.waiting) == ("completed", "total", False)


async def test_a_handle_may_be_waited_for_more_than_once_and_side_by_side(place: Place) -> None:
    """Everybody hears the same."""
    heard: list[int] = []

    async with place.coordinator(total) as coordinator:
        handle = await coordinator.start(total([1, 2]), id="s")
        assert handle.id == "s"

        async def wait() -> None:
            heard.append(await handle.result())

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(wait)
        assert await handle.result() == 3
    assert heard == [3] * 5


async def test_what_start_returned_is_durable(on_disk: Place) -> None:
    """A second store finds the saga as soon as there is a handle."""
    async with on_disk.coordinator(total) as coordinator:
        await coordinator.start(total([1]), id="s")
        assert on_disk.sql("SELECT id FROM saga") == [("s",)]


async def test_the_same_id_with_the_same_input_is_the_same_saga(place: Place) -> None:
    """Its steps run once, and its result comes back while it runs, after it ended, and from another coordinator."""
    gate = Gate()

    @step
    async def wait(number: int) -> int:
        await gate.wait()
        return number

    @saga
    async def waits(number: int) -> int:
        return await wait(number)

    async with place.coordinator(waits) as first, place.coordinator(waits) as second:
        handles: list[Handle[int]] = [await first.start(waits(7), id="s") for _ in range(3)]
        handles.append(await second.start(waits(7), id="s"))
        await gate.arrival()
        gate.open()
        assert [await handle.result() for handle in handles] == [7] * 4
        assert await first.run(waits(7), id="s") == 7
        assert await second.run(waits(7), id="s") == 7
    assert gate.arrived == 1


@pytest.mark.parametrize("call", [total([2]), other([1])], ids=["another input", "another saga"])
async def test_the_same_id_with_another_input_is_a_conflict(place: Place, call: object) -> None:
    """While it runs, after it ended, and in another coordinator; the saga itself is left alone."""
    async with place.coordinator(total, other) as first, place.coordinator(total, other) as second:
        await first.start(total([1]), id="s")
        for coordinator in (first, second):
            with pytest.raises(IdempotencyConflict, match="'s' exists already, as total"):
                await coordinator.start(call, id="s")  # type: ignore[arg-type]  # of either saga
        assert await first.run(total([1]), id="s") == 1
        for coordinator in (first, second):
            with pytest.raises(IdempotencyConflict):
                await coordinator.run(call, id="s")  # type: ignore[arg-type]  # of either saga


async def test_of_many_concurrent_starts_one_wins_and_those_of_another_input_conflict(place: Place) -> None:
    """Across tasks and coordinators, with nobody getting the result of another input."""
    conflicts = 0
    results: list[tuple[int, int]] = []

    async def start(coordinator: Coordinator, number: int) -> None:
        nonlocal conflicts
        try:
            results.append((number, await coordinator.run(total([number]), id="s")))
        except IdempotencyConflict:
            conflicts += 1

    async with place.coordinator(total) as first, place.coordinator(total) as second:
        async with anyio.create_task_group() as group:
            for number in (1, 2, 1, 2, 3):
                for coordinator in (first, second):
                    group.start_soon(start, coordinator, number)
        (row,) = await first.list()
        assert row.status == "completed"
    assert len({number for number, _ in results}) == 1
    assert all(number == result for number, result in results)
    assert conflicts + len(results) == 10
    assert len(results) >= 2


async def test_starting_again_under_load_does_not_wait_for_the_load_to_end(place: Place) -> None:
    """An id that is known is answered although other sagas never pause."""
    go_on = True

    @step
    async def tick(number: int) -> int:
        return number

    @saga
    async def busy() -> int:
        number = 0
        while go_on:
            number += await tick(1)
        return number

    gate = Gate()

    @step
    async def wait() -> None:
        await gate.wait()

    @saga
    async def waits() -> None:
        await wait()

    async with place.coordinator(busy, waits) as coordinator:
        load = [await coordinator.start(busy()) for _ in range(8)]
        await coordinator.start(waits(), id="s")
        with anyio.fail_after(10):
            for _ in range(20):
                await coordinator.start(waits(), id="s")
        go_on = False
        gate.open()
        for handle in load:
            assert await handle.result() > 0


async def test_the_idempotency_key_is_the_same_for_every_attempt_and_differs_between_steps(place: Place) -> None:
    """It names the saga and the place in it."""
    keys: list[str] = []

    @step
    async def note(number: int) -> None:
        keys.append(current_step().idempotency_key)

    @saga
    async def notes() -> None:
        await note(1)
        await gather(note(2), note(3))

    async with place.coordinator(notes) as coordinator:
        await coordinator.run(notes(), id="s")
        await coordinator.run(notes(), id="t")
    assert len(set(keys)) == 6


async def test_a_hundred_sagas_run_side_by_side(place: Place) -> None:
    """Each gets its own result."""
    results: dict[int, int] = {}

    async with place.coordinator(total) as coordinator:

        async def run(number: int) -> None:
            results[number] = await coordinator.run(total([number, 1]), id=f"s{number}")

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(run, number)
    assert results == {number: number + 1 for number in range(100)}


# --- bad arguments --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", "x" * 201, "line\nbreak", "\0", "\ud800", 7, b"s"])
async def test_an_id_that_cannot_name_a_saga_is_refused(place: Place, bad: str) -> None:
    """And nothing is started."""
    async with place.coordinator(total) as coordinator:
        with pytest.raises(RequestError, match="cannot name a saga"):
            await coordinator.start(total([1]), id=bad)
        assert await coordinator.list() == []


async def test_what_is_no_call_of_a_saga_is_refused(place: Place) -> None:
    """With an example of what is."""
    async with place.coordinator(total) as coordinator:
        for wrong in (add(1, 2), total, "total", None):
            with pytest.raises(TypeError, match=r"such as place_order\(order\)"):
                await coordinator.start(wrong)  # type: ignore[arg-type]  # is what is tested


async def test_a_saga_that_was_not_passed_in_is_refused(place: Place) -> None:
    """The error says where to pass it."""
    async with place.coordinator(total) as coordinator:
        with pytest.raises(SagaNotRegistered, match=r"Coordinator\(…, sagas=\[…\]\)"):
            await coordinator.run(other([1]))


async def test_unknown_ids_are_not_found(place: Place) -> None:
    """Whatever is asked of them."""
    async with place.coordinator(total) as coordinator:
        for ask in (
            lambda: coordinator.get("nobody"),
            lambda: coordinator.signal("nobody", "x"),
            lambda: coordinator.cancel("nobody", reason="x"),
            lambda: coordinator.retry("nobody"),
            lambda: coordinator.skip("nobody", reason="x"),
            lambda: coordinator.resume("nobody"),
        ):
            with pytest.raises(SagaNotFound, match="no saga 'nobody'"):
                await ask()


async def test_a_coordinator_that_does_not_run_takes_nothing(place: Place) -> None:
    """Neither before it is entered nor after it was left; then it can be entered again."""
    coordinator = place.coordinator(total)
    for _ in range(2):
        with pytest.raises(CoordinatorClosed, match="async with"):
            await coordinator.run(total([1]))
        with pytest.raises(CoordinatorClosed):
            await coordinator.get("s")
        async with coordinator:
            assert await coordinator.run(total([1])) == 1
            with pytest.raises(RequestError, match="running already"):
                await coordinator.__aenter__()


@pytest.mark.parametrize("store", [7, None, "nonsense", "mysql://x"])
def test_a_store_that_is_none_is_refused(store: str) -> None:
    """With what would be one."""
    with pytest.raises(StoreError, match="sqlite:///"):
        Coordinator(store)


@pytest.mark.parametrize(
    "options",
    [{"lease": 0}, {"lease": -1.0}, {"poll": 0}, {"threads": 0}, {"keep_waiting": -1}, {"shutdown_timeout": -1}],
    ids=str,
)
def test_numbers_that_make_no_coordinator_are_refused(options: dict[str, float]) -> None:
    """At once, by name."""
    with pytest.raises(RequestError, match=next(iter(options))):
        Coordinator("memory:", **options)  # type: ignore[arg-type]  # is what is tested


async def test_listing_refuses_what_would_silently_find_nothing(place: Place) -> None:
    """An unknown status, and limits that are none."""
    async with place.coordinator(total) as coordinator:
        with pytest.raises(RequestError, match="'done' is no status"):
            await coordinator.list(status="done")
        for limit in (0, -1):
            with pytest.raises(RequestError, match="limit"):
                await coordinator.list(limit=limit)


async def test_listing_filters_and_pages(place: Place) -> None:
    """Newest first."""

    @step
    async def refuse() -> None:
        raise ValueError("no")

    @saga
    async def fails() -> None:
        await refuse()

    async with place.coordinator(total, fails) as coordinator:
        for number in range(3):
            await coordinator.run(total([number]), id=f"s{number}")
        with pytest.raises(SagaCompensated):
            await coordinator.run(fails(), id="f")
        assert [x.id for x in await coordinator.list()] == ["f", "s2", "s1", "s0"]
        assert [x.id for x in await coordinator.list(name="total", limit=2)] == ["s2", "s1"]
        assert [x.id for x in await coordinator.list(before="s1")] == ["s0"]
        assert [(x.id, x.error) for x in await coordinator.list(status="compensated")] == [
            ("f", "StepInDoubt: step refuse (1) is in doubt: builtins:ValueError: no")
        ]


async def test_leaving_by_an_exception_stops_it_all_the_same(place: Place) -> None:
    """The exception comes out as it was raised."""

    async def leave() -> None:
        async with place.coordinator(total) as coordinator:
            await coordinator.start(total([1]), id="s")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await leave()
    async with place.coordinator(total) as coordinator:

        async def ended() -> bool:
            return (await coordinator.get("s")).status == "completed"

        await until(ended)
