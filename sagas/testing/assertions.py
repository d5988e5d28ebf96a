"""Assertions about single steps, on inputs that hypothesis draws: what a rollback relies on, without a saga."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from sagas.errors import RequestError
from sagas.testing.bench import Bench
from sagas.testing.scenarios import calls_of
from sagas.testing.sequences import (
    Seen,
    act_twice,
    cases_of,
    in_both_orders,
    play,
    probe_around,
)
from sagas.testing.trying import pairs_of, try_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hypothesis.strategies import SearchStrategy
    from sqlalchemy import Engine

    from sagas.core.definitions import Step
    from sagas.core.operations import StepCall
    from sagas.testing.scenarios import Inputs

__all__ = ["assert_commutes", "assert_idempotent", "assert_probes", "assert_undoes"]

# Never the same twice in a process, since a world that was made anew may hold something from before all the same.
_keys = (f"key-{number}" for number in count(1))


def assert_undoes(
    step: Step[..., Any],
    *,
    view: Callable[[Any], Any],
    world: Callable[[], Any] | None = None,
    inputs: Inputs = None,
    database: Callable[[Any], Engine] | None = None,
    late: bool = False,
    others: bool = False,
    examples: int = 100,
    seed: int | None = None,
) -> None:
    """Makes sure that the compensator of a step undoes it: that the view is the same before and after.

    Each time on a new world: the action, then the undo; with the action twice, or the undo twice, under the same
    keys; the undo alone; and the undo without a result, as after a lost reply. An action that is refused, by
    ``Rejected`` or a type in ``rejects=``, has to leave the view as it was. What is passed to the functions has
    been written and read as a journal does. A transactional step is only done and undone, since it is never called
    twice and never in doubt; and a transactional compensator does not undo twice.

    Args:
        step: The step.
        view: Gives what counts of the world, as something that can be compared and copied.
        world: Makes the world that the step acts on, anew each time; may give a context manager. Left out, the step
            acts on something global.
        inputs: A strategy of its calls (``st.builds(charge_card, …)``), or of values for its one parameter, or a
            mapping of strategies by name of the parameter; by default what their types allow.
        database: Gives the SQLAlchemy engine that a transactional step or compensator writes to, out of the world.
        late: Whether also an action that comes only after its undo must have no effect.
        others: Whether to have the same step called before, under another key and with the same input: then an undo
            may not take back what was done for another saga.
        examples: How many inputs to draw.
        seed: For the draws; a new one by default, which a failure names.

    Raises:
        AssertionError: The view differs, or the compensator raised; with the story of the smallest input that shows
            it. Or nothing was tried: the step never succeeded, or the view never showed it.
        RequestError: The step has no compensator, or is transactional without a database, or nothing can be drawn.
    """
    __tracebackhide__ = True
    _check_database(step, database)
    if step.undo is None:
        raise RequestError(f"{step.where} has no compensator: declare one with @{step.name}.compensator")
    cases = cases_of(step, late=late)
    seen = Seen()

    def try_one(call: StepCall[Any]) -> None:
        for case in cases:
            with Bench(world, view, next(_keys), database) as bench:
                if others:
                    bench.act(call, of="-of-another-saga", how=" for another saga")
                    bench.begin("(from here on, for this saga)")
                play(bench, call, case, seen)

    try_inputs(
        f"assert_undoes({step.name}, …", step.where, calls_of(step, inputs), try_one, examples=examples, seed=seed
    )
    seen.check(step)


def assert_idempotent(
    step: Step[..., Any],
    *,
    view: Callable[[Any], Any],
    world: Callable[[], Any] | None = None,
    inputs: Inputs = None,
    results: bool = True,
    examples: int = 100,
    seed: int | None = None,
) -> None:
    """Makes sure that a step which acts twice under the same key acts once, and gives the same result.

    Args:
        step: The step.
        view: See ``assert_undoes``.
        world: See ``assert_undoes``.
        inputs: See ``assert_undoes``.
        results: Whether the results have to be the same too.
        examples: How many inputs to draw.
        seed: For the draws; a new one by default, which a failure names.

    Raises:
        AssertionError: The view or the result differs; with the story of the smallest input that shows it. Or the
            step never succeeded.
        RequestError: Nothing can be drawn for the step.
    """
    __tracebackhide__ = True
    _check_plain(step)
    seen = Seen()

    def try_one(call: StepCall[Any]) -> None:
        with Bench(world, view, next(_keys)) as bench:
            act_twice(bench, call, seen, results=results)

    try_inputs(
        f"assert_idempotent({step.name}, …", step.where, calls_of(step, inputs), try_one, examples=examples, seed=seed
    )
    seen.check(step, visible=False)


def assert_probes(
    step: Step[..., Any],
    *,
    view: Callable[[Any], Any] | None = None,
    world: Callable[[], Any] | None = None,
    inputs: Inputs = None,
    examples: int = 100,
    seed: int | None = None,
) -> None:
    """Makes sure that the probe of a step tells the truth, and changes nothing.

    After nothing it has to give ``NotApplied()``; also after the same call under another key, for another saga. After
    the action it has to give the result of that.

    Args:
        step: The step.
        view: Gives what counts of the world; see ``assert_undoes``. Left out, whether the probe changes anything is
            not looked at.
        world: See ``assert_undoes``.
        inputs: See ``assert_undoes``.
        examples: How many inputs to draw.
        seed: For the draws; a new one by default, which a failure names.

    Raises:
        AssertionError: It says something else, with the story of the smallest input that shows it. Or the step never
            succeeded.
        RequestError: The step has no probe, or nothing can be drawn for it.
    """
    __tracebackhide__ = True
    if step.query is None:
        raise RequestError(f"{step.where} has no probe: declare one with @{step.name}.probe")
    seen = Seen()
    look = view if view is not None else _nothing

    def try_one(call: StepCall[Any]) -> None:
        for others in (False, True):
            with Bench(world, look, next(_keys)) as bench:
                if others:
                    bench.act(call, of="-of-another-saga", how=" for another saga")
                probe_around(bench, call, seen)

    try_inputs(
        f"assert_probes({step.name}, …", step.where, calls_of(step, inputs), try_one, examples=examples, seed=seed
    )
    seen.check(step, visible=False)


def assert_commutes(
    first: Step[..., Any],
    second: Step[..., Any],
    *,
    view: Callable[[Any], Any],
    world: Callable[[], Any],
    inputs: SearchStrategy[tuple[StepCall[Any], StepCall[Any]]] | Mapping[str, SearchStrategy[Any]] | None = None,
    database: Callable[[Any], Engine] | None = None,
    actions: bool = False,
    examples: int = 100,
    seed: int | None = None,
) -> None:
    """Makes sure that steps which run side by side can be undone in either order: the view is the same in the end.

    Whatever both do is done on two new worlds. The undos are called one after the other, each as a whole.

    Args:
        first: A step.
        second: Another one, or the same one for another item.
        view: See ``assert_undoes``.
        world: See ``assert_undoes``.
        inputs: A strategy of pairs of calls, or a mapping of strategies by name of the parameter; by default what
            their types allow. Where both have a parameter of the same name, it has the same value, unless both are
            the same step.
        database: See ``assert_undoes``.
        actions: Whether also the order of the actions must make no difference.
        examples: How many inputs to draw.
        seed: For the draws; a new one by default, which a failure names.

    Raises:
        AssertionError: The order makes a difference; with the story of the smallest input that shows it. Or the steps
            never both succeeded.
        RequestError: Neither has a compensator (and ``actions`` is not set), or nothing can be drawn for them.
    """
    __tracebackhide__ = True
    _check_database(first, database)
    _check_database(second, database)
    if (first.undo is None or second.undo is None) and not actions:
        raise RequestError(
            f"{first.where} and {second.where} do not both have a compensator; did you mean actions=True?"
        )
    seen = Seen()

    def try_one(calls: tuple[StepCall[Any], StepCall[Any]]) -> None:
        key = next(_keys)
        make = partial(Bench, world, view, key, database)
        if actions:
            in_both_orders(make, calls, seen, "acting in either order is the same", undo="")
        if first.undo is not None and second.undo is not None:
            doubtful = not (first.options.transactional or second.options.transactional)
            for undo in ("undo", *(("undo blindly",) if doubtful else ())):
                in_both_orders(make, calls, seen, "undoing in either order is the same", undo=undo)

    where = f"steps {first.name} and {second.name}"
    what = f"assert_commutes({first.name}, {second.name}, …"
    try_inputs(what, where, pairs_of(first, second, inputs), try_one, examples=examples, seed=seed)
    seen.check(first)


def _check_database(step: Step[..., Any], database: Callable[[Any], Engine] | None) -> None:
    """Makes sure that a transactional step or compensator has something to write to.

    Raises:
        RequestError: It has not.
    """
    who = step.where if step.options.transactional else ""
    if step.undo is not None and step.undo.transactional:
        who = who or step.undo.parameters.where
    if who and database is None:
        raise RequestError(
            f"{who} is transactional: say which database of the world it writes to, as in "
            "database=lambda world: world.engine"
        )


def _check_plain(step: Step[..., Any]) -> None:
    """Refuses a step of which there is nothing to find out.

    Raises:
        RequestError: It is transactional.
    """
    if step.options.transactional:
        raise RequestError(
            f"{step.where} is transactional: what it writes and the record of that are one commit, so it acts once, "
            "whatever goes wrong, and there is nothing to assert here. assert_undoes tests its compensator"
        )


def _nothing(_: object) -> None:
    """Looks at nothing."""
