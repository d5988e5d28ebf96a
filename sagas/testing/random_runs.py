"""Random runs, one after the other, without an engine that looks for examples: for statistics, and for speed."""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from sagas.testing.faults import Fault
from sagas.testing.runs import Scenario
from sagas.testing.scenarios import further

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from sagas.core.operations import SagaCall
    from sagas.testing.runs import Run
    from sagas.testing.simulator import Simulator

__all__ = ["RandomRuns"]

_MOST_FAULTS = 4
_MOST_ANSWERS = 3
_PAYLOADS = 10
# How many runs' continuations are remembered.
_REMEMBERED = 10_000


class RandomRuns:
    """Draws runs: an input, and a chain of faults of which each is known to happen after the one before.

    What can go wrong next is known only when the run so far was played. So every chain is played link by link, and
    each of those runs counts; what is known from earlier chains is not played again.

    Args:
        simulator: Plays the runs.
        calls: The inputs to choose from.
        seed: Draws the same runs again.
        most: How many faults there may be in a run.
        kinds: Only these kinds of faults; all by default.
    """

    def __init__(
        self,
        simulator: Simulator,
        calls: Sequence[SagaCall[Any]],
        seed: int,
        *,
        most: int = _MOST_FAULTS,
        kinds: Collection[str] | None = None,
    ) -> None:
        self._simulator = simulator
        self._calls = calls
        self._random = random.Random(seed)  # noqa: S311 - draws examples
        self._most = most
        self._kinds = None if kinds is None else frozenset(kinds)
        self._known: OrderedDict[tuple[int, tuple[int, ...], tuple[Fault, ...]], tuple[Fault, ...]] = OrderedDict()
        self._asks = False

    def __iter__(self) -> Iterator[Run]:
        """Plays runs, for ever."""
        while True:
            yield from self._chain()

    def _chain(self) -> Iterator[Run]:
        """Plays a run, and the same with one fault more after the other, as far as they are not known."""
        chosen = self._random
        which = chosen.randrange(len(self._calls))
        answers = tuple(chosen.randrange(_PAYLOADS) for _ in range(_MOST_ANSWERS)) if self._asks else ()
        faults: tuple[Fault, ...] = ()
        for left in range(chosen.randint(min(1, self._most), self._most), -1, -1):
            options = self._known.get((which, answers, faults))
            if options is None or not left:
                run = self._simulator.run(Scenario(self._calls[which], faults, answers))
                options = self._learn(run, (which, answers, faults))
                yield run
                if run.broken:
                    return
            if not (left and options):
                return
            faults = (*faults, options[chosen.randrange(len(options))])

    def _learn(self, run: Run, key: tuple[int, tuple[int, ...], tuple[Fault, ...]]) -> tuple[Fault, ...]:
        """Notes what could go wrong next."""
        if not self._asks:
            self._asks = any(x.at.startswith("signal ") for x in run.opportunities)
        options = tuple(x for _, x in further(run) if self._kinds is None or x.what in self._kinds)
        self._known[key] = options
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return options
