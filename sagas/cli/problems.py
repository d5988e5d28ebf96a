"""What goes wrong for a user becomes one line on stderr and a non-zero exit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from sagas.errors import SagaError

if TYPE_CHECKING:
    import click

__all__ = ["INTERRUPTED", "Commands", "Problem", "complain"]

INTERRUPTED = 130


class Problem(SagaError):
    """Something that the user can put right; its text says what, where and how."""


class Commands(TyperGroup):
    """A group of commands none of which ends in a traceback for what a user can put right."""

    def invoke(self, ctx: click.Context) -> Any:
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
    typer.echo("sagas: " + " ".join(text.split()), err=True)
