"""A traced process that is killed in the middle of a step, or that goes on with its saga.

``python -m tests.telemetry.child DATABASE ENDPOINT hang|go``
"""

from __future__ import annotations

import sys

import anyio
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from sagas import Coordinator, SagaCompensated, current_step, saga, step

_mode = ["go"]


@step
async def reserve() -> str:
    """Ends before the process is killed."""
    return "reserved"


@reserve.compensator
async def release(result: str | None) -> None:
    """Runs in the second process."""


@step
async def charge() -> str:
    """Is running when the process is killed."""
    if _mode[0] == "hang":
        print("in flight", flush=True)  # noqa: T201 - tells the parent
        await anyio.sleep_forever()
    raise ConnectionError(f"attempt {current_step().attempt}")


@charge.compensator
async def refund(result: str | None) -> None:
    """Runs in the second process."""


@saga
async def order() -> None:
    """Is compensated in the end."""
    await reserve()
    await charge()


async def main(database: str, endpoint: str) -> None:
    """Runs the saga as far as it comes."""
    provider = TracerProvider(resource=Resource({"service.name": _mode[0]}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    async with Coordinator(f"sqlite:///{database}", sagas=[order], tracer_provider=provider) as coordinator:
        try:
            await coordinator.run(order(), id="s")
        except SagaCompensated:
            print("compensated", flush=True)  # noqa: T201 - tells the parent
    provider.shutdown()


if __name__ == "__main__":
    _mode[0] = sys.argv[3]
    anyio.run(main, sys.argv[1], sys.argv[2])
