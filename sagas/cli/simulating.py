"""Looks for a broken law in random simulated runs, and tells what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from sagas.cli.playing import Player
from sagas.cli.problems import INTERRUPTED, complain
from sagas.cli.rendering import duration, print_json, show
from sagas.testing.checking import failure_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.cli.playing import Wishes
    from sagas.testing import CheckFailed, Run

__all__ = ["simulate"]

_MOST_ITEMS = 12


class Found(NamedTuple):
    """A law that is broken.

    Attributes:
        law: Its name.
        runs: In how many runs.
        first: The first of them.
    """

    law: str
    runs: int
    first: Run


def simulate(wishes: Wishes, runs: int, *, keep_going: bool, json: bool) -> int:
    """Plays random runs.

    Args:
        wishes: What, and how.
        runs: How many.
        keep_going: Whether to play them all, whatever they show.
        json: Whether to write JSON.

    Returns:
        The exit code: 1 if a law is broken, else 0; 130 if it was interrupted before one was.

    Raises:
        Problem: Something that is named is not there, or cannot be used.
        RequestError: No input can be drawn.
    """
    player = Player(wishes, runs)
    began = time.perf_counter()
    broken: dict[str, Found] = {}
    interrupted = False
    try:
        for run in player.play(quiet=json):
            _note(broken, run)
            if broken and not keep_going:
                break
    except KeyboardInterrupt:
        interrupted = True
        complain("interrupted; this is what was found so far")
    tried = _tried(player, time.perf_counter() - began)
    stories = [(found, _story(player, found.first)) for found in broken.values()]
    if json:
        print_json({**tried, "broken": [_as_json(found, story) for found, story in stories]})
    else:
        show(*_lines(tried, stories, all_played=keep_going or not broken))
    return 1 if broken else INTERRUPTED if interrupted else 0


def _note(broken: dict[str, Found], run: Run) -> None:
    """Counts the law that a run breaks first."""
    if run.broken:
        law = run.broken[0].law
        before = broken.get(law)
        broken[law] = Found(law, 1, run) if before is None else before._replace(runs=before.runs + 1)


def _story(player: Player, run: Run) -> CheckFailed:
    """Looks for the smallest run like this one, and tells its story."""
    return failure_of(player.simulator, player.checker.smallest(run))


def _tried(player: Player, seconds: float) -> dict[str, Any]:
    """Sums up what was played; now, since looking for the smallest run plays more."""
    report = player.checker.report()
    coverage = report.coverage
    return {
        "saga": player.saga.name,
        "seed": player.seed,
        "runs": coverage.runs,
        "seconds": round(seconds, 3),
        "outcomes": dict(sorted(coverage.outcomes.items())),
        "coverage": round(coverage.share, 4),
        "faults": [{"what": what, "at": at, "runs": runs} for (what, at), runs in sorted(coverage.fired.items())],
        "never_happened": [{"what": what, "at": at} for what, at in coverage.missing],
        "never_called": report.never_called,
        "never_undone": report.never_undone,
        "never_run": report.never_run,
        "report": str(report),
    }


def _as_json(found: Found, story: CheckFailed) -> dict[str, Any]:
    """Writes down a broken law."""
    run = story.run
    assert run is not None, "it is told of a run"
    return {
        "law": found.law,
        "how": run.broken[0].how,
        "runs": found.runs,
        "reproduce": repr(run.scenario),
        "timeline": [{"time": x.time, "process": x.process, "what": x.what, "world": x.view} for x in run.entries],
    }


def _lines(
    tried: dict[str, Any], stories: list[tuple[Found, CheckFailed]], *, all_played: bool
) -> Iterator[Text | str]:
    """Tells what was found, for a terminal."""
    for found, story in stories:
        first, *rest = str(story).splitlines()
        yield Text(_printable(first), style="bold red")
        yield from map(_printable, rest)
        yield ""
        if found.runs > 1:
            yield f"That law is broken in {found.runs} of {tried['runs']} runs."
            yield ""
    if not stories:
        yield Text(f"every law held in all {tried['runs']} runs of {tried['saga']}", style="green")
    speed = tried["runs"] / max(tried["seconds"], 1e-9)
    yield f"{tried['runs']} runs in {duration(tried['seconds'])}, {speed:.0f} a second; --seed {tried['seed']}"
    if all_played:
        _, *coverage = str(tried["report"]).splitlines()
        yield f"{tried['coverage']:.0%} of the faults that can happen did; runs ended {_counts(tried['outcomes'])}"
        yield from (_short(_printable(line)) for line in coverage)


def _counts(outcomes: dict[str, int]) -> str:
    """Lists how runs ended."""
    return ", ".join(f"{status} ({count})" for status, count in outcomes.items())


def _short(line: str) -> str:
    """Leaves out the end of a long list."""
    items = line.split("; ")
    left = len(items) - _MOST_ITEMS
    return line if left <= 0 else f"{'; '.join(items[:_MOST_ITEMS])}; and {left} more, which --json lists"


def _printable(line: str) -> str:
    """Takes what could steer a terminal out of a line."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)
