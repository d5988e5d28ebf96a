"""Many coordinators on one PostgreSQL, held against everything that fails in production."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos.fleet.driver import Options, run

# `SAGAS_CHAOS_SECONDS=600 pytest tests/chaos/test_fleet.py` for a long run.
_SECONDS = float(os.environ.get("SAGAS_CHAOS_SECONDS", "8"))


@pytest.mark.timeout(_SECONDS + 240)
def test_a_fleet_does_everything_exactly_once_whatever_is_killed_paused_or_cut(
    tmp_path: Path, rng: random.Random
) -> None:
    """See ``tests.chaos.fleet.audit`` for the laws."""
    seed = rng.randrange(2**32)
    print(f"repeat it with: python -m tests.chaos --postgres --seconds {_SECONDS:g} --seed {seed}")  # noqa: T201 - shown when it fails
    story = run(tmp_path, Options(seed=seed, seconds=_SECONDS))
    print(story)  # noqa: T201 - as above
    findings = story.findings
    assert findings is not None
    assert findings.takeovers > 0
    assert findings.statuses["completed"] > 0
    assert findings.statuses["compensated"] > 0
