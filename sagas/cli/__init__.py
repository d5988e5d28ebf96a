"""The command line: ``sagas``, or ``python -m sagas``."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command that ``sys.argv`` names, and exits with its code."""
    from sagas.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a sign gets another, not an error
    app(prog_name="sagas")
