"""The commands that play sagas in simulated runs, their arguments and options."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sagas.cli.problems import complain
from sagas.errors import SagaError

__all__ = ["add_to"]

_NOT_TRIED = 2
_COMMON = "MODULE:NAME, or NAME for what is in the saga's module"

Saga = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:SAGA", help="Which saga, such as shop.orders:place_order or shop/orders.py:place_order."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Draws the same runs again; a new one by default.")]
World = Annotated[
    str | None, typer.Option("--world", metavar="NAME", help=f"Makes the world that the steps act on ({_COMMON}).")
]
Database = Annotated[
    str | None,
    typer.Option("--database", metavar="NAME", help="Gives what transactional steps write to, of the world."),
]
View = Annotated[str | None, typer.Option("--view", metavar="NAME", help="Gives what counts of it, to be compared.")]
Inputs = Annotated[
    str | None, typer.Option("--input", metavar="NAME", help="A hypothesis strategy of its input; by its types else.")
]
Signals = Annotated[
    str | None, typer.Option("--signals", metavar="NAME", help="A mapping of strategies of what signals say.")
]
Steps = Annotated[
    list[str] | None, typer.Option("--step", metavar="NAME", help="A step that its module does not name.")
]
Faults = Annotated[
    str | None, typer.Option("--faults", metavar="KIND,…", help="Only these kinds, such as 'crash after,lost reply'.")
]
Most = Annotated[int, typer.Option("--most", min=0, help="How many faults there may be in a run.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(simulate)
    app.command()(graph)


class Format(StrEnum):
    """How a graph is written."""

    SVG = "svg"
    MERMAID = "mermaid"
    DOT = "dot"


def simulate(
    saga: Saga,
    *,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="How many runs to play.")] = 10_000,
    world: World = None,
    view: View = None,
    invariant: Annotated[
        list[str] | None,
        typer.Option(
            "--invariant", metavar="NAME", help="Is called with the world at the end, and raises or is false."
        ),
    ] = None,
    always: Annotated[
        list[str] | None,
        typer.Option("--always", metavar="NAME", help="The same, after every record and every effect."),
    ] = None,
    inputs: Inputs = None,
    signals: Signals = None,
    database: Database = None,
    steps: Steps = None,
    faults: Faults = None,
    most: Most = 4,
    seed: Seed = None,
    late: Annotated[bool, typer.Option("--late", help="Let steps act long after their process was given up.")] = False,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Do not stop at the first broken law.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else, to stdout.")] = False,
) -> None:
    """Play random runs of a saga in which everything goes wrong that can, and look for a broken law.

    The steps really run, against the world that is named. Exits with 0 if every law held, with 1 and the story of the
    smallest run found if not, with 2 if it could not be tried.
    """
    from sagas.cli.playing import Wishes
    from sagas.cli.simulating import simulate as play

    wishes = Wishes(
        saga=saga, world=world, view=view, invariants=invariant or (), always=always or (), inputs=inputs,
        signals=signals, steps=steps or (), faults=faults, most=most, seed=seed, late=late, database=database,
    )  # fmt: skip
    try:
        found = play(wishes, runs, keep_going=keep_going, json=json)
    except SagaError as error:
        complain(str(error))
        raise typer.Exit(_NOT_TRIED) from error
    raise typer.Exit(found)


def graph(
    saga: Saga,
    *,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="How many runs to play.")] = 2_000,
    form: Annotated[Format | None, typer.Option("--format", "-f", help="By the file's name, else svg.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; to stdout by default.")
    ] = None,
    world: World = None,
    inputs: Inputs = None,
    signals: Signals = None,
    database: Database = None,
    steps: Steps = None,
    faults: Faults = None,
    most: Most = 4,
    seed: Seed = None,
) -> None:
    """Draw the graph of all the ways that a saga takes in simulated runs: steps, undos, doubts, and how often.

    Exits with 0, with 1 if a run broke a law on the way, with 2 if it could not be tried.
    """
    from sagas.cli.graphing import draw
    from sagas.cli.playing import Wishes

    wishes = Wishes(
        saga=saga, world=world, view=None, inputs=inputs, signals=signals, steps=steps or (), faults=faults, most=most,
        seed=seed, database=database,
    )  # fmt: skip
    try:
        found = draw(wishes, runs, None if form is None else form.value, output)
    except SagaError as error:
        complain(str(error))
        raise typer.Exit(_NOT_TRIED) from error
    raise typer.Exit(found)
