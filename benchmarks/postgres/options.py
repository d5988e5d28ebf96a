"""How many sagas the parts on PostgreSQL use."""

from __future__ import annotations

from dataclasses import dataclass

PARTS = ("throughput", "processes", "recovery", "parked", "size", "piles")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many of what.

    Attributes:
        clients: Closed-loop clients of a system, and of each process of a fleet.
        processes: Of a fleet.
        recovery: Open sagas of the process that is killed.
        parked: Sagas that wait in one database.
        signals: To how many of them a signal is sent; a tenth as many in each round of `piles`.
        size: Sagas over which bytes are averaged.
        piles: Finished sagas that are there already.
    """

    clients: int = 256
    processes: tuple[int, ...] = (1, 2, 4)
    recovery: int = 10_000
    parked: int = 1_000_000
    signals: int = 1_000
    size: int = 10_000
    piles: tuple[int, ...] = (10_000, 100_000, 1_000_000)


FULL = Counts()
QUICK = Counts(processes=(1, 2), recovery=1_000, parked=50_000, signals=100, size=1_000, piles=(1_000, 50_000))
