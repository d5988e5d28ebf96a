"""The shop's service, which ``sagas demo`` runs as a process of its own: ``python -m sagas.cli.demo_service URL``."""

from __future__ import annotations

import sys

import anyio

from sagas import Coordinator, SagaCompensated
from sagas.cli.demo import ORDERS
from sagas.cli.demo_shop import place_order

__all__ = ["serve"]


async def serve(journal: str) -> None:
    """Takes the orders, one after the other. Started again, it finds those it has taken already."""
    async with Coordinator(journal, sagas=[place_order]) as coordinator:
        for order in ORDERS:
            handle = await coordinator.start(place_order(order), id=order.id)
            try:
                await handle.result()
            except SagaCompensated as error:
                print(error)


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1])
