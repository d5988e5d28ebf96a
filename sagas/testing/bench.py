"""One world, and the functions of steps called on it one after the other, as a coordinator would call them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlmodel import Session

from sagas.context import StepContext
from sagas.core.definitions import NotApplied
from sagas.core.failures import is_rejection
from sagas.errors import PayloadError
from sagas.testing.reference import call_plainly, enter
from sagas.testing.simulation.hint import library_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Self

    from sqlalchemy import Engine

    from sagas.core.operations import StepCall

__all__ = ["Bench", "Broken", "Line", "Outcome", "story"]

_WIDEST = 90


class Broken(Exception):  # noqa: N818 - news, not an error of this library
    """A law does not hold.

    Args:
        law: Its name.
        calls: What the steps were called with.
        lines: What happened.
        remedy: What to do about it.
    """

    def __init__(self, law: str, calls: tuple[StepCall[Any], ...], lines: list[Line], remedy: str) -> None:
        super().__init__(law)
        self.law = law
        self.calls = calls
        self.lines = lines
        self.remedy = remedy


class Line(NamedTuple):
    """A line of the story.

    Attributes:
        what: What was called, and what came of it.
        held: What the view held after it.
        remark: What is wrong with that.
    """

    what: str
    held: object
    remark: str = ""


class Outcome(NamedTuple):
    """What came of an action.

    Attributes:
        kind: ``acted``, ``refused`` (nothing happened) or ``doubt``.
        payload: Its result, as the journal would have it; ``None`` if there is none.
        error: What it raised.
    """

    kind: str
    payload: bytes | None = None
    error: BaseException | None = None


class Bench:
    """See the module. Entered, it makes the world, and left, it ends it.

    Args:
        world: Makes the world; may give a context manager.
        view: Gives what counts of it.
        key: Begins the idempotency keys.
        database: Gives what transactional steps write to, of the world.

    Attributes:
        lines: What happened.
        before: What the view held at first.
    """

    def __init__(
        self,
        world: Callable[[], Any] | None,
        view: Callable[[Any], Any],
        key: str,
        database: Callable[[Any], Engine] | None = None,
    ) -> None:
        self._database = database
        self._make = world
        self._view = view
        self._key = key
        self._stack = ExitStack()
        self._world: Any = None
        self.lines: list[Line] = []
        self.before: object = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            library, library_hint.name = library_hint.name, "asyncio"
            stack.callback(setattr, library_hint, "name", library)
            made = self._make() if self._make is not None else None
            self._world = enter(stack, made)
            self.begin("(the world is new)")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def begin(self, what: str) -> None:
        """Takes what the view holds now for what it held at first."""
        self.before = self._note(what)

    def look(self) -> object:
        """Gives what the view holds."""
        return deepcopy(self._view(self._world))

    # --- calling ------------------------------------------------------------------------------------------------

    def act(self, call: StepCall[Any], *, of: str = "", how: str = "") -> Outcome:
        """Calls a step.

        Args:
            call: It and its arguments.
            of: Tells the keys of several apart.
            how: A remark for the story.
        """
        step = call.step
        try:
            payload = self._act(call, of)
        except Exception as error:  # noqa: BLE001 - whatever it raises is an outcome
            refused = is_rejection(error, step.options.rejects)
            atomic = step.options.atomic or step.options.transactional
            what = "refuses" if refused else "fails" if atomic else "is in doubt"
            if isinstance(error, PayloadError):
                what = "gives what a journal cannot take"
            self._note(f"{call!r}{how} {what}: {_show(error)}")
            return Outcome("refused" if refused or atomic else "doubt", error=error)
        self._note(f"{call!r}{how} gives {step.result_schema.decode(payload)!r}")
        return Outcome("acted", payload)

    def _act(self, call: StepCall[Any], of: str) -> bytes:
        """Calls the function of a step; gives what it gave."""
        step = call.step
        encode, decode = step.result_schema.encode, step.arguments_schema.decode
        if not step.options.transactional:
            return encode(self._call(call, step.function, decode, of))
        with self._transaction() as session:
            return encode(self._call(call, partial(step.function, session), decode, of))

    @contextmanager
    def _transaction(self) -> Generator[Session]:
        """Gives a session on the world's database; what is written counts if nothing is raised."""
        assert self._database is not None, "whoever tests what is transactional has made sure"
        with Session(self._database(self._world)) as session:
            yield session
            session.commit()

    def undo(self, call: StepCall[Any], payload: bytes | None, *, of: str = "", how: str = "") -> BaseException | None:
        """Calls the compensator of a step; gives what it raised.

        Args:
            call: The step and its arguments.
            payload: The result of the step; ``None`` if it is not known.
            of: See ``act``.
            how: See ``act``.
        """
        undo = call.step.undo
        assert undo is not None, "whoever asks has made sure"

        def arguments(encoded: bytes) -> dict[str, object]:
            chosen = undo.select(call.step.arguments_schema.decode(encoded))
            if undo.wants_result:
                chosen["result"] = None if payload is None else call.step.result_schema.decode(payload)
            return chosen

        shown = _calling(undo.function, arguments(_encoded(call)))
        try:
            if undo.transactional:
                with self._transaction() as session:
                    self._call(call, partial(undo.function, session), arguments, of, undoing=True)
            else:
                self._call(call, undo.function, arguments, of, undoing=True)
        except Exception as error:  # noqa: BLE001 - whatever it raises is told
            self._note(f"{shown}{how} raises {_show(error)}")
            return error
        self._note(f"{shown}{how}")
        return None

    def ask(self, call: StepCall[Any], *, of: str = "", how: str = "") -> Outcome:
        """Calls the probe of a step; ``refused`` means that it says that nothing happened."""
        query = call.step.query
        assert query is not None, "whoever asks has made sure"

        def arguments(encoded: bytes) -> dict[str, object]:
            return query.select(call.step.arguments_schema.decode(encoded))

        shown = _calling(query.function, arguments(_encoded(call)))
        try:
            found = self._call(call, query.function, arguments, of)
            applied = not (isinstance(found, NotApplied) or found is NotApplied)
            payload = call.step.result_schema.encode(found) if applied else None
        except Exception as error:  # noqa: BLE001 - whatever it raises is told
            self._note(f"{shown}{how} raises {_show(error)}")
            return Outcome("doubt", error=error)
        self._note(f"{shown}{how} gives {found!r}")
        return Outcome("acted" if applied else "refused", payload)

    def _call(
        self,
        call: StepCall[Any],
        function: Callable[..., Any],
        arguments: Callable[[bytes], Any],
        of: str,
        *,
        undoing: bool = False,
    ) -> Any:
        """Calls a function with what a journal would have kept of the arguments."""
        key = f"{self._key}{of}"
        context = StepContext(
            saga_id="bench", step=call.step.name, path="1", idempotency_key=f"{key}:undo" if undoing else key,
            undoes=key if undoing else None, attempt=1, deadline=None,
        )  # fmt: skip
        return call_plainly(function, arguments(_encoded(call)), context)

    # --- telling ------------------------------------------------------------------------------------------------

    def _note(self, what: str) -> object:
        """Writes a line of the story."""
        held = self.look()
        self.lines.append(Line(what, held))
        return held

    def broken(self, law: str, calls: tuple[StepCall[Any], ...], remedy: str, remark: str) -> Broken:
        """Says that a law does not hold, since the last call."""
        return Broken(law, calls, [*self.lines[:-1], self.lines[-1]._replace(remark=remark)], remedy)


def story(lines: list[Line]) -> list[str]:
    """Draws what happened as a table."""
    rows = [("what is called", "what the view holds"), *((x.what, repr(x.held)) for x in lines)]
    width = min(max(len(row[0]) for row in rows), _WIDEST)
    drawn: list[str] = []
    for (what, held), remark in zip(rows, ["", *(x.remark for x in lines)], strict=True):
        drawn.append(f"{what:<{width}}  {held}")
        if remark:
            drawn.append(f"{'':<{width}}  ^ {remark}")
    return drawn


def _encoded(call: StepCall[Any]) -> bytes:
    """Writes the arguments of a call as the journal does."""
    return call.step.arguments_schema.encode(call.arguments)


def _calling(function: Callable[..., Any], arguments: dict[str, object]) -> str:
    """Shows a call."""
    return f"{function.__name__}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _show(error: BaseException) -> str:
    """Shows an exception."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
