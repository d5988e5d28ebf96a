"""The tables of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.model import Case, Finding, Results, SystemName, Window
from benchmarks.remote.model import Barrier, Remote, System
from benchmarks.remote.servers import WAYS

LABELS = {
    SystemName.LIBRARY: "sagas",
    SystemName.TRACED: "sagas, with spans",
    SystemName.DBOS: "DBOS Transact",
    SystemName.CEILING: "ceiling (bare sqlite3)",
}
_TITLES = {
    Case.COMPLETED: "Five steps, completed",
    Case.COMPENSATED: "The saga case: fifth step rejected, four undone",
}


def show(console: Console, results: Results, verdict: Sequence[Finding]) -> None:
    """Prints everything: what each system did, then the ratios beside their targets."""
    for case in Case:
        windows = [window for window in results.windows if window.case is case]
        if windows:
            console.print(throughput(_TITLES[case], windows, LABELS))
    if results.remote:
        console.print(remote_table(results.remote))
    if results.barrier:
        console.print(barrier_table(results.barrier))
    if results.memory or results.recovery or results.size:
        console.print(_single_numbers(results))
    if verdict:
        console.print(verdict_table(verdict))
    for line in [*_footnotes(results), *results.failed]:
        console.print(line, markup=False, highlight=False)


def empty_table(title: str) -> Table:
    """An empty table whose first column is wide enough for what it is about."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    return table


def throughput(title: str, windows: Sequence[Window], labels: Mapping[SystemName, str]) -> Table:
    """Medians over the rounds: sagas a second, and p50 / p99 latency in milliseconds."""
    table = empty_table(f"{title} (sagas a second; p50 / p99 in ms)")
    concurrencies = sorted({window.concurrency for window in windows})
    for clients in concurrencies:
        table.add_column(f"{clients} at once", justify="right")
        table.add_column("p50 / p99", justify="right", style="dim")
    for system in SystemName:
        mine = [window for window in windows if window.system is system]
        if mine:
            cells = [_cells([window for window in mine if window.concurrency == clients]) for clients in concurrencies]
            table.add_row(labels[system], *(cell for pair in cells for cell in pair))
    return table


def remote_table(found: Sequence[Remote]) -> Table:
    """The same for sagas with remote steps, by way and system."""
    table = empty_table("Five remote steps, or as many bare round trips (sagas a second; p50 / p99 in ms)")
    concurrencies = sorted({each.concurrency for each in found})
    for clients in concurrencies:
        table.add_column(f"{clients} at once", justify="right")
        table.add_column("p50 / p99", justify="right", style="dim")
    for way, system in dict.fromkeys((each.way, each.system) for each in sorted(found, key=_place)):
        mine = [each for each in found if (each.way, each.system) == (way, system)]
        cells = [_cells([each for each in mine if each.concurrency == clients]) for clients in concurrencies]
        table.add_row(f"{way}: {system}", *(cell for pair in cells for cell in pair))
    return table


def barrier_table(found: Sequence[Barrier]) -> Table:
    """What one worker performs, with its inbox and without."""
    table = empty_table("The barrier (steps a second in one worker)")
    concurrencies = sorted({each.concurrency for each in found})
    for clients in concurrencies:
        table.add_column(f"{clients} at once", justify="right")
    for step, with_inbox in product(dict.fromkeys(each.step for each in found), (True, False)):
        cells = [
            median(
                x.with_inbox if with_inbox else x.without for x in found if (x.step, x.concurrency) == (step, clients)
            )
            for clients in concurrencies
        ]
        table.add_row(f"{step}, {'with' if with_inbox else 'without'} the inbox", *(f"{cell:,.0f}" for cell in cells))
    return table


def _place(found: Remote) -> tuple[int, int]:
    return WAYS.index(found.way), list(System).index(found.system)


def _cells(windows: Sequence[Window | Remote]) -> tuple[str, str]:
    if not windows:
        return "", ""
    per_second = median(window.per_second for window in windows)
    p50 = median(window.p50_ms for window in windows)
    p99 = median(window.p99_ms for window in windows)
    return f"{per_second:,.0f}", f"{_ms(p50)} / {_ms(p99)}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.1f}" if milliseconds < 100 else f"{milliseconds:,.0f}"


def _single_numbers(results: Results) -> Table:
    """Memory, recovery and size, one line a system."""
    table = empty_table("Memory, recovery, size")
    table.add_column("parked, RSS", justify="right")
    table.add_column("parked, tracemalloc", justify="right")
    table.add_column("1,000 recovered", justify="right")
    table.add_column("database a saga", justify="right")
    for system in (SystemName.LIBRARY, SystemName.DBOS):
        rss, traced = (
            _bytes(m.bytes_per_saga for m in results.memory if (m.system, m.probe) == (system, p))
            for p in ("rss", "tracemalloc")
        )
        recovered = [each for each in results.recovery if each.system is system]
        seconds = ""
        if recovered:
            about = "≈ " if recovered[0].extrapolated else ""
            seconds = f"{about}{median(each.seconds_for_1000 for each in recovered):.2f} s"
        size = _bytes(each.bytes_per_saga for each in results.size if each.system is system)
        if rss or traced or seconds or size:
            table.add_row(LABELS[system], rss, traced, seconds, size)
    return table


def _bytes(numbers: Iterable[float]) -> str:
    found = list(numbers)
    return f"{median(found):,.0f} B" if found else ""


def verdict_table(verdict: Sequence[Finding]) -> Table:
    """The findings, each with its spread over the rounds and its target."""
    table = empty_table("Beside the targets (medians over the rounds)")
    table.add_column("found", justify="right")
    table.add_column("lowest … highest", justify="right", style="dim", no_wrap=True)
    table.add_column("target", justify="right")
    table.add_column("")
    table.add_column("", style="dim")
    for each in verdict:
        low, high = _value(each, each.low), _value(each, each.high)
        spread = "" if each.low == each.high else f"{low} … {high}"
        table.add_row(each.what, _value(each, each.value), spread, _target(each), _mark(each), each.note)
    return table


def _value(finding: Finding, number: float) -> str:
    match finding.unit:
        case "%":
            return f"{number:.0%}"
        case "x":
            return f"{number:,.1f} x"
        case "B":
            return f"{number:,.0f} B"
        case "ms":
            return f"{number:.1f} ms"
        case "":
            return f"{number:,.0f}"
        case unit:
            return f"{number:.2f} {unit}"


def _target(finding: Finding) -> str:
    if finding.target is None:
        return ""
    return f"{'≥' if finding.at_least else '≤'} {_value(finding, finding.target)}"


def _mark(finding: Finding) -> str:
    match finding.met:
        case None:
            return ""
        case True:
            return "[green]met[/]"
        case False:
            return "[red]missed[/]"


def _footnotes(results: Results) -> list[str]:
    """What a careful reader asks about the numbers."""
    lines = []
    if mode := results.facts.get(SystemName.DBOS, {}).get("journal_mode"):
        default = "its default" if mode == "delete" else "set for it"
        lines.append(f"DBOS ran SQLite with journal_mode={mode} ({default}) and synchronous=FULL.")
    traced = results.facts.get(SystemName.TRACED, {})
    if traced.get("spans"):
        a_saga = traced["spans"] / traced["sagas"]
        lines.append(f"The collector received {a_saga:.1f} spans a saga in the last round.")
    ceiling = results.facts.get(SystemName.CEILING, {})
    costs = [(case, ceiling.get(f"{case}_rows"), ceiling.get(f"{case}_commits")) for case in Case]
    lines += [f"{way} skipped: {each['skipped']}" for way, each in results.facts.items() if "skipped" in each]
    return lines + [
        f"A saga that is {case} costs the ceiling {rows} rows in {commits} commits."
        for case, rows, commits in costs
        if rows
    ]
