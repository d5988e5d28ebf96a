"""What goes wrong for a user becomes one line on stderr and a non-zero exit."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from sagas.errors import SagaError

__all__ = ["INTERRUPTED", "Commands", "Problem", "complain", "printable"]

INTERRUPTED = 130


class Problem(SagaError):  # noqa: N818 - reads as one where it is raised
    """Something that the user can put right; its text says what, where and how."""


class Commands(TyperGroup):
    """A group of commands none of which ends in a traceback for what a user can put right."""

    def invoke(self, ctx: Any) -> Any:
        """Runs a command."""
        try:
            return super().invoke(ctx)
        except SagaError as error:
            complain(str(error))
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            complain("interrupted; what was started is in the journal and goes on when a coordinator runs again")
            raise typer.Exit(INTERRUPTED) from None


def complain(text: str) -> None:
    """Writes one line to stderr."""
    typer.echo(f"sagas: {printable(text)}", err=True)


def printable(text: str) -> str:
    """Puts a text on one line, without what could steer a terminal: it may come from anywhere."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in " ".join(text.split()))
