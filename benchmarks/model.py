"""What a run of the benchmarks found: plain frozen records that become JSON as they are."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any

from benchmarks.remote.model import Barrier, Remote


class SystemName(enum.StrEnum):
    """The systems measured, in the order in which tables and plots show them."""

    LIBRARY = "sagas"
    TRACED = "sagas+spans"
    DBOS = "dbos"
    LOOP = "loop"
    BATCHES = "batches"
    CEILING = "ceiling"


class Case(enum.StrEnum):
    """How the five-step saga ends."""

    COMPLETED = "completed"
    COMPENSATED = "compensated"


CONCURRENCIES = (1, 32, 256)

RECOVERY_COUNT = 1_000
"""How many open sagas the recovery target is about."""


@dataclass(frozen=True, slots=True)
class Window:
    """One closed-loop measurement: `concurrency` clients, each starting the next saga when one ends.

    Attributes:
        round: Which interleaved round it belongs to, from 0.
        count: Sagas that ended, all of them reported durable.
        per_second: `count` over the time from the first start to the last end.
        p50_ms: Median latency of a saga, in milliseconds.
        p99_ms: 99th percentile of the same.
    """

    system: SystemName
    case: Case
    concurrency: int
    round: int
    count: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that one more parked saga costs, by `probe`: `rss` or `tracemalloc`."""

    system: SystemName
    probe: str
    count: int
    bytes_per_saga: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a fresh process took to finish the sagas of one that was killed.

    Attributes:
        count: Sagas that were open, each in its third step of five.
        first_seconds: From process start (imports included) until one was completed, durably.
        seconds: From process start until all were.
        seconds_for_1000: `seconds`, or, with fewer than 1,000 sagas, extrapolated at the pace
            seen between the first and the last completion.
        extrapolated: Whether `seconds_for_1000` is.
    """

    system: SystemName
    count: int
    first_seconds: float
    seconds: float
    seconds_for_1000: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of database that one more completed five-step saga takes, after VACUUM."""

    system: SystemName
    count: int
    bytes_per_saga: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """What one round of simulated runs found.

    Attributes:
        rates: Runs a second of a five-step saga in one process, by what goes wrong in them.
        check_seconds: How long a check with its default budget takes.
    """

    rates: dict[str, float]
    check_seconds: float


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the verdict: a number beside its target.

    Attributes:
        value: The median over the rounds of the ratio within a round, or the measurement.
        low: The lowest over the rounds.
        high: The highest over the rounds.
        unit: `x`, `%`, `B`, `s`, `ms` or nothing; says how to print the three.
        target: What to reach, or `None` where the number is only for information.
        at_least: Whether the target is a lower bound.
        note: A remark, such as that the number is extrapolated.
    """

    what: str
    value: float
    low: float
    high: float
    unit: str
    target: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; `None` without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


@dataclass(slots=True)
class Results:
    """Everything a run found; grows while it goes on."""

    machine: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    recovery: list[Recovery] = field(default_factory=list)
    size: list[Size] = field(default_factory=list)
    simulation: list[Simulation] = field(default_factory=list)
    remote: list[Remote] = field(default_factory=list)
    barrier: list[Barrier] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def as_json(self, findings: list[Finding]) -> dict[str, Any]:
        """The whole as JSON-ready data, the verdict first."""
        verdict = [dataclasses.asdict(each) | {"met": each.met} for each in findings]
        return {"findings": verdict} | dataclasses.asdict(self)
