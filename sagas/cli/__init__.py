"""The command line: ``sagas``, or ``python -m sagas``."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Runs the command that ``sys.argv`` names, and exits with its code."""
    from sagas.cli.app import app

    app(prog_name="sagas")
