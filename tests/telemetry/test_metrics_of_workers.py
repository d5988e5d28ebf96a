"""What a worker measures."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.sdk.trace import TracerProvider

from sagas import Coordinator, Rejected, SagaCompensated, TransportClosed, Worker, saga, step
from sagas.transport import Message
from sagas.transport.memory_queue import MemoryQueue
from sagas.transport.port import StepRequest
from sagas.worker.local import LocalTransport
from tests.telemetry.meter import Meter


@step(name="stock.reserve")
async def reserve(item: str) -> str:
    return item


@reserve.compensator
async def release(item: str) -> None:
    pass


@step
async def refuse() -> None:
    raise Rejected("never")


@saga
async def order(item: str) -> None:
    await reserve(item)
    await refuse()


@pytest.fixture
def meter() -> Meter:
    return Meter()


async def test_requests_are_measured_by_kind_and_outcome_and_point_at_their_trace(meter: Meter) -> None:
    async with Worker([reserve], inbox="memory:", meter_provider=meter.provider) as worker:
        routes = {"stock.*": LocalTransport(worker)}
        async with Coordinator(
            "memory:", sagas=[order], routes=routes, tracer_provider=TracerProvider()
        ) as coordinator:
            with pytest.raises(SagaCompensated):
                await coordinator.run(order("lamp"))
    seen = meter.read("saga.request.duration")
    assert {key: x.value for key, x in seen.items()} == {
        ("stock.reserve", "action", "succeeded"): 1,
        ("stock.reserve", "undo", "succeeded"): 1,
    }
    assert all(len(x.exemplars) == 1 for x in seen.values())


def _request(name: str, headers: dict[str, str]) -> StepRequest:
    return StepRequest(kind="action", step=name, saga_id="s", path="1", idempotency_key=name, headers=headers)


async def test_whoever_makes_up_names_makes_up_no_time_series(meter: Meter) -> None:
    async with Worker([reserve], inbox="memory:", meter_provider=meter.provider) as worker:
        for number in range(3):
            headers = {"traceparent": f"nonsense {number}"}
            await worker.perform(_request(f"no {number}", headers))
    with pytest.raises(TransportClosed):
        await worker.perform(_request("stock.reserve", {}))
    assert meter.values("saga.request.duration") == {
        ("unknown", "action", "failed"): 3,
        ("stock.reserve", "action", "refused"): 1,
    }


async def test_a_message_that_is_given_back_for_the_last_time_is_counted(meter: Meter) -> None:
    queue, replies = MemoryQueue(name="requests", max_deliveries=2), MemoryQueue(name="replies")
    await queue.send(Message(body=b"no request at all"))
    async with (
        Worker([reserve], inbox="memory:", meter_provider=meter.provider) as worker,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(lambda: worker.serve(queue, replies=lambda _: replies))
        with anyio.fail_after(20):
            while not await queue.dead_letters():  # noqa: ASYNC110 - the queue tells nobody
                await anyio.sleep(0.01)
            while not meter.values("saga.dead_letters"):  # noqa: ASYNC110 - it is counted right after that
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert meter.values("saga.dead_letters") == {("requests",): 1}
