"""The verdict: ratios within a round, their medians over the rounds, beside their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.model import Case, Finding, Memory, Results, Size, SystemName, Window
from benchmarks.remote.findings import remote_findings

_PARKED_BYTES = 3 * 1024
_RECOVERY_SECONDS = 1.5
_SIMULATED = 2_000
_CHECK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems' windows, compared by one of their numbers."""

    what: str
    ours: SystemName
    theirs: SystemName
    unit: str
    target: float | None
    number: Callable[[Window], float]
    at_least: bool = True


def per_second(window: Window) -> float:
    """Sagas a second."""
    return window.per_second


def p50(window: Window) -> float:
    """Median latency, in milliseconds."""
    return window.p50_ms


_LIBRARY, _TRACED = SystemName.LIBRARY, SystemName.TRACED
_DBOS, _CEILING = SystemName.DBOS, SystemName.CEILING
_COMPARISONS = (
    Comparison("sagas/s at {clients} ÷ DBOS", _LIBRARY, _DBOS, "x", 50, per_second),
    Comparison("sagas/s at {clients} with spans ÷ DBOS", _TRACED, _DBOS, "x", 25, per_second),
    Comparison("sagas/s at {clients} with spans ÷ without", _TRACED, _LIBRARY, "%", None, per_second),
    Comparison("sagas/s at {clients} ÷ ceiling", _LIBRARY, _CEILING, "%", 0.4, per_second),
    Comparison("p50 alone ÷ DBOS", _LIBRARY, _DBOS, "%", 0.25, p50, at_least=False),
)


def findings(results: Results) -> list[Finding]:
    """Everything that `results` lets one say, in the order of the project's goals."""
    return [
        *_throughput(results, Case.COMPLETED),
        *_throughput(results, Case.COMPENSATED),
        *_memory(results),
        *_recovery(results),
        *_size(results),
        *_simulation(results),
        *remote_findings(results.remote, results.barrier),
    ]


def _throughput(results: Results, case: Case) -> Iterator[Finding]:
    """The comparisons; the targets are about sagas that complete."""
    windows = [window for window in results.windows if window.case is case]
    for each in compare(windows, _COMPARISONS):
        yield each if case is Case.COMPLETED else replace(each, what=f"saga case: {each.what}", target=None)


def compare(windows: Sequence[Window], comparisons: Sequence[Comparison]) -> Iterator[Finding]:
    """Compares two systems' windows, at the highest concurrency, or alone for latencies."""
    most = max((window.concurrency for window in windows), default=0)
    for each in comparisons:
        clients = 1 if each.number is p50 else most
        ratios = list(_ratios([w for w in windows if w.concurrency == clients], each))
        if ratios:
            yield Finding(
                what=each.what.format(clients=clients),
                value=median(ratios),
                low=min(ratios),
                high=max(ratios),
                unit=each.unit,
                target=each.target,
                at_least=each.at_least,
            )


def _ratios(windows: Sequence[Window], each: Comparison) -> Iterator[float]:
    """The ratio within each round that has both systems' windows."""

    def by_round(system: SystemName) -> dict[int, float]:
        return {w.round: each.number(w) for w in windows if w.system is system}

    ours, theirs = by_round(each.ours), by_round(each.theirs)
    return (ours[number] / theirs[number] for number in ours if number in theirs)


def _memory(results: Results) -> Iterator[Finding]:
    for probe in ("rss", "tracemalloc"):
        found = {each.system: each for each in results.memory if each.probe == probe}
        if ours := found.get(_LIBRARY):
            yield Finding(
                what=f"memory a parked saga, by {probe} ({ours.count:,} of them)",
                value=ours.bytes_per_saga,
                low=ours.bytes_per_saga,
                high=ours.bytes_per_saga,
                unit="B",
                target=_PARKED_BYTES,
                at_least=False,
                note=_beside(found.get(_DBOS)),
            )


def _recovery(results: Results) -> Iterator[Finding]:
    ours = [each.seconds_for_1000 for each in results.recovery if each.system is _LIBRARY]
    theirs = [each for each in results.recovery if each.system is _DBOS]
    if ours:
        note = ""
        if theirs:
            note = f"DBOS {median(each.seconds_for_1000 for each in theirs):.1f} s"
            if theirs[0].extrapolated:
                note += f", extrapolated from {theirs[0].count:,}"
        yield Finding(
            what="1,000 open sagas finished after process start",
            value=median(ours),
            low=min(ours),
            high=max(ours),
            unit="s",
            target=_RECOVERY_SECONDS,
            at_least=False,
            note=note,
        )


def _size(results: Results) -> Iterator[Finding]:
    found = {each.system: each for each in results.size}
    if ours := found.get(_LIBRARY):
        yield Finding(
            what="database a completed saga",
            value=ours.bytes_per_saga,
            low=ours.bytes_per_saga,
            high=ours.bytes_per_saga,
            unit="B",
            note=_beside(found.get(_DBOS)),
        )


def _simulation(results: Results) -> Iterator[Finding]:
    for kind in dict.fromkeys(kind for each in results.simulation for kind in each.rates):
        rates = [each.rates[kind] for each in results.simulation]
        yield Finding(
            what=f"simulated runs/s: {kind}", value=median(rates), low=min(rates), high=max(rates), unit="",
            target=_SIMULATED,
        )  # fmt: skip
    if seconds := [each.check_seconds for each in results.simulation]:
        yield Finding(
            what="a check by default", value=median(seconds), low=min(seconds), high=max(seconds), unit="s",
            target=_CHECK_SECONDS, at_least=False,
        )  # fmt: skip


def _beside(dbos: Memory | Size | None) -> str:
    return "" if dbos is None else f"DBOS {dbos.bytes_per_saga:,.0f} B"
