"""What a run on PostgreSQL found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from benchmarks.model import Finding, Window


@dataclass(frozen=True, slots=True)
class Fleet:
    """Sagas a second of some processes together, each with clients of its own."""

    processes: int
    round: int
    count: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a fresh process took to finish the sagas of one that was killed.

    Attributes:
        count: Sagas that were open, each in its third step of five.
        taken_over: Seconds from the start of the fresh process's `Coordinator` until it owned all of them.
        finished: From the same moment until all of them were completed.
        since_kill: From the kill until then: with the start of a Python process.
    """

    round: int
    count: int
    taken_over: float
    finished: float
    since_kill: float


@dataclass(frozen=True, slots=True)
class Latency:
    """How long signals took, in milliseconds, from before they were posted until the saga's end was durable."""

    count: int
    p50_ms: float
    p99_ms: float
    worst_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Latency:
        """Reads them off latencies in seconds, in ascending order."""
        p50, p99 = (seconds[min(len(seconds) - 1, int(len(seconds) * share))] for share in (0.5, 0.99))
        return cls(len(seconds), p50 * 1_000, p99 * 1_000, seconds[-1] * 1_000)


@dataclass(frozen=True, slots=True)
class Parked:
    """A coordinator on a database that is full of sagas which wait for a signal.

    Attributes:
        count: How many wait.
        started: Seconds from the start of `Coordinator` until it was entered and had run a first saga.
        peak_bytes: The most memory that its process ever held (RSS), after all signals.
        signals: To sagas chosen at random.
        scanned: Rows that were read by scanning a table of sagas or journals while all this happened.
    """

    count: int
    started: float
    peak_bytes: int
    signals: Latency
    scanned: int


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes that one more saga takes in a table, or in an index.

    Attributes:
        state: `completed` or `parked`.
        table: Whose.
        index: Empty for the table itself.
        written: As it is after the sagas ran.
        compacted: After `VACUUM FULL`.
    """

    state: str
    table: str
    index: str
    written: float
    compacted: float


@dataclass(frozen=True, slots=True)
class Pile:
    """Throughput and signals on top of many finished sagas."""

    finished: int
    round: int
    per_second: float
    signals: Latency
    scanned: int


@dataclass(slots=True)
class Results:
    """Everything a run found; grows while it goes on."""

    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    fleets: list[Fleet] = field(default_factory=list)
    recovery: list[Recovery] = field(default_factory=list)
    parked: list[Parked] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    piles: list[Pile] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    load: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def as_json(self, findings: list[Finding]) -> dict[str, Any]:
        """The whole as JSON-ready data, the verdict first."""
        verdict = [dataclasses.asdict(each) | {"met": each.met} for each in findings]
        return {"findings": verdict} | dataclasses.asdict(self)
