"""Plays a saga in a simulated fleet while things go wrong, and holds what came of it against the laws."""

from __future__ import annotations

import gc
import inspect
import logging
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import replace
from functools import lru_cache, partial
from types import CellType
from typing import TYPE_CHECKING, Any, Unpack, cast

from sagas.core.definitions import Step
from sagas.core.failures import with_tracebacks
from sagas.core.records import decode
from sagas.core.registry import Registry
from sagas.errors import RequestError
from sagas.testing.coverage import Coverage
from sagas.testing.determinism import replay_all, replay_prefixes, with_line
from sagas.testing.faults import COMMIT, is_transactional
from sagas.testing.history import read
from sagas.testing.laws import LAWS
from sagas.testing.lines import Lines
from sagas.testing.options import refuse_wrong
from sagas.testing.reference import Reference, enter, names, show_difference, survivors
from sagas.testing.runs import Broken, Run
from sagas.testing.simulation.acting import plain_rejection
from sagas.testing.simulation.answers import draw_some, example_of
from sagas.testing.simulation.fleet import Fleet
from sagas.testing.simulation.hint import library_hint
from sagas.testing.simulation.playing import SAGA_ID, play
from sagas.testing.simulation.stage import Stage
from sagas.testing.stories import snapshot
from sagas.testing.twins import Twins
from sagas.testing.viewing import View, refuse_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from sagas.core.definitions import Saga
    from sagas.core.execution import Execution
    from sagas.telemetry import Tracing
    from sagas.testing.history import History
    from sagas.testing.options import Options
    from sagas.testing.runs import Scenario

__all__ = ["Simulator"]

_ENDS = ("completed", "compensated")
_EMPTY = CellType()
# So many signals in a run say the simplest there is; then others come, since some sagas wait for those.
_SAME = 4
# Runs of the same saga begin with the same records, and many have no others.
_decode = lru_cache(maxsize=1024)(decode)
_LOGGERS = [logging.getLogger(f"sagas.{name}") for name in ("coordinator", "core", "journal")]
_UNDONE = "undone is as if it had never been"
_ONCE = "done is as if it had been done once"


class Simulator:
    """See the module.

    Args:
        saga: The saga.
        mutation: Replaces compensators; see ``mutating``.
        **options: ``world``, ``view``, ``invariants``, ``always``, ``signals``, ``steps``, ``deploys``, ``late`` and
            ``database``, as for ``check``.

    Raises:
        RequestError: An argument is of the wrong kind; or steps are transactional, and there is no database.

    Attributes:
        registry: The code that is simulated.
        reachable: Names of the steps that the body mentions.
        coverage: What happened in all runs together.
        lines: Which lines of the body ran.
        tracing: Makes the spans of the simulated coordinators; ``None`` for none. To be set before the first run.
    """

    def __init__(
        self,
        saga: Saga[..., Any],
        *,
        mutation: Callable[..., Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        refuse_wrong(options)
        self.saga = saga
        self._steps = options.get("steps", ())
        self.registry = Registry([saga], self._steps)
        view, database = options.get("view"), options.get("database")
        self.view = None if view is None else View(view)
        self._make_world: Callable[[], Any] = options.get("world") or _no_world
        self._invariants = [(x, _takes_run(x)) for x in options.get("invariants", ())]
        self._always = options.get("always", ())
        signals = options.get("signals")
        self._signals = {name: draw_some(x, 10) for name, x in (signals or {}).items()}
        self._deployed = tuple(options.get("deploys", ()))
        self._late = options.get("late", False)
        self._mutation = mutation
        self._database = database
        self._refusals: dict[str, Exception] = {}
        self._fleet: Fleet | None = None
        self.tracing: Tracing | None = None
        self._shapes: set[object] = set()
        self._reference = (
            None if self.view is None else Reference(self._make_world, self.view, self.registry.steps, database)
        )
        self.lines = Lines(saga.function)
        self._twins = Twins(saga, SAGA_ID, self.registry.steps)
        self.reachable = _names_in(saga) & set(self.registry.steps)
        self.coverage = Coverage()
        needy = sorted(x for x in self.reachable if _needs_database(self.registry.steps[x]))
        if needy and database is None:
            raise RequestError(
                f"transactional steps need a database, and {', '.join(needy)} is one: say which one of the world's "
                "they write to, as in database=lambda world: world.engine"
            )

    def run(self, scenario: Scenario, *, watch: bool = False) -> Run:
        """Plays a run.

        Args:
            scenario: What happens.
            watch: Whether to write down its story.

        Returns:
            The run, with the laws that it breaks.
        """
        if any(x.what == "early" and x.at.removeprefix("signal ") not in self._signals for x in scenario.faults):
            self.run(replace(scenario, faults=()))  # only whoever waits for a signal knows of which type it is
        with _undisturbed(), ExitStack() as stack:
            before = copy_context()
            world = enter(stack, self._make_world())
            if copy_context() != before:
                self._fleet = None  # what runs in it would not see the new world
            run, rows = self._play(scenario, world, watch=watch)
            history = read(run.records)
            self._judge(run, history, rows)
            has = self._seen(run)
            self._end()
        if self._comparable(run):
            self._compare(run, history, has)
        self.coverage.add(run)
        return run

    # --- playing ------------------------------------------------------------------------------------------------

    def _play(self, scenario: Scenario, world: Any, *, watch: bool) -> tuple[Run, Sequence[Any]]:
        """Plays a run to its end."""
        if self._fleet is None:
            self._fleet = Fleet([self.saga], self._steps, self._refusal, self._deployed)
            self._fleet.tracing = self.tracing
        fleet = self._fleet
        commit = (*COMMIT, "deploy") if self._deployed else COMMIT
        stage = Stage(fleet.time, scenario.faults, commit=commit, late=self._late, mutation=self._mutation)
        if watch:
            stage.look = lambda: self._look(world)
        if self._always:
            stage.watch = lambda: self._watch(stage, world)
        fleet.disk.database = None if self._database is None else self._database(world)
        fleet.begin(stage)
        if not fleet.processes:
            fleet.start()
            fleet.settle()
            fleet.tokens.begin_again()  # so that its keys are those of a run in which there was a process already
        play(fleet, stage, scenario.call, _Answers(self._signals, scenario.answers))
        return self._make_run(scenario, stage, fleet, world), stage.rows

    def _make_run(self, scenario: Scenario, stage: Stage, fleet: Fleet, world: Any) -> Run:
        """Writes down what happened."""
        row = fleet.disk.row(SAGA_ID)
        ends = [x for x in stage.reports if x.status in _ENDS] or stage.reports
        last = ends[-1] if ends else None
        completed = last is not None and last.status == "completed"
        return Run(
            scenario=scenario,
            status="running" if row is None else row.status,
            result=last.value if last is not None and completed else None,
            error=cast("BaseException", last.value) if last is not None and not completed else None,
            world=world,
            fired=tuple(dict.fromkeys(stage.fired)),
            calls=stage.calls,
            records=[_decode(*x[1:6]) for x in stage.rows],
            writers=stage.writers,
            reports=stage.reports,
            opportunities=stage.opportunities,
            entries=stage.entries,
            broken=[Broken(law, how) for law, how in stage.problems],
            steps=self.registry.steps,
            sent=stage.sent,
        )

    def _look(self, world: Any) -> dict[str, str]:
        """Shows what counts of the world."""
        return snapshot(self.view.show(world) if self.view is not None else world)

    def _watch(self, stage: Stage, world: Any) -> None:
        """Makes sure of what always has to hold."""
        for invariant in self._always:
            how = _holds(invariant, world)
            if how is not None and not any(law == _title(invariant) for law, _ in stage.problems):
                stage.problems.append((_title(invariant), how))

    def _refusal(self, step: Step[..., Any]) -> Exception:
        """Makes what a step raises that says that nothing happened."""
        if not step.options.rejects:
            return plain_rejection(step)
        if step.name not in self._refusals:
            self._refusals[step.name] = example_of(step.options.rejects[0], f"a refusal of step {step.name}")[0]
        return self._refusals[step.name]

    def _end(self) -> None:
        """Cleans up, once nobody looks at the world any more."""
        if self._fleet is not None and not self._fleet.end():
            self._fleet = None

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(self, run: Run, history: History, rows: Sequence[Any]) -> None:
        """Holds a run against the laws and the user's invariants."""
        self._check_determinism(run, rows)
        for law, check in LAWS.items():
            for finding in check(run, history):
                run.broken.append(Broken(law, finding))
        if run.status not in _ENDS:
            return
        for invariant, takes_run in self._invariants:
            how = _holds(invariant, run.world, *([run] if takes_run else []))
            if how is not None:
                run.broken.append(Broken(_title(invariant), how))

    def _check_determinism(self, run: Run, rows: Sequence[Any]) -> None:
        """Replays a run; one of a kind that was not seen before, from every prefix of its journal."""
        if any(x.what == "deploy" for x in run.fired) or not rows:
            return
        how = self._difference(run, rows)
        if how is not None:
            run.broken.insert(0, Broken("a body does the same every time", how))

    def _difference(self, run: Run, rows: Sequence[Any]) -> str | None:
        """Says how a replay differs from what ran, and where."""
        steps, records, shape = self.registry.steps, run.records, run.shape
        again = partial(replay_all, self.saga, SAGA_ID, steps, records, rows)
        how = again()
        if how is None and shape not in self._shapes:
            again = partial(replay_prefixes, self.saga, SAGA_ID, steps, records, self.lines)
            how = again()
            if how is None:
                self._shapes.add(shape)  # one that differs is found again, or nobody could make it smaller
                return self._twins.differ(records)
        return None if how is None else f"{with_line(how, self.saga, again)}{self._twins.suspects(records)}"

    def _comparable(self, run: Run) -> bool:
        """Says whether it is known what the world has to be."""
        return self._reference is not None and run.status in _ENDS and not run.broken

    def _seen(self, run: Run) -> object:
        """Gives what counts of the world as a run left it, if it is to be compared."""
        if self.view is None or not self._comparable(run):
            return None
        return self.view.copied(run.world, f"at the end of {run.scenario!r}")

    def _compare(self, run: Run, history: History, has: object) -> None:
        """Holds the world against one in which only what is left of the run ever happened, once."""
        assert self._reference is not None, "there is a view"
        left = survivors(run, history)
        if left is None:
            return
        should = self._reference.view_after(left)
        if has != should:
            refuse_identity(has)
            how = f"what is left of the run is {names(left)}; {show_difference(has, should)}"
            run.broken.append(Broken(_UNDONE if run.status == "compensated" else _ONCE, how))


class _Answers:
    """Says what signals say.

    Args:
        known: What each may say, by name.
        chosen: Which of it the n-th signal says.
    """

    def __init__(self, known: dict[str, list[Any]], chosen: Sequence[int]) -> None:
        self._known = known
        self._chosen = chosen
        self._sent = 0

    def __call__(self, name: str, execution: Execution) -> object:
        """See ``playing.play``."""
        if name not in self._known:
            annotation = execution.awaited_type(name)
            self._known[name] = list(example_of(annotation, f"signal {name}"))
        values = self._known[name]
        which = self._chosen[self._sent] if self._sent < len(self._chosen) else max(0, self._sent - _SAME)
        self._sent += 1
        return values[which % len(values)]


def _no_world() -> None:
    """Is the world of those who need none."""


def _needs_database(step: Step[..., Any]) -> bool:
    """Says whether a step or its compensator is transactional."""
    return is_transactional(step) or (step.undo is not None and is_transactional(step.undo))


def _takes_run(invariant: Callable[..., object]) -> bool:
    """Says whether an invariant wants to see the run too."""
    return len(inspect.signature(invariant).parameters) > 1


def _holds(invariant: Callable[..., object], *args: object) -> str | None:
    """Says how an invariant is broken; ``None`` if it is not."""
    try:
        holds = invariant(*args)
    except Exception as error:  # noqa: BLE001 - whatever it raises says that it does not hold
        return f"{type(error).__name__}: {error}" if str(error) else _untrue(invariant)
    return _untrue(invariant) if holds is False else None


def _untrue(invariant: Callable[..., object]) -> str:
    """Says what does not hold: what the docstring of an invariant says, if it has one."""
    said = (inspect.getdoc(invariant) or "").partition("\n\n")[0].replace("\n", " ")
    return f"it does not hold that: {said}" if said else "it does not hold"


def _title(invariant: Callable[..., object]) -> str:
    """Names an invariant."""
    name = getattr(invariant, "__name__", repr(invariant))
    return name if name == "<lambda>" else name.replace("_", " ")


def _names_in(saga: Saga[..., Any]) -> set[str]:
    """Names the steps that a body mentions."""
    code = saga.function.__code__
    visible = dict(saga.function.__globals__)
    visible |= {
        name: cell.cell_contents
        for name, cell in zip(code.co_freevars, saga.function.__closure__ or (), strict=True)
        if cell != _EMPTY
    }
    found = (visible.get(name) for name in (*code.co_names, *code.co_freevars))
    return {x.name for x in found if isinstance(x, Step)}


@contextmanager
def _undisturbed() -> Generator[None]:
    """Keeps the logs quiet and the garbage collector out, and tells anyio at once that this is asyncio."""
    token = with_tracebacks.set(False)
    library, collects = library_hint.name, gc.isenabled()
    for logger in _LOGGERS:
        logger.disabled = True
    library_hint.name = "asyncio"
    gc.disable()
    try:
        yield
    finally:
        for logger in _LOGGERS:
            logger.disabled = False
        library_hint.name = library
        with_tracebacks.reset(token)
        if collects:
            gc.enable()
