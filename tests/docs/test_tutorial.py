"""Pages that are followed step by step: files are written, commands are typed, and what they print is compared."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.docs.newcomer import Newcomer
from tests.docs.pages import CHECKING, DEPLOYING, TUTORIAL


def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path, adds=True, statuses={"python crash.py": -signal.SIGKILL})
    newcomer.follow(TUTORIAL)
    assert newcomer.commands >= 5


def test_new_versions_are_deployed_as_the_page_says(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.follow(DEPLOYING)
    assert newcomer.commands >= 6


def test_mistakes_are_found_as_the_page_says(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    newcomer.follow(CHECKING)
    assert newcomer.commands == 2
