"""Checks a saga: every fault at every place, then chains of them that hypothesis draws."""

from __future__ import annotations

import random
import time
from collections import deque
from dataclasses import replace
from itertools import combinations, islice
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample

from sagas.testing.heap import set_aside
from sagas.testing.missing import A_PLANNED_FAULT_HAPPENS, never_happened
from sagas.testing.options import refuse_draws
from sagas.testing.reports import Report
from sagas.testing.reproducing import planned, seed_of_session
from sagas.testing.runs import Run, Scenario
from sagas.testing.scenarios import calls_of, ending_of, explore, further
from sagas.testing.simulation.answers import ALL_CHECKS, draw_some
from sagas.testing.simulator import Simulator
from sagas.testing.stories import story

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hypothesis.strategies import DataObject, SearchStrategy
    from sqlalchemy import Engine

    from sagas.core.definitions import Saga, Step
    from sagas.core.operations import SagaCall
    from sagas.testing.scenarios import Inputs

__all__ = ["CheckFailed", "Checker", "Report", "check", "failure_of"]

_CALLS = 25
_KINDS_OF_INPUT = 6
# One of so many runs, at most, is one that was played before, with another input.
_VARIED = 8
_FAULTS = 4
_OTHERS = 100
# Seconds of processor time, so that what is told does not depend on what else a machine does; and of any time.
# A run that does not end is slow to play.
_SHRINKING, _AT_MOST = 10.0, 60.0


class CheckFailed(AssertionError):  # noqa: N818 - a test fails with it
    """A law does not hold.

    Attributes:
        run: The smallest run that was found in which it does not.
        law: Its name.
    """

    def __init__(self, message: str, run: Run | None, law: str) -> None:
        super().__init__(message)
        self.run = run
        self.law = law


def check(
    saga: Saga[..., Any],
    *,
    inputs: Inputs = None,
    world: Callable[[], Any] | None = None,
    view: Callable[[Any], Any] | None = None,
    invariants: Sequence[Callable[..., object]] = (),
    always: Sequence[Callable[[Any], object]] = (),
    signals: Mapping[str, SearchStrategy[Any]] | None = None,
    steps: Sequence[Step[..., Any]] = (),
    deploys: Sequence[Saga[..., Any]] = (),
    late: bool = False,
    database: Callable[[Any], Engine] | None = None,
    runs: int = 1_000,
    coverage: float = 0.9,
    seed: int | None = None,
) -> Report:
    """Plays a saga in simulated runs in which everything goes wrong that can, and makes sure that it recovers.

    The real step functions, compensators and probes run against the world that you give, driven by the real
    coordinator on virtual time. First every fault happens once at every place; then hypothesis draws inputs and
    chains of faults.

    Args:
        saga: The saga.
        inputs: A strategy of its calls, or of values for its one parameter, or a mapping of strategies by name of the
            parameter; by default what their types allow.
        world: Makes the world that the steps act on, anew for every run; may give a context manager.
        view: Gives what counts of the world, as something that can be compared and copied. Then the world at the end
            has to look like one in which just the steps happened that were not undone, once each.
        invariants: Each takes the world (and the ``Run``, if it has a second parameter) as a run left it, and raises
            or returns ``False`` if something is wrong with it.
        always: As ``invariants``, with the world alone, after every record and every effect.
        signals: Strategies for what signals say, by name; by default what their types allow.
        steps: Steps that the saga's module does not name.
        deploys: The sagas of another release, which a deploy brings at any moment.
        late: Whether a request may arrive when its saga is long over. Only a participant with an inbox, or a
            transaction, fends that off.
        database: Gives the database that transactional steps write to, out of the world.
        runs: How many runs to play, about.
        coverage: Which share of all faults that could happen has to have happened, from 0 to 1.
        seed: For the draws; a new one by default, which a failure names.

    Returns:
        What was tried.

    Raises:
        CheckFailed: A law does not hold, with the story of the smallest run that shows it; or the check was vacuous.
        RequestError: Nothing can be drawn for an input or a signal, or an argument is of the wrong kind.
    """
    __tracebackhide__ = True
    refuse_draws(runs, seed, coverage)
    simulator = Simulator(
        saga, world=world, view=view, invariants=invariants, always=always, signals=signals, steps=steps,
        deploys=deploys, late=late, database=database,
    )  # fmt: skip
    chosen = seed if seed is not None else seed_of_session()
    checker = Checker(simulator, calls_of(saga, inputs), runs, chosen)
    scenario = planned(saga)
    if scenario is not None:
        checker.repeat(scenario)
        return checker.report()
    with set_aside():
        checker.go()
    report = checker.report()
    if report.coverage.share < coverage:
        raise CheckFailed(
            f"saga {saga.name}: only {report.coverage.share:.0%} of the faults that can happen did, less than the "
            f"{coverage:.0%} that were asked for: allow more runs=\n{report}",
            None,
            "a check is not vacuous",
        )
    return report


class Checker:
    """See ``check``."""

    def __init__(self, simulator: Simulator, calls: SearchStrategy[SagaCall[Any]], runs: int, seed: int) -> None:
        self.simulator = simulator
        self.coverage = simulator.coverage
        self.seed = seed
        self._calls = calls
        self._alike: dict[object, list[SagaCall[Any]]] = {}
        self._varied = 0
        self._runs = runs
        self._until = self._at_last = 0.0

    def report(self) -> Report:
        """Tells what was tried."""
        simulator, coverage = self.simulator, self.coverage
        names = simulator.reachable
        undoable = {name for name, step in simulator.registry.steps.items() if step.undo is not None}
        return Report(
            coverage,
            tuple(sorted(names - coverage.called)),
            tuple(sorted((coverage.called & undoable) - coverage.undone)),
            tuple(simulator.lines.missed),
            self.seed,
            tuple(sorted(coverage.left_behind)),
        )

    def go(self) -> None:
        """Tries everything."""
        __tracebackhide__ = True
        bases = self._bases()
        self._try_every_fault(bases)
        self._draw()

    def repeat(self, scenario: Scenario) -> None:
        """Plays one run, of which every fault has to happen."""
        __tracebackhide__ = True
        run = self._play(scenario)
        if run.missed:
            raise CheckFailed(never_happened(run), run, A_PLANNED_FAULT_HAPPENS)

    # --- playing ------------------------------------------------------------------------------------------------

    def _play(self, scenario: Scenario) -> Run:
        """Plays a run that has to hold."""
        __tracebackhide__ = True
        run = self.simulator.run(scenario)
        if run.broken:
            raise self._failure(run)
        return run

    def _bases(self) -> list[Run]:
        """Plays runs without faults, and keeps one of each kind."""
        kinds: dict[object, Run] = {}
        for call in draw_some(self._calls, _CALLS):
            run = self._play(Scenario(call))
            kinds.setdefault(run.shape, run)
            self._alike.setdefault(run.shape, []).append(call)
            for answer in range(1, 3) if any(x.at.startswith("signal ") for x in run.opportunities) else ():
                other = self._play(Scenario(call, answers=(answer,)))
                kinds.setdefault(other.shape, other)
        return list(kinds.values())[:_KINDS_OF_INPUT]

    def _try_every_fault(self, bases: Sequence[Run]) -> None:
        """Makes every fault happen once at every place, also at those that only other faults lead to, such as undos.

        Then each once more with a failure at the end that undoes it all, and so on to whatever follows.
        """
        tried: set[object] = set()
        found: list[Run] = []
        for base in bases:
            following = self._try_next(base, tried)
            self._vary(base, following)
            found += following
        for run in found:
            self._try_next(run, tried, only_new=True)
        failed = [self._play(x.scenario.but(ending)) for x in found if (ending := ending_of(x)) and self._may_go_on]
        queue = deque([*found, *failed])
        while queue and self._may_go_on:
            queue += self._try_next(queue.popleft(), tried)

    def _vary(self, base: Run, found: Sequence[Run]) -> None:
        """Plays runs again with other inputs that go the same way, since what is wrong may depend on those.

        All of them once so that everything is undone, and then in turn with each fault.
        """
        first, ending = repr(base.scenario.call), ending_of(base)
        others = [x for x in self._alike.get(base.shape, ()) if repr(x) != first]
        undone = [base.scenario.but(ending)] * len(others) if ending is not None else []
        again = [*undone, *(x.scenario for x in found)] if others else []
        for number, scenario in enumerate(again):
            if self._varied >= self._runs // _VARIED or not self._may_go_on:
                return
            self._varied += 1
            self._play(replace(scenario, call=others[number % len(others)]))

    def _try_next(self, base: Run, tried: set[object], *, only_new: bool = False) -> list[Run]:
        """Makes every fault happen after those of a run that was not tried yet; gives the runs.

        What comes of a probe that fails depends on what it was to find out: so that is tried after each other fault.
        """
        found: list[Run] = []
        for _, fault in further(base):
            probes = fault.at.startswith("probe of ")
            known = not probes and only_new and self.coverage.fired[fault.what, fault.at]
            key = (fault, base.scenario.faults[-1:]) if probes else fault
            if not known and key not in tried and self._may_go_on:
                tried.add(key)
                found.append(self._play(base.scenario.but(fault)))
        return found

    @property
    def _may_go_on(self) -> bool:
        """Whether there are runs left beside those that are to be drawn."""
        return self.coverage.runs < 3 * self._runs // 4

    def _draw(self) -> None:
        """Lets hypothesis draw inputs and chains of faults."""
        last: list[Run] = []

        @hypothesis.seed(self.seed)
        @settings(
            max_examples=max(1, (self._runs - self.coverage.runs) // (_FAULTS // 2 + 1)), database=None, deadline=None,
            suppress_health_check=ALL_CHECKS, phases=[Phase.generate, Phase.shrink], print_blob=False,
            report_multiple_bugs=False, verbosity=hypothesis.Verbosity.quiet,
        )  # fmt: skip
        @given(st.data())
        def explore_some(data: DataObject) -> None:
            call = data.draw(self._calls)
            run = explore(data.draw, self.simulator, call, _FAULTS)
            if run.broken:
                last[:] = [run]
                raise AssertionError(run.broken[0].law)

        try:
            explore_some()
        except AssertionError:
            if not last:
                raise
            raise self._failure(last[0]) from None
        except Flaky as error:
            raise CheckFailed(f"the same run went two ways: {error}", None, "a body does the same every time") from None

    # --- shrinking ----------------------------------------------------------------------------------------------

    def smallest(self, run: Run) -> Run:
        """Looks for a run that breaks the same law after fewer faults, with a simpler input."""
        return self._smallest(run, run.broken[0].law)

    def _failure(self, run: Run) -> CheckFailed:
        """Tells the story of a run that breaks a law, once it is as small as it gets."""
        law = run.broken[0].law
        smallest = self._smallest(run, law)
        return failure_of(self.simulator, smallest, self.seed)

    def _breaks(self, scenario: Scenario, law: str) -> Run | None:
        """Plays a run; gives it if it breaks the law, and there is still time to make it smaller."""
        if time.process_time() > self._until or time.monotonic() > self._at_last:
            return None
        run = self.simulator.run(scenario)
        return run if any(x.law == law for x in run.broken) and not run.missed else None

    def _smallest(self, run: Run, law: str) -> Run:
        """Leaves out faults, puts one in the place of two, and looks for a simpler input."""
        self._until, self._at_last = time.process_time() + _SHRINKING, time.monotonic() + _AT_MOST
        found: Run | None = run
        while found is not None:
            run = found
            found = self._with_less(run, law) or self._with_one_for_two(run, law)
        scenario = run.scenario
        try:
            call = hypothesis.find(
                self._calls,
                lambda call: self._breaks(replace(scenario, call=call), law) is not None,
                settings=settings(max_examples=100, database=None, deadline=None, suppress_health_check=ALL_CHECKS),
                random=random.Random(self.seed),  # noqa: S311 - draws examples
            )
        except (NoSuchExample, Flaky):
            return run
        return self._breaks(replace(scenario, call=call), law) or run

    def _with_less(self, run: Run, law: str) -> Run | None:
        """Leaves out a fault."""
        for fault in run.scenario.faults:
            faults = tuple(x for x in run.scenario.faults if x != fault)
            found = self._breaks(replace(run.scenario, faults=faults), law)
            if found is not None:
                return found
        return None

    def _with_one_for_two(self, run: Run, law: str) -> Run | None:
        """Puts another fault in the place of two."""
        for pair in combinations(run.scenario.faults, 2):
            rest = tuple(x for x in run.scenario.faults if x not in pair)
            base = self.simulator.run(replace(run.scenario, faults=rest))
            for _, fault in islice(further(base), _OTHERS):
                found = self._breaks(replace(run.scenario, faults=(*rest, fault)), law)
                if found is not None:
                    return found
        return None


def failure_of(simulator: Simulator, run: Run, seed: int | None = None) -> CheckFailed:
    """Tells the story of a run that breaks a law, as it is."""
    told = simulator.run(run.scenario, watch=True)
    shown = told if told.broken else replace(told, broken=run.broken)  # what is tried once for each kind of run
    return CheckFailed(story(shown, seed), shown, shown.broken[0].law)
