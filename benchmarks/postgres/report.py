"""The tables of a run on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.model import Finding, SystemName
from benchmarks.postgres.model import Results, Size
from benchmarks.report import empty_table, throughput, verdict_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LABELS = {
    SystemName.LIBRARY: "sagas",
    SystemName.TRACED: "sagas, with spans",
    SystemName.DBOS: "DBOS Transact",
    SystemName.LOOP: "bare psycopg, a commit a step",
    SystemName.BATCHES: "bare psycopg, group commit by executemany",
    SystemName.CEILING: "bare psycopg, group commit by arrays",
}


def show(console: Console, results: Results, verdict: Sequence[Finding]) -> None:
    """Prints everything: what each system did, then the numbers beside their targets."""
    if results.windows:
        console.print(throughput("Five steps, completed, on PostgreSQL", results.windows, LABELS))
    tables = (
        (_fleets, results.fleets),
        (_recovery, results.recovery),
        (_parked, results.parked),
        (_sizes, results.sizes),
        (_piles, results.piles),
    )
    for table, found in tables:
        if found:
            console.print(table(results))
    if verdict:
        console.print(verdict_table(verdict))
    for line in [*_footnotes(results), *results.failed]:
        console.print(line, markup=False, highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = empty_table(title)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _fleets(results: Results) -> Table:
    """The curve: medians over the rounds."""
    table = _table(
        "Processes on one server, each with clients of its own", "sagas a second together", "lowest … highest"
    )
    for processes in sorted({each.processes for each in results.fleets}):
        found = [each.per_second for each in results.fleets if each.processes == processes]
        table.add_row(f"{processes} processes", f"{median(found):,.0f}", f"{min(found):,.0f} … {max(found):,.0f}")
    return table


def _recovery(results: Results) -> Table:
    """Each time that a process was killed."""
    title = "A process is killed, a fresh one goes on (seconds from the start of its Coordinator)"
    table = _table(title, "all taken over", "all finished", "finished after the kill")
    for each in results.recovery:
        times = (each.taken_over, each.finished, each.since_kill)
        table.add_row(f"{each.count:,} open sagas", *(f"{seconds:.2f}" for seconds in times))
    return table


def _parked(results: Results) -> Table:
    """A coordinator on a full database."""
    table = _table("Sagas that wait for a signal", "start-up", "peak memory", "signal p50 / p99 / worst")
    for each in results.parked:
        signals = each.signals
        times = f"{signals.p50_ms:.1f} / {signals.p99_ms:.1f} / {signals.worst_ms:.1f} ms"
        table.add_row(f"{each.count:,} parked", f"{each.started:.2f} s", f"{each.peak_bytes / 2**20:.0f} MB", times)
    return table


def _sizes(results: Results) -> Table:
    """Bytes a saga by table and index, but for those that sagas do not grow."""
    states = list(dict.fromkeys(each.state for each in results.sizes))
    columns = [column for state in states for column in (state, "compacted")]
    table = _table("Bytes a saga (as written; after VACUUM FULL)", *columns)
    for place in dict.fromkeys((each.table, each.index) for each in results.sizes):
        found = {each.state: each for each in results.sizes if (each.table, each.index) == place}
        if any(each.written >= 1 for each in found.values()):
            table.add_row(f"  {place[1]}" if place[1] else place[0], *_weights(found, states))
    everything = {state: _sum(results, state) for state in states}
    table.add_row("together", *_weights(everything, states))
    return table


def _sum(results: Results, state: str) -> Size:
    mine = [each for each in results.sizes if each.state == state]
    return Size(state, "", "", sum(each.written for each in mine), sum(each.compacted for each in mine))


def _weights(found: dict[str, Size], states: Sequence[str]) -> list[str]:
    none = Size("", "", "", 0, 0)
    return [f"{number:,.0f}" for s in states for number in (found.get(s, none).written, found.get(s, none).compacted)]


def _piles(results: Results) -> Table:
    """Medians over the rounds, by the number of finished sagas."""
    table = _table("On top of finished sagas", "sagas a second", "signal p50 / p99 in ms")
    for finished in sorted({each.finished for each in results.piles}):
        found = [each for each in results.piles if each.finished == finished]
        rate = median(each.per_second for each in found)
        p50, p99 = median(each.signals.p50_ms for each in found), median(each.signals.p99_ms for each in found)
        table.add_row(f"{finished:,} finished", f"{rate:,.0f}", f"{p50:,.1f} / {p99:,.1f}")
    return table


def _footnotes(results: Results) -> list[str]:
    """What a careful reader asks about the numbers."""
    lines = [f"PostgreSQL {', '.join(f'{name} {value}' for name, value in results.server.items())}."]
    bare = results.facts.get(SystemName.CEILING, {})
    if bare:
        lines.append(
            f"The bare driver writes {bare['rows']} rows in {bare['commits']} commits a saga, the library's own."
        )
    traced = results.facts.get(SystemName.TRACED, {})
    if traced.get("spans"):
        lines.append(f"The collector received {traced['spans'] / traced['sagas']:.1f} spans a saga in the last round.")
    after = ", ".join(f"{part} {load}" for part, load in results.load.items())
    lines.append(f"Load average before: {results.machine.get('load_before')}; after each part: {after}.")
    return lines
