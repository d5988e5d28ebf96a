"""The library's promise, held against SIGKILL."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.chaos.killing import run

# `SAGAS_CHAOS_KILLS=200 pytest tests/chaos` for a long run.
_KILLS = int(os.environ.get("SAGAS_CHAOS_KILLS", "10"))


def test_processes_killed_at_random_moments_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, rng: random.Random
) -> None:
    """Every order ends completed or compensated, and the business agrees with the journal to the last effect."""
    seed = rng.randrange(2**32)
    print(f"repeat it with: python -m tests.chaos --kills {_KILLS} --seed {seed}")  # noqa: T201 - shown when it fails
    story = run(tmp_path, kills=_KILLS, seed=seed)
    assert story.kills >= 1, "no process lived long enough to be killed"
    assert story.totals["completed"] > 0
    assert story.totals["compensated"] > 0
