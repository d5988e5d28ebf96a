"""Draws the graph of all the ways that a saga takes in random simulated runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sagas.cli.playing import Player
from sagas.cli.problems import Problem, complain
from sagas.testing.graphs import Collector, as_dot, as_mermaid, as_svg

if TYPE_CHECKING:
    from sagas.cli.playing import Wishes

__all__ = ["draw"]

_FORMATS = {"svg": as_svg, "mermaid": as_mermaid, "dot": as_dot}
_BY_ENDING = {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid", ".dot": "dot", ".gv": "dot"}


def draw(wishes: Wishes, runs: int, form: str | None, output: Path | None) -> int:
    """Plays random runs and draws which way they took.

    Args:
        wishes: What, and how.
        runs: How many.
        form: ``svg``, ``mermaid`` or ``dot``; by the name of the file if ``None``, or else ``svg``.
        output: Where to write it; to stdout if ``None``.

    Returns:
        The exit code: 1 if a run broke a law, else 0.

    Raises:
        Problem: Something that is named is not there, or cannot be used; or the file cannot be written.
        RequestError: No input can be drawn.
    """
    write = _FORMATS[form or _by_name(output)]
    player = Player(wishes, runs)
    collector = Collector(player.saga.name)
    broken: dict[str, int] = {}
    for run in player.play(quiet=False):
        collector.add(run)
        for law in {x.law for x in run.broken}:
            broken[law] = broken.get(law, 0) + 1
    _write(write(collector.graph()), output)
    for law, count in broken.items():
        complain(
            f"in {count} of {runs} runs a law is broken: {law}; sagas simulate --seed {player.seed} tells the story"
        )
    return 1 if broken else 0


def _by_name(output: Path | None) -> str:
    """Says which format a file has.

    Raises:
        Problem: Its name does not tell.
    """
    if output is None:
        return "svg"
    form = _BY_ENDING.get(output.suffix)
    if form is None:
        raise Problem(f"{output} may be anything; choose a --format, or a name that ends in {', '.join(_BY_ENDING)}")
    return form


def _write(text: str, output: Path | None) -> None:
    """Writes the graph.

    Raises:
        Problem: It cannot be written there.
    """
    if output is None:
        typer.echo(text.encode(), nl=False)  # as bytes, so that it is UTF-8 wherever it goes
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Problem(f"{output} cannot be written: {error.strerror}") from error
