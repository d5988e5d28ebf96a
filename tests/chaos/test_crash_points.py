"""Crashes at every write, instead of at random."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import Databases

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.mark.parametrize("scenario", ["orders", "locks"])
def test_a_process_that_ends_at_any_write_is_recovered_to_the_right_end(
    scenario: str, tmp_path: Path, rng: random.Random
) -> None:
    """Before it, when nothing of it happened; and after it, when nobody heard that it did."""
    seed = rng.randrange(2**32)
    print(f"repeat it with: python -m tests.chaos.crash_points DIRECTORY {seed} {scenario}")  # noqa: T201 - shown when it fails
    process = subprocess.run(
        [sys.executable, "-m", "tests.chaos.crash_points", str(tmp_path), str(seed), scenario],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 20


# `SAGAS_CHAOS_STATEMENTS=many pytest tests/chaos/test_crash_points.py` for a long run, `every` for a longer one.
_STATEMENTS = os.environ.get("SAGAS_CHAOS_STATEMENTS", "one")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("sagas", dict.fromkeys([_STATEMENTS, "undone"]))
@pytest.mark.parametrize("how", ["kill", "cut"])
def test_a_transactional_step_writes_once_between_whichever_statements_it_is_interrupted(
    how: str, sagas: str, postgres_server: Databases
) -> None:
    """Its rows are there with the record that it succeeded, or neither is; whether the process or a connection ends.

    So are those of its undo.
    """
    process = subprocess.run(
        [sys.executable, "-m", "tests.chaos.ledger_points", postgres_server.url("postgres"), how, sagas],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 9
