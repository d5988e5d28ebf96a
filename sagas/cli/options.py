"""The options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from sagas.cli.problems import Problem

__all__ = ["Json", "SagaId", "Secrets", "Store", "url_of"]

Store = Annotated[
    str | None,
    typer.Option("--store", envvar="SAGAS_STORE", metavar="URL", help="Where the journal is: sqlite:///orders.db"),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else, to stdout.")]
Secrets = Annotated[
    str,
    typer.Option(
        "--secret",
        envvar="SAGAS_SECRET_FIELDS",
        metavar="NAMES",
        help="Keys in payloads, or patterns for them, that are not shown: card_number,*_token",
    ),
]
SagaId = Annotated[str, typer.Argument(metavar="ID", help="The saga's id.")]


def url_of(store: str | None) -> str:
    """Gives the store's URL.

    Raises:
        Problem: Nobody said where it is.
    """
    if not store:
        raise Problem("which journal? Pass --store sqlite:///orders.db, or set SAGAS_STORE")
    return store
