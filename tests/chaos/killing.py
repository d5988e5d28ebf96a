"""Runs the child, kills it at random moments with SIGKILL, starts it again; at the end, audits."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import business

__all__ = ["Story", "run"]

_LONGEST = 60.0


@dataclass
class Story:
    """What happened.

    Attributes:
        seed: Of everything random.
        kills: How many processes were killed.
        reported: What the processes said of each saga before they died.
        totals: See ``business.audit``.
    """

    seed: int
    kills: int = 0
    reported: dict[str, str] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)


def run(directory: Path, *, kills: int, seed: int, orders_a_life: int = 40) -> Story:
    """Lets as many processes be killed, and one come to its end.

    Raises:
        AssertionError: Something was lost, done twice or left half done; or what was reported changed.
    """
    rng = random.Random(seed)
    story = Story(seed)
    business.create(directory / "business.db")
    for life in range(1, kills + 1):
        _live(story, directory, life * orders_a_life, rng.uniform(0.0, 0.25))
    _live(story, directory, (kills + 1) * orders_a_life, None)
    story.totals = business.audit(directory / "journal.db", directory / "business.db")
    assert len(story.reported) == (kills + 1) * orders_a_life, "the last process reports every order"
    return story


def _live(story: Story, directory: Path, orders: int, seconds: float | None) -> None:
    """Runs one process, for so long after it began to work, or to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.child", str(directory), str(story.seed), str(orders)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        first = process.stdout.readline().strip()
        if first == "ready" and seconds is not None:
            threading.Timer(seconds, process.kill).start()
        out, err = process.communicate(timeout=_LONGEST)
    except BaseException:
        process.kill()
        process.wait()
        raise
    assert first == "ready", err
    if process.returncode != 0:
        assert seconds is not None, f"the last process failed:\n{err}"
        assert process.returncode == -9, f"it did not die of the signal, but of {process.returncode}:\n{err}"
        story.kills += 1
    _note(story, out)


def _note(story: Story, out: str) -> None:
    """Notes what a process reported, and that none says anything else than those before it."""
    for line in out.splitlines():
        status, saga_id = line.split()
        before = story.reported.setdefault(saga_id, status)
        assert before == status, f"{saga_id} was reported as {before}, and is {status} now"
