"""Plays random simulated runs of a saga that is named on the command line, with a progress bar."""

from __future__ import annotations

import random
import sys
import traceback
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from sagas.cli.importing import find_object
from sagas.cli.problems import Problem
from sagas.cli.running import find_saga
from sagas.errors import SagaError

try:
    from sagas.testing import Simulator
except ModuleNotFoundError as error:
    raise Problem(f"simulated runs need the package {error.name}: pip install 'sagakit[testing]'") from error

from sagas.testing.checking import Checker
from sagas.testing.faults import KINDS
from sagas.testing.heap import set_aside
from sagas.testing.random_runs import RandomRuns
from sagas.testing.scenarios import calls_of
from sagas.testing.simulation.answers import draw_some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.progress import Task

    from sagas.testing import Run

__all__ = ["Player", "Wishes"]

_INPUTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked for; names are as ``find_object`` takes them, and what they mean is as for ``check``.

    Attributes:
        saga: ``MODULE:SAGA``.
        faults: Kinds of faults, with commas between them; all if ``None``.
        most: How many faults there may be in a run.
    """

    saga: str
    world: str | None
    view: str | None
    inputs: str | None
    signals: str | None
    steps: Sequence[str]
    faults: str | None
    most: int
    seed: int | None
    invariants: Sequence[str] = ()
    always: Sequence[str] = ()
    late: bool = False
    database: str | None = None


class Player:
    """Plays what was asked for.

    Args:
        wishes: See there.
        runs: How many runs.

    Attributes:
        saga: The saga.
        simulator: Plays the runs.
        checker: Reports, and looks for the smallest run.
        seed: Draws the same runs again.

    Raises:
        Problem: Something that was named is not there.
        RequestError: No input can be drawn.
    """

    def __init__(self, wishes: Wishes, runs: int) -> None:
        self.saga, _ = find_saga(wishes.saga)
        home = wishes.saga.partition(":")[0]

        def find(place: str | None, option: str) -> Any:
            return None if place is None else find_object(place, option, home)

        kinds = _kinds(wishes.faults)
        self.simulator = Simulator(
            self.saga,
            world=find(wishes.world, "--world"),
            view=find(wishes.view, "--view"),
            invariants=[find(x, "--invariant") for x in wishes.invariants],
            always=[find(x, "--always") for x in wishes.always],
            signals=find(wishes.signals, "--signals"),
            steps=[find(x, "--step") for x in wishes.steps],
            late=wishes.late,
            database=find(wishes.database, "--database"),
        )
        self.seed = wishes.seed if wishes.seed is not None else random.SystemRandom().randrange(1 << 32)
        strategy = calls_of(self.saga, find(wishes.inputs, "--input"))
        self.checker = Checker(self.simulator, strategy, runs, self.seed)
        self._runs = runs
        calls = draw_some(strategy, _INPUTS)
        self._drawn = RandomRuns(self.simulator, calls, self.seed, most=wishes.most, kinds=kinds)

    def play(self, *, quiet: bool) -> Iterator[Run]:
        """Plays the runs, with a progress bar on stderr if that is a terminal.

        Raises:
            Problem: The world cannot be made.
            RequestError: The view cannot be used.
        """
        bar = _bar(quiet=quiet)
        task = bar.add_task(self.saga.name, total=self._runs, broken=0)
        broken = 0
        with bar, set_aside():
            try:
                for run in islice(self._drawn, self._runs):
                    broken += bool(run.broken)
                    bar.update(task, advance=1, broken=broken)
                    yield run
            except SagaError:
                raise  # it says itself what is wrong
            except Exception as error:
                raise Problem(_what_went_wrong(error)) from error


def _kinds(text: str | None) -> list[str] | None:
    """Reads the kinds of faults.

    Raises:
        Problem: There is no such kind.
    """
    if text is None:
        return None
    kinds = [x.strip() for x in text.split(",") if x.strip()]
    unknown = [x for x in kinds if x not in KINDS]
    if unknown:
        raise Problem(f"--faults: there is no {', '.join(map(repr, unknown))}; there are: {', '.join(KINDS)}")
    return kinds


def _bar(*, quiet: bool) -> Progress:
    """Makes the progress bar."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TextColumn("{task.fields[broken]} broken"),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        disable=quiet or not sys.stderr.isatty(),
    )


class _Speed(ProgressColumn):
    """Shows how many runs a second there are."""

    def render(self, task: Task) -> Text:
        """See ``ProgressColumn``."""
        return Text(f"{task.speed or 0:.0f} runs/s", style="progress.data.speed")


def _what_went_wrong(error: Exception) -> str:
    """Says what failed, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f", at {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"a run could not be played: {type(error).__name__}: {error}{where}"
