"""A client starts, asks, waits and reads; what it asks for is done by coordinators elsewhere."""

# ruff: noqa: SLF001 - looks behind the scenes, where users do not

from __future__ import annotations

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from sagas import (
    Client,
    CoordinatorClosed,
    Handle,
    IdempotencyConflict,
    NotApplicable,
    PayloadError,
    Rejected,
    RequestError,
    Retry,
    SagaCompensated,
    SagaNotFound,
    SagaStuck,
    StoreError,
    current_step,
    receive,
    saga,
    sleep,
    step,
)
from tests.coordinator.places import Clock, Gate, Place, until

KEYS: list[str] = []


@step
async def add(a: int, b: int) -> int:
    KEYS.append(current_step().idempotency_key)
    return a + b


@saga
async def total(numbers: list[int]) -> int:
    result = 0
    for number in numbers:
        result = await add(result, number)
    return result


@saga
async def waits(name: str) -> str:
    return f"{name}: {await receive('go', str)}"


@saga
async def refuses() -> None:
    raise Rejected("no")


@pytest.fixture(autouse=True)
def _no_keys() -> None:
    KEYS.clear()


def client_of(place: Place, **options: object) -> Client:
    """A client beside the place's coordinators; one that looks often, since tests are impatient."""
    options.setdefault("poll", 0.01)
    return Client(place.store(), migrate=True, **options)  # type: ignore[arg-type]  # of the fitting types


# --- starting and waiting -------------------------------------------------------------------------------------------


async def test_a_client_starts_a_saga_and_gets_its_result(place: Place) -> None:
    """A coordinator runs it, under the key that the client made up."""
    async with place.coordinator(total), client_of(place) as client:
        with anyio.fail_after(10):
            assert await client.run(total([1, 2, 3])) == 6
            handle = await client.start(total([4, 5]), id="s")
            assert (isinstance(handle, Handle), handle.id, await handle.result()) == (True, "s", 9)
        view = await client.get("s")
    assert (view.status, view.input, view.result) == ("completed", {"numbers": [4, 5]}, 9)
    assert [line.what for line in view.timeline][:2] == ["saga submitted", "saga begun"]
    assert view.timeline[1].detail == f"by coordinator {view.owner}"
    assert len({key.rpartition(":")[0] for key in KEYS}) == 2


async def test_without_a_coordinator_a_saga_waits_where_everybody_can_see_it(place: Place) -> None:
    """Nothing of it runs; the first coordinator with its code goes on."""
    async with client_of(place) as client:
        handle = await client.start(total([1, 2]), id="s")
        with anyio.move_on_after(0.1) as impatient:
            await handle.result()
        assert impatient.cancelled_caught
        (found,) = await client.list()
        assert (found.id, found.status, found.name, found.waiting) == ("s", "running", "total", False)
        assert [line.what for line in (await client.get("s")).timeline] == ["saga submitted"]
        assert not KEYS
        async with place.coordinator(waits), place.coordinator(total):
            with anyio.fail_after(10):
                assert await handle.result() == 3


async def test_a_saga_outlives_the_client_that_started_it(place: Place) -> None:
    """It was durable when ``start`` returned."""
    async with client_of(place) as client:
        await client.start(total([1, 2]), id="s")
    async with place.coordinator(total) as coordinator:
        with anyio.fail_after(10):
            assert await coordinator.run(total([1, 2]), id="s") == 3
    assert len(KEYS) == 2


async def test_a_coordinator_that_dies_after_a_submission_is_replaced(place: Place) -> None:
    """Whether it had begun the saga or not, the client hears the end."""
    gate = Gate()

    @step
    async def stop_here(name: str) -> str:
        await gate.wait()
        return name

    @saga
    async def body(name: str) -> str:
        return await stop_here(name)

    async with client_of(place) as client:
        results: dict[str, str] = {}

        async def run(name: str) -> None:
            results[name] = await client.run(body(name), id=name)

        async with anyio.create_task_group() as group:
            async with place.coordinator(body, shutdown_timeout=0):
                for name in ("a", "b"):
                    group.start_soon(run, name)
                await gate.arrival(2)
            gate.open()
            async with place.coordinator(body):
                with anyio.fail_after(10):

                    async def all_there() -> bool:
                        return len(results) == 2

                    await until(all_there)
    assert results == {"a": "a", "b": "b"}


async def test_sagas_of_a_client_spread_over_coordinators(place: Place) -> None:
    """Each is done once, whoever does it; and both do some, since neither may take all."""
    gate = Gate()

    @step
    async def wait_here(number: int) -> int:
        await gate.wait()
        return number

    @saga
    async def body(number: int) -> int:
        return await wait_here(number)

    async with place.coordinator(body) as one, place.coordinator(body) as other, client_of(place) as client:
        handles: list[Handle[int]] = []

        async def both_have_some() -> bool:
            handles.append(await client.start(body(len(handles))))
            assert one._engine is not None
            assert other._engine is not None
            return bool(one._engine.sagas) and bool(other._engine.sagas)

        await until(both_have_some)
        gate.open()
        with anyio.fail_after(10):
            assert [await handle.result() for handle in handles] == list(range(len(handles)))
    assert gate.arrived == len(handles)


async def test_a_compensated_and_a_stuck_saga_are_reported_as_by_a_coordinator(place: Place) -> None:
    """And a stuck one can be helped on by the client, in whose name it stands in the journal."""
    broken = True

    @step(pivot=True)
    async def commit() -> None: ...

    @step(retry=Retry(attempts=1))
    async def ship() -> str:
        if broken:
            raise OSError("no truck")
        return "shipped"

    @saga
    async def body() -> str:
        await commit()
        return await ship()

    async with place.coordinator(refuses, body), client_of(place, name="shop") as client:
        with anyio.fail_after(10):
            with pytest.raises(SagaCompensated, match="no"):
                await client.run(refuses())
            handle = await client.start(body(), id="s")
            with pytest.raises(SagaStuck, match="no truck"):
                await handle.result()
            broken = False
            await client.retry("s")
            assert await handle.result() == "shipped"
        details = [line.detail for line in (await client.get("s")).timeline if line.what == "step retried"]
    assert details == ["by shop"]


# --- what an id stands for ------------------------------------------------------------------------------------------


async def test_the_same_id_and_input_is_the_same_saga(place: Place) -> None:
    """From any client, also side by side, and when it has ended."""
    async with client_of(place) as one, client_of(place) as other:
        async with anyio.create_task_group() as group:
            for client in (one, other, one, other, one):
                group.start_soon(lambda client: client.start(total([1, 2]), id="s"), client)
        assert [x.id for x in await one.list()] == ["s"]
        async with place.coordinator(total) as coordinator:
            with anyio.fail_after(10):
                for anyone in (one, other, coordinator, one):
                    assert await anyone.run(total([1, 2]), id="s") == 3
    assert len(KEYS) == 2


async def test_another_input_under_the_same_id_is_a_conflict(place: Place) -> None:
    """In this client, in another, in a coordinator; also while the first is on its way to the disk."""
    async with client_of(place) as one, client_of(place) as other:
        failed: list[str] = []

        async def start(numbers: list[int]) -> None:
            try:
                await one.start(total(numbers), id="s")
            except IdempotencyConflict as error:
                failed.append(str(error))

        async with anyio.create_task_group() as group:
            group.start_soon(start, [1, 2])
            group.start_soon(start, [1])
        assert len(failed) == 1
        (found,) = await one.list()
        taken = (await one.get("s")).input
        assert isinstance(taken, dict)
        wrong = total([*taken["numbers"], 0])
        async with place.coordinator(total) as coordinator:
            for anyone in (one, other, coordinator):
                with pytest.raises(IdempotencyConflict, match="another input"):
                    await anyone.start(wrong, id="s")
    assert found.id == "s"


# --- asking for things ----------------------------------------------------------------------------------------------


async def test_a_signal_reaches_its_saga(place: Place) -> None:
    """Sent before anybody runs it, or while it waits."""
    async with client_of(place) as client:
        early = await client.start(waits("early"), id="early")
        await client.signal("early", "go", "1")
        async with place.coordinator(waits):
            with anyio.fail_after(10):
                assert await early.result() == "early: 1"
                late = await client.start(waits("late"), id="late")

                async def waiting() -> bool:
                    return (await client.list())[0].waiting

                await until(waiting)
                await client.signal("late", "go", "2")
                assert await late.result() == "late: 2"


async def test_a_cancel_undoes_a_saga_wherever_it_is(place: Place) -> None:
    """Also one that nobody has begun yet."""
    async with client_of(place) as client:
        unbegun = await client.start(waits("u"), id="unbegun")
        await client.cancel("unbegun", reason="too late", by="ann")
        async with place.coordinator(waits):
            waiting = await client.start(waits("w"), id="waiting")
            await client.cancel("waiting", reason="changed my mind")
            for handle, why in ((unbegun, "too late"), (waiting, "changed my mind")):
                with anyio.fail_after(10), pytest.raises(SagaCompensated, match=why):
                    await handle.result()


async def test_what_no_state_could_grant_is_refused_at_once(place: Place) -> None:
    """And so is what cannot be written."""
    async with place.coordinator(total), client_of(place) as client:
        with anyio.fail_after(10):
            await client.run(total([1]), id="ended")
        await client.start(waits("w"), id="open")
        with pytest.raises(SagaNotFound):
            await client.signal("nobody", "go")
        with pytest.raises(SagaNotFound):
            await client.get("nobody")
        with pytest.raises(NotApplicable, match="has ended"):
            await client.cancel("ended", reason="late")
        for ask in (client.retry("open"), client.skip("open", reason="x"), client.resume("open")):
            with pytest.raises(NotApplicable, match="not stuck"):
                await ask
        with pytest.raises(PayloadError, match="cannot be encoded"):
            await client.signal("open", "go", object())
        with pytest.raises(RequestError, match="reason"):
            await client.cancel("open", reason=" ")
        with pytest.raises(PayloadError):
            await client.start(total(["x"]))  # type: ignore[list-item]  # the very mistake
        with pytest.raises(TypeError, match="take the call of a saga"):
            await client.start(total)  # type: ignore[arg-type]  # the very mistake
        assert [x.id for x in await client.list(status="running")] == ["open"]


# --- its life -------------------------------------------------------------------------------------------------------


async def test_whoever_waits_hears_that_the_client_was_closed(place: Place) -> None:
    """Instead of waiting for ever; outside of it, nothing works."""
    heard = 0
    client = client_of(place, poll=600)
    async with anyio.create_task_group() as group:
        async with client:
            handle = await client.start(total([1]), id="s")

            async def wait() -> None:
                nonlocal heard
                with pytest.raises(CoordinatorClosed, match="goes on without it"):
                    await handle.result()
                heard += 1

            group.start_soon(wait)
            group.start_soon(wait)

            async def waiting() -> bool:
                return bool(client._running().watching._waiters)

            await until(waiting)
        with pytest.raises(CoordinatorClosed, match="async with Client"):
            await client.start(total([1]))
    assert heard == 2
    async with client:
        assert [x.id for x in await client.list()] == ["s"]
        with pytest.raises(RequestError, match="running already"):
            await client.__aenter__()


async def test_what_the_block_raises_leaves_a_client_as_it_is(place: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        async with client_of(place):
            raise ZeroDivisionError


async def test_a_client_holds_no_lease_and_runs_no_code(place: Place) -> None:
    """Nobody waits for it to die."""
    async with client_of(place) as client:
        await client.start(total([1]))
        store = place.store()
        store.open(migrate=True)
        assert not store.leases(Clock().now())
        if not store.in_memory:
            store.close()
    assert not KEYS


def test_a_memory_of_its_own_is_of_no_use_to_a_client() -> None:
    with pytest.raises(StoreError, match="the same store"):
        Client("memory:")
    with pytest.raises(RequestError, match="poll"):
        Client("sqlite:///x.db", poll=0)


async def test_the_time_of_a_saga_counts_from_its_submission(place: Place) -> None:
    """So a caller is not kept waiting for longer because nobody ran it at first."""

    @saga(timeout=20)
    async def slow() -> None:
        await sleep(3600)

    async with client_of(place, clock=Clock(ahead=-30)) as client:
        handle = await client.start(slow())
        async with place.coordinator(slow):
            with anyio.fail_after(10), pytest.raises(SagaCompensated, match="longer than 20 s"):
                await handle.result()


async def test_a_saga_continues_the_trace_of_whoever_submitted_it(place: Place) -> None:
    """The root span's context is chosen by the client, so that the caller's own span is above it."""
    provider = TracerProvider()
    tracer = provider.get_tracer("shop")
    async with client_of(place, tracer_provider=provider) as client:
        with tracer.start_as_current_span("request") as span:
            await client.start(total([1]), id="s")
        context = span.get_span_context()
        view = await client.get("s")
    assert trace.format_trace_id(context.trace_id) == view.trace.split("-")[1]
    assert trace.format_span_id(context.span_id) != view.trace.split("-")[2]
