"""Pages that are followed step by step: files are written, commands are typed, and what they print is compared."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import pytest

from tests.docs.examples import blocks
from tests.docs.newcomer import Newcomer
from tests.docs.pages import CHECKING, DEPLOYING, OWN, PYTEST, SIMULATING, TUTORIAL


def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path, adds=True, statuses={"python crash.py": -signal.SIGKILL})
    newcomer.follow(TUTORIAL)
    assert newcomer.commands >= 5


def test_new_versions_are_deployed_as_the_page_says(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.follow(DEPLOYING)
    assert newcomer.commands >= 6


@pytest.mark.parametrize(
    ("file", "tests"), [("my_queue", 60), ("my_queue_on_asyncio", 30), ("my_transport", 60), ("my_store", 100)]
)
def test_what_a_reader_wrote_passes_the_contracts(tmp_path: Path, file: str, tests: int) -> None:
    """Under pytest as it comes, with all of a contract's tests."""
    newcomer = Newcomer(tmp_path)
    newcomer.follow(OWN)
    told = newcomer.run("-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{file}.py")
    assert int(re.findall(r"(\d+) passed", told)[0]) >= tests


def test_mistakes_are_found_as_the_page_says(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.follow(CHECKING)
    assert newcomer.commands == 2


def test_the_tests_that_a_reader_wrote_pass(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.follow(PYTEST)
    told = newcomer.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sagas.testing.plugin")
    assert int(re.findall(r"(\d+) passed", told)[0]) >= 5


def test_sagas_are_simulated_and_drawn_as_the_page_says(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.follow(SIMULATING)
    commands = [line for block in blocks(SIMULATING, "sh") for line in block.splitlines()]
    told = [newcomer.run("-m", *shlex.split(command)) for command in commands]
    assert "every law held in all 500 runs of book_trip" in told[0]
    assert (tmp_path / "trip.mmd").read_text(encoding="utf-8").startswith("%% book_trip: 300 ")
    assert told[-1].startswith("digraph ")
    newcomer.run("draw.py")
    assert (tmp_path / "three.svg").read_text(encoding="utf-8").startswith("<svg ")
