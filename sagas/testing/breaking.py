"""The ways in which a compensator is broken, one at a time."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import linecache
import sys
import textwrap
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from sqlmodel import Session

from sagas.context import current_step, running_step
from sagas.core import events as e
from sagas.core.paths import follows
from sagas.core.records import decode
from sagas.testing.altering import SAME, alter, altered_field

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from types import CodeType, FrameType

    from sagas.context import StepContext
    from sagas.core.definitions import Compensator, Step
    from sagas.testing.simulation.stage import Call, Stage

__all__ = ["Altered", "Blind", "Breakage", "Cut", "Doubled", "Dropped", "Reordered", "Swapped", "cuts_of", "is_empty"]


class Breakage(ABC):
    """One way to break the compensator of a step.

    Args:
        step: The step.

    Attributes:
        what: What it does wrong, for people.
        advice: Which kind of check would notice.
        unreached: Why it may have made none, for people.
        fired: How often it made a difference to a call.
    """

    what: str
    advice: str
    unreached = "in no run it would make a difference"

    def __init__(self, step: Step[..., Any]) -> None:
        assert step.undo is not None, "only a compensator is broken"
        self.step = step
        self.undo: Compensator = step.undo
        self.fired = 0

    def __call__(self, stage: Stage, target: Compensator, call: Call) -> Callable[..., Any]:
        """Gives what is called instead of a compensator."""
        broken = self.replace(stage, call) if self.concerns(target) else None
        if broken is None:
            return target.function
        self.fired += 1
        return broken

    def concerns(self, target: Compensator) -> bool:
        """Says whether it is about this compensator."""
        return target is self.undo

    @abstractmethod
    def replace(self, stage: Stage, call: Call) -> Callable[..., Any] | None:
        """Gives what is called instead; ``None`` if this call is as it was."""


class Dropped(Breakage):
    """It does nothing."""

    what = "does nothing"
    advice = "have view= show what this undo takes back, or state an invariant of it"

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any]:  # noqa: ARG002 - see above
        """See ``Breakage``."""
        return _nothing


class Blind(Breakage):
    """It does nothing if the step acted and its result is not known."""

    what = "does nothing in doubt"
    unreached = "in no run the step acted and was undone without its result"
    advice = "have view= show what the step leaves when its reply is lost, or state an invariant of it"

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any] | None:
        """See ``Breakage``."""
        return _nothing if _result(stage, call.path) is None and _has_acted(stage, call.path) else None


class Doubled(Breakage):
    """It runs again, under a key of its own, as one does that draws its key anew for each attempt."""

    what = "acts twice under two keys"
    advice = "have view= show how much this undo gives back, not only that it did"

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any]:  # noqa: ARG002 - see above
        """See ``Breakage``."""

        async def twice(**arguments: object) -> Any:
            await _run(self.undo.function, arguments)
            own = current_step()
            again = dataclasses.replace(own, idempotency_key=f"{own.idempotency_key}:again")
            return await _run(self.undo.function, arguments, again)

        return twice


class Altered(Breakage):
    """It gets one argument that is not what the step was called with.

    Args:
        step: The step.
        name: Of the argument.
        field: Which field of it is altered; ``None``: all of it.
        how: What is done to it; ``None``: it is left out, as a result is that nobody knows.
    """

    def __init__(self, step: Step[..., Any], name: str, field: str | None, how: str | None) -> None:
        super().__init__(step)
        self._name, self._field, self._how = name, field, how
        path = f"{name}.{field}" if field else name
        self.what = f"gets a wrong {path} ({how})" if how else f"gets no {path}"
        self.advice = f"have view= show what depends on {path}, with inputs= in which it makes a difference"

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any] | None:  # noqa: ARG002 - see above
        """See ``Breakage``."""
        other = self._other(call.arguments.get(self._name))
        if other is SAME:
            return None
        changed = {**call.arguments, self._name: other}
        return _instead(self.undo, changed)

    def _other(self, value: Any) -> Any:
        """Gives what it gets instead."""
        if self._how is None:
            return SAME if value is None else None
        return alter(value) if self._field is None else altered_field(value, self._field)


class Swapped(Breakage):
    """It takes two arguments of the same type for each other.

    Args:
        step: The step.
        names: Of the two.
    """

    def __init__(self, step: Step[..., Any], names: tuple[str, str]) -> None:
        super().__init__(step)
        self._names = names
        self.what = f"swaps {names[0]} and {names[1]}"
        self.unreached = f"in no run {names[0]} and {names[1]} differ"
        self.advice = f"have inputs= draw different values for {names[0]} and {names[1]}, and view= tell them apart"

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any] | None:  # noqa: ARG002 - see above
        """See ``Breakage``."""
        one, two = self._names
        if call.arguments[one] == call.arguments[two]:
            return None
        changed = {**call.arguments, one: call.arguments[two], two: call.arguments[one]}
        return _instead(self.undo, changed)


class Reordered(Breakage):
    """An earlier step is undone first, and this one when that one's turn comes.

    The coordinator waits for each undo. So when this one is due the earlier one's compensator runs, with its own key,
    arguments and result, as the journal has them; and this one's when that one is due.

    Args:
        step: The later step, which is undone first.
        earlier: The earlier one.
    """

    def __init__(self, step: Step[..., Any], earlier: Step[..., Any]) -> None:
        super().__init__(step)
        assert earlier.undo is not None, "only what is undone has an order"
        self.earlier, self._earlier_undo = earlier, earlier.undo
        self._stage: Stage | None = None
        self._held: dict[str, tuple[Mapping[str, object], StepContext]] = {}
        self.what = f"runs after {earlier.undo.function.__name__} instead of before it"
        self.advice = "state in always= what has to hold between the two, or let the world refuse the wrong order"

    def concerns(self, target: Compensator) -> bool:
        """See ``Breakage``."""
        return target in (self.undo, self._earlier_undo)

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any] | None:
        """See ``Breakage``."""
        if stage is not self._stage:
            self._stage = stage
            self._held.clear()
        if call.step == self.earlier.name:
            kept = self._held.get(call.path)
            return None if kept is None else _instead(self.undo, *kept)
        return self._put_first(stage, call)

    def _put_first(self, stage: Stage, call: Call) -> Callable[..., Any] | None:
        """Runs the earlier one's compensator, and keeps this call for later."""
        name = self.earlier.name
        acted = (x for x in reversed(stage.calls) if x.role == "step" and x.step == name and x.acted)
        first = next((x for x in acted if follows(call.path, x.path)), None)
        if first is None:
            return None
        undo, payload = self._earlier_undo, _result(stage, first.path)
        arguments = undo.select(first.arguments)
        if undo.wants_result:
            arguments["result"] = None if payload is None else self.earlier.result_schema.decode(payload)
        own = current_step()
        self._held[first.path] = (call.arguments, own)
        context = dataclasses.replace(
            own, step=name, path=first.path, idempotency_key=f"{first.key}:undo", undoes=first.key
        )
        return _instead(undo, arguments, context)


class Cut(Breakage):
    """It stops in the middle, and says that it is done.

    Args:
        step: The step.
        code: What it runs.
        line: Before which line.
    """

    def __init__(self, step: Step[..., Any], code: CodeType, line: int) -> None:
        super().__init__(step)
        self._code = code
        self._line = line
        text = linecache.getline(code.co_filename, line).strip()
        self.what = f"stops before `{text}`"
        self.unreached = "no run comes by this line"
        self.advice = "have view= show what this line and those after it do, or state an invariant of it"

    def replace(self, stage: Stage, call: Call) -> Callable[..., Any]:  # noqa: ARG002 - see above
        """See ``Breakage``; whether the line is ever reached shows only later."""
        self.fired -= 1

        async def part(**arguments: object) -> Any:
            try:
                return await _Traced(self._make(arguments), self._trace)
            except _Stopped:
                self.fired += 1

        return part

    async def _make(self, arguments: Mapping[str, object]) -> Any:
        """Calls the function, once it is traced."""
        return await _run(self.undo.function, arguments)

    def _trace(self, frame: FrameType, event: str, _: object) -> Any:
        """See ``sys.settrace``."""
        if frame.f_code is not self._code:
            return None
        if event == "line" and frame.f_lineno == self._line:
            raise _Stopped
        return self._trace


class _Stopped(BaseException):
    """A function was stopped; not an ``Exception``, since it may catch these."""


class _Traced:
    """Awaits something, and traces what runs in it.

    Args:
        routine: A coroutine.
        trace: See ``sys.settrace``.
    """

    def __init__(self, routine: Any, trace: Callable[..., Any]) -> None:
        self._routine = routine
        self._trace = trace

    def __await__(self) -> Generator[Any, Any, Any]:
        send: Callable[[Any], Any] = self._routine.send
        value: Any = None
        while True:
            outer = sys.gettrace()
            sys.settrace(self._trace)
            try:
                wanted = send(value)
            except StopIteration as end:
                return end.value
            finally:
                sys.settrace(outer)
            try:
                value = yield wanted
            except BaseException as error:  # noqa: BLE001 - it is handed in, whatever it is
                send, value = self._routine.throw, error
            else:
                send = self._routine.send


async def _run(
    function: Callable[..., Any], arguments: Mapping[str, object], context: StepContext | None = None
) -> Any:
    """Calls a compensator, as another call than the one that runs here if a context is given."""
    token = running_step.set(context if context is not None else running_step.get())
    try:
        result = function(**arguments)
        return await result if hasattr(result, "__await__") else result
    finally:
        running_step.reset(token)


def _instead(
    undo: Compensator, arguments: Mapping[str, object], context: StepContext | None = None
) -> Callable[..., Any]:
    """Makes a compensator that calls another one, or with other arguments; in the same transaction, if there is one."""

    def call(**given: object) -> Any:
        sessions = [x for x in given.values() if isinstance(x, Session)]
        return _run(undo.function, dict(zip(undo.parameters.skipped, sessions, strict=True)) | dict(arguments), context)

    return call


def _nothing(**_: object) -> None:
    """Does nothing."""


def _has_acted(stage: Stage, path: str) -> bool:
    """Says whether a step took effect, whatever is known of that."""
    return any(x.role == "step" and x.path == path and x.acted for x in stage.calls)


def _result(stage: Stage, path: str) -> bytes | None:
    """Gives the result of a step, as it is durable; ``None`` if it is in doubt."""
    for row in stage.rows:
        if row.path == path and row.kind == "StepSucceeded":
            event = decode(row.seq, row.at, row.kind, row.path, row.data).event
            return event.result if isinstance(event, e.StepSucceeded) else None
    return None


def is_empty(undo: Compensator) -> bool:
    """Says whether a compensator is written to do nothing."""
    code: CodeType | None = getattr(undo.function, "__code__", None)
    return code is not None and not _statements(undo.function, code)


def cuts_of(step: Step[..., Any], most: int) -> Iterator[Cut]:
    """Lists the lines of a compensator before which it can be stopped, but for the first: that is dropping it."""
    assert step.undo is not None, "only a compensator is broken"
    code: CodeType | None = getattr(step.undo.function, "__code__", None)
    if code is None:
        return
    lines = sorted(_statements(step.undo.function, code) & {line for _, _, line in code.co_lines() if line})[1:]
    for line in lines[:: max(1, -(-len(lines) // most))]:
        yield Cut(step, code, line)


def _statements(function: Callable[..., Any], code: CodeType) -> set[int]:
    """Lists the lines at which statements begin, but for docstrings and what does nothing."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        return {line for _, _, line in code.co_lines() if line} - {code.co_firstlineno}
    offset = code.co_firstlineno - 1
    body = [x for x in ast.walk(tree) if isinstance(x, ast.stmt) and x not in tree.body]
    idle = (ast.Pass, ast.Global, ast.Nonlocal, ast.Return)
    return {
        x.lineno + offset
        for x in body
        if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))
        and not (isinstance(x, idle) and not (isinstance(x, ast.Return) and x.value is not None))
    }
