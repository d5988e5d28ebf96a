"""What the part ``remote`` finds."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["STEPS", "Barrier", "Remote", "System"]

# What is performed behind the barrier, and the name of the step.
STEPS = {"transactional": "remote.written", "plain": "remote.noted"}


class System(enum.StrEnum):
    """Who asks and answers."""

    PLAIN = "sagas"
    WRITTEN = "sagas, transactional steps"
    BARE = "bare, a transaction each"
    GROUPED = "bare, group commit"

    @property
    def is_bare(self) -> bool:
        """Whether it is no saga, and remembers nothing."""
        return self in {System.BARE, System.GROUPED}


@dataclass(frozen=True, slots=True)
class Remote:
    """One closed-loop measurement of sagas with five remote steps, or as many bare round trips.

    Attributes:
        way: ``http``, or the kind of queue.
        round: Which interleaved round it belongs to, from 0.
        count: Sagas that ended.
        per_second: Sagas a second.
        p50_ms: Median latency of a saga, in milliseconds.
        p99_ms: 99th percentile of the same.
    """

    way: str
    system: System
    concurrency: int
    round: int
    count: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Barrier:
    """Steps a second in a worker, with the same durable write each.

    Attributes:
        step: One of ``STEPS``.
        concurrency: Steps side by side.
        round: From 0.
        with_inbox: Steps a second.
        without: The same where nothing is remembered.
    """

    step: str
    concurrency: int
    round: int
    with_inbox: float
    without: float
