"""Limits across processes hold when one of these is killed, and what it held comes free."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.limited import AT_ONCE, RATE, Visit, create, visits

_SAGAS = 40
_LONGEST = 60.0
# Seconds for which an attempt may be held up between its token and its first act.
_DELAY = 1.0


def _start(url: str, business: Path, name: str) -> subprocess.Popen[str]:
    """Starts a process of the fleet."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.limited", url, str(business), name, str(_SAGAS)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process


def _end(process: subprocess.Popen[str]) -> None:
    """Waits until a process has done everything."""
    _, err = process.communicate(timeout=_LONGEST)
    assert process.returncode == 0, err


def _most_at_once(found: list[Visit], killed: dict[int, float]) -> int:
    """Counts how many visits there were at the same time. Those in a process that was killed lasted until then."""
    moments: list[tuple[float, int]] = []
    for process, kind, _, entered, left in found:
        if kind == "visit":
            end = left if left is not None else killed[process]
            moments += [(entered, 1), (max(entered, end), -1)]
    inside = most = 0
    for _, change in sorted(moments):
        inside += change
        most = max(most, inside)
    return most


def _most_beyond(times: list[float], rate: float) -> float:
    """Says by how many the most crowded span of time exceeds what a rate allows in it, a full bucket at its begin."""
    spans = itertools.combinations(enumerate(sorted(times)), 2)
    return max(last + 1 - first - rate * (1 + _DELAY + end - begin) for (first, begin), (last, end) in spans)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_limit_across_processes_holds_when_one_of_them_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path, rng: random.Random, kind: str
) -> None:
    """At no time do more attempts run than the limit says, nor do more begin than the rate; and all sagas end."""
    url = f"sqlite:///{tmp_path / 'journal.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    business = tmp_path / "business.db"
    create(business)
    fleet = {name: _start(url, business, name) for name in "abc"}
    for process in fleet.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
    victim = fleet.pop("a")
    while not visits(business):
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 0.5))
    killed = {victim.pid: time.time()}
    victim.kill()
    victim.communicate()
    fleet["a"] = _start(url, business, "a")  # which also waits for what the others have taken over
    for process in fleet.values():
        _end(process)
    found = visits(business)
    done = {(who, what) for _, what, who, _, left in found if left is not None}
    assert len(done) == 3 * _SAGAS * 2
    assert _most_at_once(found, killed) <= AT_ONCE
    rung = [entered for _, what, _, entered, _ in found if what == "ring"]
    assert _most_beyond(rung, RATE) <= 0
