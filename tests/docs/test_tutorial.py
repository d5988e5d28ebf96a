"""The tutorial, as a newcomer follows it: blocks are files, commands are typed, and what they print is compared."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from tests.docs.pages import DOCS, ROOT

TUTORIAL = DOCS / "tutorial.md"


class Newcomer:
    """Follows the tutorial in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.commands = 0

    def write(self, example: Example) -> None:
        """Appends a block to the file that its first line names."""
        name, _, code = str(example.parsed).removeprefix("# ").partition("\n")
        with (self._directory / name).open("a", encoding="utf-8") as file:
            file.write("\n" + code)

    def type(self, example: Example) -> None:
        """Types a command, and reads what it prints."""
        command, _, expected = str(example.parsed).removeprefix("$ ").partition("\n")
        program, script = command.split()
        assert program == "python"
        path = os.pathsep.join([str(ROOT), str(ROOT / "adapters"), *(path for path in sys.path if path)])
        done = subprocess.run(
            [sys.executable, script], cwd=self._directory, env=os.environ | {"PYTHONPATH": path}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        self.commands += 1
        assert done.returncode == (-signal.SIGKILL if script == "crash.py" else 0), done.stderr
        assert _lines(done.stdout) == _lines(expected)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    newcomer = Newcomer(tmp_path)
    document = Document.parse(
        str(TUTORIAL),
        CodeBlockParser("python", evaluator=newcomer.write),
        CodeBlockParser("console", evaluator=newcomer.type),
    )
    for example in document.examples():
        example.evaluate()
    assert newcomer.commands >= 5
