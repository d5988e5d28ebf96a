"""The command line's options."""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.model import CONCURRENCIES, Case, SystemName
from benchmarks.postgres import options as postgres

PARTS = ("throughput", "saga-case", "memory", "recovery", "size", "simulation", "remote")
_PLOTS = (".svg", ".png")
_RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many sagas a part uses, ours and DBOS's.

    Sizes and memory are reported for each saga, so the slower system can do with fewer.
    """

    memory: dict[SystemName, int]
    recovery: dict[SystemName, int]
    size: dict[SystemName, int]


_FULL = Counts(
    memory={SystemName.LIBRARY: 10_000, SystemName.DBOS: 1_000},
    recovery={SystemName.LIBRARY: 1_000, SystemName.DBOS: 1_000},
    size={SystemName.LIBRARY: 2_000, SystemName.DBOS: 500},
)
_QUICK = Counts(
    memory={SystemName.LIBRARY: 10_000, SystemName.DBOS: 200},
    recovery={SystemName.LIBRARY: 1_000, SystemName.DBOS: 100},
    size={SystemName.LIBRARY: 1_000, SystemName.DBOS: 100},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run, and how long.

    Attributes:
        parts: Which of `PARTS`.
        rounds: How often each system is measured, in turn with the others.
        seconds: How long a window starts new sagas.
        directory: Where the databases are made: the disk that is measured.
        out: The JSON file to write.
        plot: The plot to write; its suffix says the format.
        quick: Whether to stay under a minute, with wider spread.
        dbos_wal: Whether DBOS's database is put into WAL mode, which is not its default.
        postgres: Whether everything runs on PostgreSQL; it has parts of its own.
    """

    parts: tuple[str, ...]
    rounds: int
    seconds: float
    directory: Path
    out: Path
    plot: Path
    quick: bool
    dbos_wal: bool
    postgres: bool

    @property
    def counts(self) -> Counts:
        """How many sagas the parts that count them use."""
        return _QUICK if self.quick else _FULL

    def windows(self, number: int) -> list[tuple[Case, int]]:
        """What each system is measured at in round `number`: cases and concurrencies.

        A window lasts until 256 sagas of the slowest system have ended, and undoing takes twice
        as long as going forward; so a quick run has the saga case once, and not at 256.
        """
        windows = []
        if "throughput" in self.parts:
            windows += [(Case.COMPLETED, clients) for clients in CONCURRENCIES]
        if "saga-case" in self.parts:
            few = [clients for clients in CONCURRENCIES if clients < CONCURRENCIES[-1]]
            quick = few if number == 0 else []
            windows += [(Case.COMPENSATED, n) for n in (quick if self.quick else CONCURRENCIES)]
        return windows


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Reads `arguments`, the process's own by default; exits with a message when they are wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    directory: Path = given.dir
    out: Path = given.out or _RESULTS / ("postgres.json" if given.postgres else "latest.json")
    plot: Path = given.plot or out.with_suffix(".svg")
    if not directory.is_dir():
        parser.error(f"--dir: {directory} is not a directory")
    if plot.suffix not in _PLOTS:
        parser.error(f"--plot: {plot} does not end in {' or '.join(_PLOTS)}")
    parts = postgres.PARTS if given.postgres else PARTS
    unknown = [part for part in given.only or () if part not in parts]
    if unknown:
        parser.error(f"--only: no part {unknown[0]!r}; there are {', '.join(parts)}")
    return Options(
        parts=given.only or parts,
        rounds=given.rounds or (2 if given.quick and not given.postgres else 1 if given.quick else 3),
        seconds=given.seconds or (0.3 if given.quick else 3.0),
        directory=directory.resolve(),
        out=out,
        plot=plot,
        quick=given.quick,
        dbos_wal=given.dbos_wal,
        postgres=given.postgres,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.description = "Measure sagas, DBOS Transact and a bare driver side by side, on SQLite or on PostgreSQL."
    add = parser.add_argument
    add("--postgres", action="store_true", help="on PostgreSQL, with many processes and many sagas")
    add("--quick", action="store_true", help="about a minute: shorter windows, fewer sagas")
    parts = f"of {', '.join(PARTS)}; with --postgres: {', '.join(postgres.PARTS)}"
    add("--only", type=_parts, metavar="PART,…", help=parts)
    add("--rounds", type=_rounds, help="interleaved rounds (3; fewer with --quick)")
    add("--seconds", type=_seconds, help="seconds a window (3; 0.3 with --quick)")
    add("--dir", type=Path, default=Path(tempfile.gettempdir()), help="the disk to measure on")
    add("--out", type=Path, help="the JSON file to write (latest.json or postgres.json in benchmarks/results)")
    add("--plot", type=Path, help="the plot to write, .svg or .png (beside the JSON file)")
    add("--dbos-wal", action="store_true", help="put DBOS's SQLite database into WAL mode")
    return parser


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
