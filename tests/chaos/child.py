"""The process that is killed: starts orders, goes on with those of the processes before it, reports each end.

``python -m tests.chaos.child DIRECTORY SEED ORDERS``
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import anyio

from sagas import Coordinator, SagaCompensated
from tests.chaos import business


def _report(line: str) -> None:
    # In one piece, also if the next instruction never comes.
    os.write(1, f"{line}\n".encode())


async def _run(directory: Path, orders: int) -> None:
    async with Coordinator(f"sqlite:///{directory / 'journal.db'}", sagas=business.SAGAS, poll=0.02) as coordinator:
        _report("ready")

        async def run(number: int) -> None:
            try:
                await coordinator.run(business.order(number), id=f"order-{number}")
            except SagaCompensated:
                _report(f"compensated order-{number}")
            else:
                _report(f"completed order-{number}")

        async with anyio.create_task_group() as group:
            for number in range(orders):
                group.start_soon(run, number)


def main() -> None:
    """Runs until every order has ended, or until it is killed."""
    directory, seed, orders = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    business.use(directory / "business.db", seed)
    anyio.run(partial(_run, directory, orders))


if __name__ == "__main__":
    main()
