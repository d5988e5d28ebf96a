"""The verdict on PostgreSQL: numbers beside their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from benchmarks.findings import Comparison, compare, p50, per_second
from benchmarks.model import Finding, SystemName
from benchmarks.postgres.model import Fleet, Pile, Results

_COMPARISONS = (
    Comparison("sagas/s at {clients} ÷ DBOS", SystemName.LIBRARY, SystemName.DBOS, "x", 50, per_second),
    Comparison("sagas/s at {clients} with spans ÷ DBOS", SystemName.TRACED, SystemName.DBOS, "x", None, per_second),
    Comparison("sagas/s at {clients} ÷ a commit a step", SystemName.LIBRARY, SystemName.LOOP, "x", 2, per_second),
    Comparison(
        "sagas/s at {clients} ÷ group commit, executemany", SystemName.LIBRARY, SystemName.BATCHES, "%", 0.5, per_second
    ),
    Comparison(
        "sagas/s at {clients} ÷ group commit, arrays", SystemName.LIBRARY, SystemName.CEILING, "%", 0.5, per_second
    ),
    Comparison("p50 alone ÷ DBOS", SystemName.LIBRARY, SystemName.DBOS, "%", 0.25, p50, at_least=False),
)


def findings(results: Results) -> list[Finding]:
    """Everything that `results` lets one say, in the order of the project's goals."""
    return [
        *compare(results.windows, _COMPARISONS),
        *_fleets(results.fleets),
        *_recovery(results),
        *_parked(results),
        *_sizes(results),
        *_piles(results.piles),
    ]


def _at_most(what: str, numbers: Sequence[float], unit: str, target: float | None = None) -> Finding:
    """The median of some measurements, and what it should not exceed."""
    return Finding(what, median(numbers), min(numbers), max(numbers), unit, target, at_least=False)


def _fleets(fleets: Sequence[Fleet]) -> Iterator[Finding]:
    """How throughput grows with processes, within each round."""
    alone = {each.round: each.per_second for each in fleets if each.processes == 1}
    for processes in sorted({each.processes for each in fleets} - {1}):
        several = [each for each in fleets if each.processes == processes and each.round in alone]
        if several:
            ratios = [each.per_second / alone[each.round] for each in several]
            yield _at_most(f"sagas/s of {processes} processes ÷ of one", ratios, "x")


def _recovery(results: Results) -> Iterator[Finding]:
    found = results.recovery
    if found:
        what = f"{found[0].count:,} open sagas finished by a fresh process"
        yield _at_most(what, [each.finished for each in found], "s", 8)


def _parked(results: Results) -> Iterator[Finding]:
    for each in results.parked:
        parked = f"{each.count:,} parked sagas"
        yield _at_most(f"{parked}: start-up and a first saga", [each.started], "s", 10)
        yield _at_most(f"{parked}: peak memory of the coordinator", [each.peak_bytes / 2**20], "MB", 300)
        yield _at_most(f"{parked}: p99 of a signal", [each.signals.p99_ms], "ms", 50)
        yield _at_most(f"{parked}: rows read by scanning tables", [each.scanned], "", 0)


def _sizes(results: Results) -> Iterator[Finding]:
    for state in dict.fromkeys(each.state for each in results.sizes):
        mine = [each for each in results.sizes if each.state == state]
        yield _at_most(f"database a {state} saga", [sum(each.written for each in mine)], "B")
        yield _at_most("  of it, indexes", [sum(each.written for each in mine if each.index)], "B")


def _piles(piles: Sequence[Pile]) -> Iterator[Finding]:
    """How much more things cost on the highest pile than on the lowest, within each round."""
    heights = sorted({each.finished for each in piles})
    if len(heights) < 2:
        return
    low, high = heights[0], heights[-1]
    where = f"on {high:,} finished sagas ÷ on {low:,}"
    rates = _ratios(piles, low, high, lambda pile: pile.per_second)
    yield Finding(f"sagas/s {where}", median(rates), min(rates), max(rates), "%", 0.9)
    yield _at_most(f"p50 of a signal {where}", _ratios(piles, low, high, lambda pile: pile.signals.p50_ms), "%", 1.1)
    scanned = [each.scanned for each in piles if each.finished == high]
    yield _at_most(f"{high:,} finished sagas: rows read by scanning tables", scanned, "", 0)


def _ratios(piles: Sequence[Pile], low: int, high: int, number: Callable[[Pile], float]) -> list[float]:
    base = {each.round: number(each) for each in piles if each.finished == low}
    return [number(each) / base[each.round] for each in piles if each.finished == high and each.round in base]
