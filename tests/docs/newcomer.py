"""Follows a page as a reader does: blocks are files, commands are typed, and what they print is compared."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from tests.docs.pages import ROOT

__all__ = ["Newcomer"]

_STATUS = "; echo $?"


class Newcomer:
    """Follows a page in a directory.

    - A Python block is written into the file that its first line names: ``# shop.py`` (or added to it).
    - A ``console`` block is a command, ``$ python FILE`` or ``$ sagas …``, and what it prints. It has to end with
      status 0, or with another one that is named, or that the block shows by ``; echo $?``.

    Args:
        directory: Where.
        adds: Whether a block is added to what the file has already.
        statuses: By command, those that are not 0.
    """

    def __init__(self, directory: Path, *, adds: bool = False, statuses: dict[str, int] | None = None) -> None:
        self._directory = directory
        self._adds = adds
        self._statuses = statuses or {}
        self.commands = 0

    def follow(self, page: Path) -> None:
        """Goes from the top of a page to its bottom."""
        document = Document.parse(
            str(page),
            CodeBlockParser("python", evaluator=self._write),
            CodeBlockParser("console", evaluator=self._type),
        )
        for example in document.examples():
            example.evaluate()

    def run(self, *arguments: str) -> str:
        """Runs Python, and gives what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self._directory, env=self._environment(), capture_output=True, text=True,
            timeout=280, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _write(self, example: Example) -> None:
        """Writes a block to its file."""
        name, _, code = str(example.parsed).removeprefix("# ").partition("\n")
        with (self._directory / name).open("a" if self._adds else "w", encoding="utf-8") as file:
            file.write("\n" + code)

    def _type(self, example: Example) -> None:
        """Types a command, and reads what it prints."""
        typed, _, expected = str(example.parsed).removeprefix("$ ").partition("\n")
        command = typed.removesuffix(_STATUS)
        program, *arguments = shlex.split(command)
        start = {"python": [sys.executable], "sagas": [sys.executable, "-m", "sagas"]}[program]
        done = subprocess.run(
            [*start, *arguments], cwd=self._directory, env=self._environment(), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        self.commands += 1
        printed = done.stdout
        if command == typed:
            assert done.returncode == self._statuses.get(command, 0), done.stderr
        else:
            printed += f"{done.returncode}\n"
        told = f"{typed}: the page says\n{expected}\nbut this was printed\n{printed}"
        assert _lines(printed) == _lines(expected), told

    def _environment(self) -> dict[str, str]:
        """Lets commands find the library, and no bytecode of a file as it was a moment ago."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "adapters"), *(path for path in sys.path if path)])
        return os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]
