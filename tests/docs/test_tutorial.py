"""Pages that are followed step by step: files are written, commands are typed, and what they print is compared."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.docs.newcomer import Newcomer
from tests.docs.pages import CHECKING, DEPLOYING, OWN, TUTORIAL


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
