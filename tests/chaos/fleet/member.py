"""One process of the fleet: a coordinator that does what the driver's lines say, and answers each.

``python -m tests.chaos.fleet.member '{"slot": 0, "life": 1, …}'``; SIGTERM, or the end of its input, has it leave.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import anyio
from anyio.abc import TaskGroup

from sagas import (
    Coordinator,
    CoordinatorClosed,
    NotApplicable,
    PayloadError,
    SagaCompensated,
    SagaStuck,
    StoreUnavailable,
)
from sagas.stores import Store, store_for
from tests.chaos.fleet import trade
from tests.chaos.fleet.witness import Witness
from tests.chaos.fleet.world import World

__all__ = ["NO_DATABASE", "Settings"]

NO_DATABASE = 3  # exit status: the database was away when this process wanted to begin
_PR_SET_PDEATHSIG = 1


class Settings(NamedTuple):
    """What a process is told when it starts.

    Attributes:
        slot: Which of those that run side by side.
        life: How many processes of this slot there were, with this one.
        seed: Of the business' fates.
        backend: ``asyncio``, ``uvloop`` or ``trio``.
        lease: Seconds.
        directory: For its files.
        journal: URL.
        business: URL.
    """

    slot: int
    life: int
    seed: int
    backend: str
    lease: float
    directory: str
    journal: str
    business: str


class _Member:
    def __init__(self, coordinator: Coordinator, witness: Witness) -> None:
        self._coordinator = coordinator
        self._witness = witness
        self._left = b""

    async def serve(self) -> None:
        """Takes orders until it is told to leave."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._leave_on_a_signal, group)
            os.set_blocking(0, False)
            while lines := await self._read():
                for line in lines:
                    group.start_soon(self._obey, json.loads(line))
            group.cancel_scope.cancel()

    async def _leave_on_a_signal(self, group: TaskGroup) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            _say(ready=self._witness.owner)  # not before: who is not ready to leave would die of the signal
            async for _ in signals:
                group.cancel_scope.cancel()

    async def _read(self) -> list[bytes]:
        while True:
            await anyio.wait_readable(0)
            chunk = os.read(0, 1 << 16)
            *lines, self._left = (self._left + chunk).split(b"\n")
            if lines or not chunk:
                return lines

    async def _obey(self, order: dict[str, Any]) -> None:
        """Does what a line says, and answers: done, refused (by the saga's state), or failed (to be tried again)."""
        try:
            await self._do(order)
        except (NotApplicable, PayloadError) as error:
            # A saga that keeps changing hands is to be asked again, as its error says.
            _say(n=order["n"], **{"failed" if "try again" in str(error) else "refused": str(error)})
        except (StoreUnavailable, CoordinatorClosed) as error:
            _say(n=order["n"], failed=str(error))
        else:
            _say(n=order["n"], done=True)
            if order.get("wait"):
                await self._wait(order)

    async def _do(self, order: dict[str, Any]) -> None:
        coordinator, saga_id = self._coordinator, order["saga"]
        match order["do"]:
            case "start":
                await coordinator.start(trade.CALLS[order["kind"]](order["number"]), id=saga_id)
            case "signal":
                await coordinator.signal(saga_id, "approval", order["payload"])
            case "cancel":
                await coordinator.cancel(saga_id, reason="chaos")
            case _:
                await coordinator.retry(saga_id, by="chaos")

    async def _wait(self, order: dict[str, Any]) -> None:
        """Waits for the end as a caller would, and notes what was reported."""
        try:
            await self._coordinator.run(trade.CALLS[order["kind"]](order["number"]), id=order["saga"])
        except SagaCompensated:
            self._witness.ended(order["saga"], "compensated")
        except (SagaStuck, StoreUnavailable, CoordinatorClosed):
            pass  # no end
        else:
            self._witness.ended(order["saga"], "completed")


def _say(**fields: object) -> None:
    # In one piece, also if the next instruction never comes.
    os.write(1, json.dumps(fields).encode() + b"\n")


async def _run(settings: Settings) -> None:
    path = Path(settings.directory) / f"{settings.slot}-{settings.life}.witness"
    witness = Witness(store_for(settings.journal), path)
    coordinator = Coordinator(
        cast("Store", witness), sagas=trade.SAGAS, name=f"member-{settings.slot}", lease=settings.lease, poll=0.05,
        threads=8, shutdown_timeout=3.0, migrate=False,
    )  # fmt: skip
    world = World(settings.business, settings.journal, settings.seed, lambda: witness.owner)
    trade.use(world)
    async with coordinator:
        await _Member(coordinator, witness).serve()
    world.close()


def main() -> None:
    """Runs until it is told to leave, or until it is killed."""
    if sys.platform == "linux":  # also if it is paused when the driver is killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    settings = Settings(**json.loads(sys.argv[1]))
    backend = "trio" if settings.backend == "trio" else "asyncio"
    options = {} if backend == "trio" else {"use_uvloop": settings.backend == "uvloop"}
    try:
        anyio.run(partial(_run, settings), backend=backend, backend_options=options)
    except StoreUnavailable as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the driver's log
        sys.exit(NO_DATABASE)


if __name__ == "__main__":
    main()
