"""Breaks the compensators of a saga, one at a time, and finds out which breakage no check notices.

A breakage is *killed* if, in any run, a law, the view or an invariant does not hold any more. If none does, what is
left of the world, all of it and not just what the view shows, is held against what the right compensator leaves in
the same run. If that is the same in every run the breakage is *harmless*: there is nothing to notice (an undo that
knows its key may run twice). Else it *survived*, and what is different is what the checks do not look at. A
compensator that can be dropped without any difference survives too: what it does is not in that world.

What a check does by itself is no breakage: to run an undo twice under its key, to lose its reply, to kill its process.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Unpack

from sagas.core.paths import follows
from sagas.testing.altering import paths_of
from sagas.testing.breaking import Altered, Blind, Doubled, Dropped, Reordered, Swapped, cuts_of, is_empty
from sagas.testing.checking import Checker, CheckFailed, failure_of
from sagas.testing.contents import difference
from sagas.testing.faults import Fault
from sagas.testing.mutants import Mutant, Mutants
from sagas.testing.options import CheckOptions, refuse_draws, simulated
from sagas.testing.recorder import Camera, Played, Recorder, Switch
from sagas.testing.reproducing import seed_of_session
from sagas.testing.scenarios import calls_of
from sagas.testing.simulation.answers import draw_some
from sagas.testing.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from hypothesis.strategies import SearchStrategy

    from sagas.core.definitions import Saga, Step
    from sagas.core.operations import SagaCall
    from sagas.testing.breaking import Breakage
    from sagas.testing.contents import Contents
    from sagas.testing.runs import Scenario

__all__ = ["assert_undos_tested", "mutate"]

_RUNS = 300
_PLANS = 8
_CALLS = 4
_DRAWN = 25
_CUTS = 4
_IN_DOUBT = (False, True)


class MutateOptions(CheckOptions, total=False):
    """See ``mutate``."""

    contents: Callable[[Any], Any] | None


def mutate(
    saga: Saga[..., Any],
    *,
    contents: Callable[[Any], Any] | None = None,
    **options: Unpack[CheckOptions],
) -> Mutants:
    """Breaks the compensators of a saga, one at a time and in one way at a time, and says what nobody notices.

    Each is dropped; does nothing in doubt; acts twice under two keys; takes each argument for another one; stops
    before one of its lines; and changes places with the one that runs after it. The arguments are those of ``check``,
    and so are the checks that should notice.

    Args:
        saga: The saga.
        contents: Gives everything of the world in which a breakage may show, to tell those that are harmless; by
            default all that is in it, as far as Python can look inside.
        **options: Those of ``check``, but for ``coverage``. ``runs`` says how many runs to play of the unbroken saga,
            about; 300 by default. Each breakage is tried in up to 32 of those in which what is broken was undone.

    Returns:
        What became of each breakage.

    Raises:
        CheckFailed: The unbroken saga does not hold.
        RequestError: Nothing can be drawn for an input or a signal.
    """
    __tracebackhide__ = True
    camera = Camera(contents)
    switch = Switch()
    runs, seed = options.get("runs", _RUNS), options.get("seed")
    refuse_draws(runs, seed)
    setup = simulated(options)
    setup["invariants"] = [*setup.get("invariants", ()), camera]
    simulator = Recorder(saga, mutation=switch, **setup)
    chosen = seed if seed is not None else seed_of_session()
    lab = _Lab(simulator, calls_of(saga, options.get("inputs")), camera, switch, chosen)
    lab.explore(runs)
    mutants = tuple(lab.try_out(x) for x in lab.breakages())
    return Mutants(saga.name, mutants, lab.never_undone(), simulator.coverage.runs, chosen)


def assert_undos_tested(
    saga: Saga[..., Any], *, accept: Collection[str] = (), **options: Unpack[MutateOptions]
) -> Mutants:
    """Makes sure that some check notices every breakage of a compensator that does any harm.

    Args:
        saga: The saga.
        accept: Names of survivors (``Mutant.name``, as the failure prints them) that are as they should be.
        **options: Those of ``mutate``.

    Returns:
        What became of each breakage.

    Raises:
        AssertionError: A breakage goes unnoticed, or a step that is called is never undone; and see ``mutate``.
    """
    __tracebackhide__ = True
    found = mutate(saga, **options)
    left = replace(found, all=tuple(x for x in found.all if x.name not in accept))
    if left.survivors or left.never_undone:
        many = f"{len(left.survivors)} of {len(found.all)} breakages of its compensators go unnoticed"
        raise AssertionError("\n".join([f"saga {saga.name}: {many} (seed={found.seed})", *left.explained()]))
    return found


# --- trying ---------------------------------------------------------------------------------------------------------


class _Lab:
    """See the module.

    Args:
        simulator: Plays the runs.
        calls: A strategy of its inputs.
        camera: Among its invariants.
        switch: Its mutation.
        seed: For the draws.
    """

    def __init__(
        self,
        simulator: Recorder,
        calls: SearchStrategy[SagaCall[Any]],
        camera: Camera,
        switch: Switch,
        seed: int,
    ) -> None:
        self._simulator = simulator
        self._calls = calls
        self._camera = camera
        self._switch = switch
        self._seed = seed
        self._inputs: list[SagaCall[Any]] = []
        self._explored: list[Played] = []
        self._pictures: dict[int, Contents | None] = {}
        self._chosen: dict[tuple[str, ...], list[Played]] = {}

    def explore(self, runs: int) -> None:
        """Makes sure that the unbroken saga holds, and learns what its runs undo.

        Raises:
            CheckFailed: It does not.
        """
        __tracebackhide__ = True
        checker = Checker(self._simulator, self._calls, runs, self._seed)
        try:
            checker.go()
        except CheckFailed as failure:
            raise CheckFailed(
                f"the saga has to hold before its compensators are broken:\n{failure}", failure.run, failure.law
            ) from None
        self._put_in_doubt()
        self._explored = [x for x in self._simulator.played if x.undone]
        drawn = draw_some(self._calls, _DRAWN)
        self._inputs = drawn[:: max(1, len(drawn) // _CALLS)][:_CALLS]
        self._camera.on = True

    def _put_in_doubt(self) -> None:
        """Has each step act and be undone without its result, where no run has done so yet: its replies are all lost.

        Raises:
            CheckFailed: The saga does not hold then.
        """
        __tracebackhide__ = True
        plain = [x.scenario for x in self._simulator.played if not x.scenario.faults][:_CALLS]
        for name in sorted(self._simulator.called):
            for scenario in (replace(x, faults=faults) for faults in _doubts(name) for x in plain):
                if any((x.step, x.state) == (name, _IN_DOUBT) for run in self._simulator.played for x in run.undone):
                    break
                self._right(scenario)

    def never_undone(self) -> tuple[str, ...]:
        """Lists the steps that were called, have a compensator, and were undone in no run."""
        steps, undone = self._simulator.registry.steps, {x.step for run in self._explored for x in run.undone}
        return tuple(sorted(x for x in self._simulator.called - undone if x in steps and steps[x].undo is not None))

    def breakages(self) -> Iterator[Breakage]:
        """Lists every way to break every compensator that runs."""
        steps = self._simulator.registry.steps
        for name in dict.fromkeys(x.step for run in self._explored for x in run.undone):
            step = steps[name]
            if step.undo is None or is_empty(step.undo):
                continue
            yield from (Dropped(step), *([] if step.options.transactional else [Blind(step)]), Doubled(step))
            yield from self._wrong_arguments(step)
            yield from cuts_of(step, _CUTS)
        for later, earlier in self._orders():
            yield Reordered(steps[later], steps[earlier])

    def _wrong_arguments(self, step: Step[..., Any]) -> Iterator[Breakage]:
        """Lists the arguments that can be altered, by what they were in runs."""
        assert step.undo is not None, "it was undone"
        found: dict[tuple[str, str | None], str] = {}
        for arguments in self._simulator.samples[step.name]:
            for name, value in arguments.items():
                for path, field, how in paths_of(name, value):
                    found.setdefault((path, field), how)
        yield from (Altered(step, name, field, how) for (name, field), how in found.items())
        if step.undo.wants_result:
            yield Altered(step, "result", None, None)
        hints = step.undo.parameters.hints()
        for one, two in combinations([x for x in step.undo.parameters.names if x in step.undo.wants], 2):
            if hints.get(one) is not None and hints.get(one) == hints.get(two):
                yield Swapped(step, (one, two))

    def _orders(self) -> Iterator[tuple[str, str]]:
        """Lists steps of which one is undone just before the other, and not side by side."""
        found: dict[tuple[str, str], None] = {}
        for run in self._explored:
            for later, earlier in zip(run.undone, run.undone[1:], strict=False):
                if later.step != earlier.step and follows(later.path, earlier.path):
                    found.setdefault((later.step, earlier.step))
        steps = self._simulator.registry.steps
        for names in found:
            undos = [x for x in (steps[name].undo for name in names) if x is not None]
            alike = len({x.transactional for x in undos}) == 1  # the one runs in the transaction of the other
            if alike and not any(map(is_empty, undos)):
                yield names

    def try_out(self, breakage: Breakage) -> Mutant:
        """Finds out what becomes of a breakage."""
        different: dict[str, str] = {}
        tried, comparable, before = 0, True, 0
        for played in self._runs_for(breakage):
            tried, before = tried + 1, breakage.fired
            noticed, picture = self._play(breakage, played.scenario)
            if noticed is not None:
                return _mutant(breakage, "killed", noticed, tried)
            if breakage.fired == before:
                continue
            right = self._pictures[id(played)]
            if right is None or picture is None:
                comparable = False
            elif not different:
                different = self._difference(played, picture, right)
        return _fate(breakage, tried, comparable=comparable, different=different)

    def _play(self, breakage: Breakage | None, scenario: Scenario) -> tuple[str | None, Contents | None]:
        """Plays a run; gives the law that does not hold, and what the world was in the end."""
        self._camera.picture = None
        self._switch.breakage = breakage
        try:
            run = Simulator.run(self._simulator, scenario)
        except Exception as error:
            if breakage is None:
                raise
            return f"{type(error).__name__} while the world was looked at", None
        finally:
            self._switch.breakage = None
        if breakage is None and run.broken:
            raise failure_of(self._simulator, run, self._seed)
        return run.broken[0].law if run.broken else None, self._camera.picture

    def _difference(self, played: Played, picture: Contents, right: Contents) -> dict[str, str]:
        """Compares what is left of two runs, but for what differs each time."""
        found = difference(picture, right)
        if found:
            _, again = self._play(None, played.scenario)
            for path in difference(again or {}, right):
                found.pop(path, None)
        return found

    # --- which runs -------------------------------------------------------------------------------------------------

    def _runs_for(self, breakage: Breakage) -> list[Played]:
        """Chooses runs of the unbroken saga in which what is broken is undone."""
        names = (breakage.step.name, *((breakage.earlier.name,) if isinstance(breakage, Reordered) else ()))
        if names not in self._chosen:
            self._chosen[names] = list(self._choose(names))
        return self._chosen[names]

    def _choose(self, names: tuple[str, ...]) -> Iterator[Played]:
        """Chooses plans of faults of all sorts, the simplest first, and plays each with several inputs."""
        sorts: dict[object, list[Played]] = defaultdict(list)
        for run in sorted((x for x in self._explored if _undoes(x, names)), key=lambda x: len(x.scenario.faults)):
            sorts[tuple(x.state for x in run.undone if x.step in names)].append(run)
        plans = [run for rank in range(_PLANS) for runs in sorts.values() for run in runs[rank : rank + 1]][:_PLANS]
        for count in range(1 + len(self._inputs)):
            for plan in plans:
                call = plan.scenario.call if count == 0 else self._inputs[count - 1]
                played = self._right(replace(plan.scenario, call=call))
                if played is not None and _undoes(played, names):
                    yield played

    def _right(self, scenario: Scenario) -> Played | None:
        """Plays a run of the unbroken saga, and takes its picture."""
        self._camera.picture = None
        run = self._simulator.run(scenario)
        if run.broken:
            raise failure_of(self._simulator, run, self._seed)
        played = self._simulator.played[-1]
        self._pictures[id(played)] = self._camera.picture
        return None if run.missed else played


def _doubts(name: str) -> Iterator[tuple[Fault, ...]]:
    """Lists what leaves a step in doubt that has acted; somebody cancels what would be tried for ever."""
    mute, unknown, cancel = Fault("mute", name), Fault("down", f"probe of {name}"), Fault("cancel", name, nth=2)
    yield from ((mute,), (mute, unknown), (mute, cancel), (mute, unknown, cancel))


def _undoes(run: Played, names: tuple[str, ...]) -> bool:
    """Says whether a run undoes some steps, in this order."""
    where = [next((i for i, x in enumerate(run.undone) if x.step == name), None) for name in names]
    return None not in where and where == sorted(where, key=lambda x: x or 0)


def _fate(breakage: Breakage, tried: int, *, comparable: bool, different: Mapping[str, str]) -> Mutant:
    """Says what became of a breakage that no check noticed."""
    if not breakage.fired:
        return _mutant(breakage, "never reached", f"not tried: {breakage.unreached}", tried)
    if different:
        shown = list(different.values())
        more = f"; and {len(shown) - 3} more" if len(shown) > 3 else ""  # noqa: PLR2004 - a line's worth
        return _mutant(breakage, "survived", "of the world, " + "; ".join(shown[:3]) + more, tried)
    if not comparable:
        why = "nobody can look inside the world, so it may be harmless: contents= could give what is in it"
        return _mutant(breakage, "survived", why, tried)
    if isinstance(breakage, Dropped):
        why = "the world is the same without this undo: what it does is somewhere else, or nothing"
        breakage.advice = "have it act on what world= makes"
        return _mutant(breakage, "survived", why, tried)
    return _mutant(breakage, "harmless", "", tried)


def _mutant(breakage: Breakage, fate: Any, why: str, tried: int) -> Mutant:
    """Writes down what became of a breakage."""
    undo = breakage.undo.function.__name__
    advice = breakage.advice if fate == "survived" else ""
    return Mutant(breakage.step.name, undo, breakage.what, fate, why, advice, tried)
