"""The parts of a run: which children are started, in which order, with which requests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.model import (
    RECOVERY_COUNT,
    Case,
    Memory,
    Recovery,
    Results,
    Simulation,
    Size,
    SystemName,
    Window,
)
from benchmarks.options import Options
from benchmarks.process import ChildFailed, ask, child
from benchmarks.remote.measure import barriers, remotes
from benchmarks.remote.servers import QUICK, WAYS, missing

_TAPED = "taped-0000000"


@dataclass(slots=True)
class Bench:
    """One run of the benchmarks, as it goes on.

    Attributes:
        options: What was asked for.
        systems: The systems that can run here.
        probes: How memory can be measured here.
        say: Shows what is being measured.
        results: What has been found.
    """

    options: Options
    systems: tuple[SystemName, ...]
    probes: tuple[str, ...]
    say: Callable[[str], None]
    results: Results = field(default_factory=Results)
    _broken: set[SystemName] = field(default_factory=set)

    def run(self) -> Results:
        """Does all parts asked for; a system that fails is named, and the others go on."""
        parts = self.options.parts
        if "throughput" in parts or "saga-case" in parts:
            self._throughput()
        if "memory" in parts:
            self._memory()
        if "recovery" in parts:
            self._recovery()
        if "size" in parts:
            self._size()
        if "simulation" in parts:
            self._simulation()
        if "remote" in parts:
            self._remote()
        return self.results

    def _throughput(self) -> None:
        """Measures system after system, round after round, starting with another each round."""
        rounds = [self.options.windows(number) for number in range(self.options.rounds)]
        cases = list(dict.fromkeys(case for windows in rounds for case, _ in windows))
        with self._directory() as directory:
            tapes = self._tapes(cases, directory)
            alive = [name for name in self.systems if tapes or name is not SystemName.CEILING]
            for number, windows in enumerate(rounds):
                turn = number % max(1, len(alive))
                for system in alive[turn:] + alive[:turn]:
                    if windows and system not in self._broken:
                        self._round(system, number, windows, tapes)

    def _round(
        self,
        system: SystemName,
        number: int,
        windows: list[tuple[Case, int]],
        tapes: dict[str, Any],
    ) -> None:
        """Measures one system at all windows of a round."""
        what = f"round {number + 1} of {self.options.rounds}"
        with self._measuring(system, what) as request:
            request |= {
                "windows": windows,
                "seconds": self.options.seconds,
                "tapes": tapes,
            }
            task = "ceiling" if system is SystemName.CEILING else "throughput"
            reply = ask(task, request)
            self.results.windows += [
                Window(system=system, round=number, **{**window, "case": Case(window["case"])})
                for window in reply["windows"]
            ]
            self.results.facts[system] = reply["facts"]

    def _tapes(self, cases: list[Case], directory: Path) -> dict[str, Any]:
        """Has the library write the sagas that the ceiling copies; nothing if it cannot."""
        tapes: dict[str, Any] = {}
        try:
            for case in cases:
                taped = {"database": str(directory / f"{case}.db"), "saga_id": _TAPED}
                ask("tape", taped | {"case": case, "system": SystemName.LIBRARY})
                tapes[case] = taped
        except ChildFailed as failure:
            self._note_failure(f"ceiling skipped, there is no saga to copy: {failure}")
            return {}
        return tapes

    def _memory(self) -> None:
        for system, count in self._counted(self.options.counts.memory):
            # Side by side: bytes do not depend on who else computes.
            with ThreadPoolExecutor() as pool:
                list(pool.map(partial(self._memory_by, system, count), self.probes))

    def _memory_by(self, system: SystemName, count: int, probe: str) -> None:
        with self._measuring(system, f"memory of {count:,} parked sagas") as request:
            reply = ask("memory", request | {"count": count, "probe": probe})
            self.results.memory.append(Memory(system, probe, count, reply["bytes_per_saga"]))

    def _recovery(self) -> None:
        for system, count in self._counted(self.options.counts.recovery):
            for _ in range(self._repeats(system)):
                with self._measuring(system, f"recovery of {count:,} open sagas") as request:
                    request["count"] = count
                    with child("block", request):
                        pass  # They are all in their third step now; leaving kills the process.
                    reply = ask("recover", request)
                    self.results.recovery.append(_recovery(system, count, **reply))

    def _repeats(self, system: SystemName) -> int:
        """DBOS takes half a minute for what takes others one second, so once does."""
        return 1 if system is SystemName.DBOS else self.options.rounds

    def _size(self) -> None:
        for system, count in self._counted(self.options.counts.size):
            with self._measuring(system, f"database size of {count:,} sagas") as request:
                reply = ask("size", request | {"count": count})
                self.results.size.append(Size(system, count, reply["bytes_per_saga"]))

    def _simulation(self) -> None:
        for number in range(self.options.rounds):
            what = f"simulated runs, round {number + 1} of {self.options.rounds}"
            with self._measuring(SystemName.LIBRARY, what) as request:
                reply = ask("simulation", request | {"seconds": self.options.seconds})
                self.results.simulation.append(Simulation(**reply))

    def _remote(self) -> None:
        options = self.options
        for way in QUICK if options.quick else WAYS:
            if (reason := missing(way)) is not None:
                self.say(f"{way} skipped: {reason}")
                self.results.facts[way] = {"skipped": reason}
                continue
            with self._measuring(SystemName.LIBRARY, f"remote steps over {way}"), self._directory() as directory:
                found = remotes(way, directory, rounds=options.rounds, seconds=options.seconds, say=self.say)
                self.results.remote.extend(found)
        with self._measuring(SystemName.LIBRARY, "the barrier"), self._directory() as directory:
            found_too = barriers(directory, rounds=options.rounds, seconds=options.seconds, say=self.say)
            self.results.barrier.extend(found_too)

    def _counted(self, counts: dict[SystemName, int]) -> list[tuple[SystemName, int]]:
        return [(system, count) for system, count in counts.items() if system in self.systems]

    @contextmanager
    def _measuring(self, system: SystemName, what: str) -> Iterator[dict[str, Any]]:
        """A request on a fresh database; a child that fails is noted, not raised."""
        self.say(f"{system}: {what}")
        with self._directory() as directory:
            try:
                yield {
                    "system": system,
                    "database": str(directory / "bench.db"),
                    "dbos_wal": self.options.dbos_wal,
                }
            except ChildFailed as failure:
                self._broken.add(system)
                self._note_failure(f"{system}: {what} failed: {failure}")

    def _note_failure(self, line: str) -> None:
        if line not in self.results.failed:
            self.results.failed.append(line)

    @contextmanager
    def _directory(self) -> Iterator[Path]:
        path = Path(tempfile.mkdtemp(prefix="sagas-bench-", dir=self.options.directory))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _recovery(system: SystemName, count: int, first_seconds: float, seconds: float) -> Recovery:
    extrapolated = count < RECOVERY_COUNT
    pace = (seconds - first_seconds) / max(1, count - 1)
    projected = first_seconds + pace * (RECOVERY_COUNT - 1) if extrapolated else seconds
    return Recovery(system, count, first_seconds, seconds, projected, extrapolated)
