"""The world as it has to be: one in which what is left of a run happened, each step once, and nothing else."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlmodel import Session

from sagas.context import StepContext, running_step
from sagas.core import events as e
from sagas.errors import RequestError
from sagas.testing.options import made
from sagas.testing.simulation.loop import ProcessLoop, Time
from sagas.testing.viewing import raised

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import Engine

    from sagas.core.definitions import Step
    from sagas.testing.history import History
    from sagas.testing.runs import Run
    from sagas.testing.viewing import View

__all__ = ["Reference", "Survivor", "call_plainly", "context_of", "enter", "names", "show_difference", "survivors"]


# What an operator says of it, nobody can know from a journal.
_BY_WORD = frozenset({e.StepSkipped, e.UndoSkipped})


class Survivor(NamedTuple):
    """A step that took effect and was not undone.

    Attributes:
        name: Of the step.
        path: Its place.
        arguments: As one JSON object.
        key: Its idempotency key.
    """

    name: str
    path: str
    arguments: bytes
    key: str


def survivors(run: Run, history: History) -> tuple[Survivor, ...] | None:
    """Lists the steps whose effects are left, in the order in which they ended; ``None`` if only an operator knows."""
    if not history.kinds.isdisjoint(_BY_WORD):
        return None
    left: dict[str, None] = {}
    for moment in history.moments:
        if moment.what == "acted":
            left.setdefault(moment.path)
        elif moment.what == "doubt":
            if any(x.role == "step" and x.path == moment.path and x.acted for x in run.calls):
                left.setdefault(moment.path)
        elif moment.what in ("undone", "rejected"):
            left.pop(moment.path, None)
    keys = {x.path: x.key for x in run.calls if x.role == "step"}
    return tuple(
        Survivor(history.asked[path].name, path, history.asked[path].arguments, keys[path])
        for path in left
        if path in keys
    )


class Reference:
    """Makes such worlds, and remembers what they look like.

    Args:
        world: See ``Simulator``.
        view: See ``Simulator``.
        steps: By name.
        database: See ``Simulator``.
    """

    def __init__(
        self,
        world: Callable[[], Any],
        view: View,
        steps: Mapping[str, Step[..., Any]],
        database: Callable[[Any], Engine] | None = None,
    ) -> None:
        self._world = world
        self._view = view
        self._steps = steps
        self._database = database
        self._known: dict[tuple[Survivor, ...], object] = {}

    def view_after(self, steps: tuple[Survivor, ...]) -> object:
        """Gives what a world looks like in which only these steps happened."""
        if steps not in self._known:
            with ExitStack() as stack:
                world = enter(stack, self._world())
                for one in steps:
                    self._do(one, world)
                when = f"of a new world in which there was {names(steps)}"
                self._known[steps] = self._view.copied(world, when)
        return self._known[steps]

    def _do(self, one: Survivor, world: Any) -> None:
        """Does a step.

        Raises:
            RequestError: It fails there.
        """
        try:
            self._call(self._steps[one.name], one, world)
        except Exception as error:
            raise RequestError(
                f"{self._steps[one.name].where} succeeded in a run, and in a new world in which only what is left of "
                f"that run happens, it raised {raised(error)}; have it depend on nothing but its arguments and the "
                "world that world= makes"
            ) from error

    def _call(self, step: Step[..., Any], one: Survivor, world: Any) -> None:
        """Calls a step."""
        arguments = step.arguments_schema.decode(one.arguments)
        if not step.options.transactional or self._database is None:
            call_plainly(step.function, arguments, context_of(one))
            return
        with Session(self._database(world)) as session:
            call_plainly(partial(step.function, session), arguments, context_of(one))
            session.commit()


def enter(stack: ExitStack, world: Any) -> Any:
    """Enters a world that is a context manager.

    Raises:
        RequestError: It has to be awaited.
    """
    if isinstance(world, AbstractContextManager):
        return stack.enter_context(cast("AbstractContextManager[Any]", world))
    return made(world)


def context_of(one: Survivor) -> StepContext:
    """Makes what a step can know about itself."""
    return StepContext(
        saga_id="saga", step=one.name, path=one.path, idempotency_key=one.key, undoes=None, attempt=1, deadline=None
    )


def call_plainly(function: Callable[..., Any], arguments: Mapping[str, object], context: StepContext) -> Any:
    """Calls a user's function, on virtual time if it takes any; raises what it raises."""
    token = running_step.set(context)
    try:
        result = function(**arguments)
        return _finish(result) if hasattr(result, "__await__") else result
    finally:
        running_step.reset(token)


def _finish(awaitable: Awaitable[Any]) -> Any:
    """Waits for the end of something."""
    time = Time(0.0)
    loop = ProcessLoop(time)  # type: ignore[abstract]  # what it does not have, it refuses

    async def wait() -> Any:
        return await awaitable

    task = loop.create_task(wait())
    while not task.done():
        loop.drain(100_000)
        due = loop.next_timer()
        if task.done() or due is None:
            break
        time.now = max(time.now, due)
        loop.fire_due()
    try:
        return task.result()
    finally:
        loop.bury()


def show_difference(has: object, should: object) -> str:
    """Says how two views differ."""
    return f"it holds {has!r}, and should hold {should!r}"


def names(steps: Sequence[Survivor]) -> str:
    """Names steps."""
    return ", ".join(f"{x.name} ({x.path})" for x in steps) or "nothing"
