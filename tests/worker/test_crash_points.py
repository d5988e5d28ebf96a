"""A worker that is killed at any point: what it had remembered and written is one thing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.postgres import Databases

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="forks"), pytest.mark.timeout(600)]


def _go_through(*arguments: str) -> int:
    process = subprocess.run(
        [sys.executable, "-m", "tests.worker.crash_points", *arguments],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return int(process.stdout)


def test_another_worker_goes_on_wherever_one_is_killed(tmp_path: Path) -> None:
    """Around each commit, and around each write of a function."""
    assert _go_through("sqlite", str(tmp_path)) >= 40


@pytest.mark.skipif(os.environ.get("SAGAS_TEST_EVERYTHING") != "1", reason="takes long; SAGAS_TEST_EVERYTHING=1")
def test_another_worker_goes_on_wherever_one_is_killed_on_postgres(postgres_server: Databases) -> None:
    assert _go_through("postgres", postgres_server.url("postgres")) >= 40
