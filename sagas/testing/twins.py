"""Replays a run with the same code in other surroundings, to find what a replay at once, in one process, cannot show.

``datetime.now().date()`` is the same a moment later, ``random() < 0.01`` is false nearly always, and sets are in the
same order as long as the process lives. So the clock, chance and the process are replaced for the body, and its sets
are gone through in another order; one place at a time, to say which one it is.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.coordinator.seclusion import Secluded
from sagas.core import commands as c
from sagas.core.execution import Execution
from sagas.core.recording import Recording
from sagas.core.schema import ValueSchema
from sagas.errors import IllegalTransition, PayloadError, ReplayDiverged
from sagas.testing.reach import Reach
from sagas.testing.reordering import made, orders, reordered
from sagas.testing.rewriting import CALLED, MADE, READ, rewritten
from sagas.testing.surroundings import ENVIRONMENT, ORDER, VARIANTS, Surroundings, is_ordered
from sagas.testing.where import where

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType, FrameType, FunctionType

    from sagas.core.definitions import Saga, Step
    from sagas.core.records import Record

__all__ = ["Site", "Twins"]


class Site(NamedTuple):
    """A place at which a body depends on its surroundings.

    Attributes:
        surrounding: On what; see ``surroundings``.
        what: What it does there.
        file: Where.
        line: Of the file.
        function: Name of the function.
    """

    surrounding: str
    what: str
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.what} at {self.file}:{self.line} in {self.function}"


class Twins:
    """Replays runs of a saga in other surroundings.

    Args:
        saga: Its definition.
        saga_id: Its id.
        steps: By name.
    """

    def __init__(self, saga: Saga[..., Any], saga_id: str, steps: Mapping[str, Step[..., Any]]) -> None:
        self._saga = saga
        self._saga_id = saga_id
        self._steps = steps
        self._reach: Reach | None = None
        self._codes: list[tuple[FunctionType, CodeType]] = []

    def differ(self, records: Sequence[Record]) -> str | None:
        """Replays a journal, which the body replays as it is.

        Returns:
            Where the body does something else in other surroundings; ``None`` if it does not.
        """
        for number in range(VARIANTS):
            sites: dict[Site, None] = {}
            how = self._replay(records, number, sites, None)
            if how is not None:
                return self._explain(records, number, list(sites), how)
            if not sites:
                return None
        return None

    def suspects(self, records: Sequence[Record]) -> str:
        """Names the places at which a body depends on its surroundings, up to where it differs from a journal."""
        sites: dict[Site, None] = {}
        self._replay(records, 0, sites, frozenset())
        named = "; ".join(f"{site}, which gives something else with {site.surrounding}" for site in sites)
        return f". Before that it depends on {named}" if named else ""

    def _explain(self, records: Sequence[Record], number: int, sites: Sequence[Site], how: str) -> str:
        """Finds out which of several places it is."""
        for site in sites:
            alone = self._replay(records, number, {}, frozenset((site,)))
            if alone is not None:
                return f"replayed with {site.surrounding}, it does something else: {site} decides; {alone}"
        places = "; ".join(str(site) for site in sites)
        several = " and ".join(dict.fromkeys(site.surrounding for site in sites)) or "other surroundings"
        return f"replayed with {several}, it does something else: {places}; {how}"

    def _replay(
        self, records: Sequence[Record], number: int, sites: dict[Site, None], only: frozenset[Site] | None
    ) -> str | None:
        """Replays a journal in the surroundings of a number, at some places or at all; says how it differs."""
        self._prepare()
        assert self._reach is not None, "it is prepared"
        files = {code.co_filename for _, code in self._codes}
        twin = _Twin(Surroundings(number, self._reach.generators), sites, only, files)
        with ExitStack() as stack:
            stack.enter_context(twin)
            self._exchange(twin, stack)
            execution = stack.enter_context(closing(Execution(self._saga, self._saga_id, self._steps)))
            execution.recording = recording = _Values(records, strict=True)
            stack.enter_context(Secluded())
            return _compare(self._saga, execution, recording, records)

    def _prepare(self) -> None:
        """Finds and rewrites the code, once."""
        if self._reach is not None:
            return
        self._reach = Reach(self._saga)
        found = ((function, rewritten(function.__code__)) for function in self._reach.functions)
        self._codes = [(function, code) for function, code in found if code is not None]

    def _exchange(self, twin: _Twin, stack: ExitStack) -> None:
        """Puts the rewritten code in its place, and reorders sets that are there already, until the stack is left."""
        assert self._reach is not None, "it is prepared"
        for function, code in self._codes:
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = code
            space = function.__globals__
            if CALLED not in space:
                space.update({CALLED: twin.called, MADE: made, READ: twin.read})
                for name in (CALLED, MADE, READ):
                    stack.callback(space.pop, name, None)
        for place, name in self._reach.sets:
            _reorder_in(place, name, stack)


def _reorder_in(space: Any, name: str, stack: ExitStack) -> None:
    """Exchanges a set in a namespace, or in a cell."""
    if name:
        stack.callback(space.__setitem__, name, space[name])
        space[name] = made(space[name])
    else:
        stack.callback(setattr, space, "cell_contents", space.cell_contents)
        space.cell_contents = made(space.cell_contents)


# --- one twin -------------------------------------------------------------------------------------------------------


class _Twin:
    """Decides what rewritten code calls and sees: ``with twin: …``.

    Args:
        surroundings: What else there is.
        sites: Takes the places at which that matters.
        only: Those at which it is to be so; ``None`` for all.
        files: In which there is rewritten code.
    """

    def __init__(
        self, surroundings: Surroundings, sites: dict[Site, None], only: frozenset[Site] | None, files: set[str]
    ) -> None:
        self._surroundings = surroundings
        self._sites = sites
        self._only = only
        self._files = files
        self._decode: Any = None

    def __enter__(self) -> None:
        kind: Any = ValueSchema
        decode = self._decode = kind.decode

        def decode_reordered(schema: object, payload: bytes) -> Any:
            return reordered(decode(schema, payload))

        orders.append(self.order)
        kind.decode = decode_reordered

    def __exit__(self, *_: object) -> None:
        kind: Any = ValueSchema
        kind.decode = self._decode
        orders.remove(self.order)

    def called(self, function: Any) -> Any:
        """Gives what is called instead of a function."""
        other = self._surroundings.stand_in(function)
        if other is None or not self._is_on(other.surrounding, f"{other.name}()", sys._getframe(1)):  # noqa: SLF001 - the only way to see who asks
            return function
        return other.function

    def read(self, value: Any) -> Any:
        """Gives what is read instead of the environment."""
        if value is not os.environ or not self._is_on(ENVIRONMENT, "os.environ", sys._getframe(1)):  # noqa: SLF001 - as above
            return value
        return self._surroundings.environment

    def order(self, items: list[Any], asks: FrameType) -> list[Any]:
        """Gives the items of a set in the order in which a frame is to see them."""
        frame: FrameType | None = asks
        while frame is not None and frame.f_code.co_filename not in self._files:
            if frame.f_globals.get("__name__") == "sagas.core.schema":
                return items  # to be written: what is read back is a set again
            frame = frame.f_back
        if frame is None or is_ordered(items) or not self._is_on(ORDER, "the order of a set", frame):
            return items
        return self._surroundings.order(items)

    def _is_on(self, surrounding: str, what: str, frame: FrameType) -> bool:
        """Notes a place, and says whether the surroundings are to be others there."""
        code = frame.f_code
        site = Site(surrounding, what, code.co_filename, frame.f_lineno, code.co_name)
        self._sites[site] = None
        return self._only is None or site in self._only


class _Values(Recording):
    """Compares arguments by what they mean: a set is the same in every order."""

    __slots__ = ()

    def arguments(self, path: str, step: Step[..., Any], arguments: dict[str, object]) -> bytes:
        """See ``Recording``."""
        try:
            return super().arguments(path, step, arguments)
        except ReplayDiverged:
            recorded = self._steps.get(path)
            if recorded is None or recorded.name != step.name:
                raise
            schema = step.arguments_schema
            if schema.decode(schema.encode(arguments)) != schema.decode(recorded.arguments):
                raise
            return recorded.arguments


def _compare(saga: Saga[..., Any], execution: Execution, recording: Recording, records: Sequence[Record]) -> str | None:
    """Feeds a journal to a fresh body; says how what it asks for differs."""
    for record in records:
        recording.meet(record)
        try:
            given = execution.apply(record.event, record.at)
        except (ReplayDiverged, IllegalTransition, PayloadError) as error:
            path = getattr(error, "path", "")
            reason = getattr(error, "reason", error)
            return f"{f'operation {path}: ' if path else ''}{reason}{where(execution, path)}"
        told = [x for x in (_told(saga, command) for command in given) if x is not None]
        noted = [x for x in (_told(saga, command) for command in record.commands) if x is not None]
        if told != noted:
            return _difference(execution, record, told, noted)
    return None


def _difference(execution: Execution, record: Record, told: Sequence[Any], noted: Sequence[Any]) -> str:
    """Says how what a body asks for after a record differs from what the journal says."""
    more = [x for x in told if x not in noted]
    less = [x for x in noted if x not in told]
    place = next((str(x[1]) for x in (*more, *less)), "")
    return (
        f"after record {record.seq} ({type(record.event).__name__}), it asks for {_shown(more)} instead of "
        f"{_shown(less)}{where(execution, place)}"
    )


def _shown(told: Sequence[tuple[Any, ...]]) -> str:
    """Shows what was asked for."""
    return ", ".join(" ".join(str(part) for part in x if part not in ("", b"", None)) for x in told) or "nothing"


def _told(saga: Saga[..., Any], command: c.Command) -> tuple[Any, ...] | None:
    """Gives what a journal notes of a command, by what it means: kind, path and the rest."""
    match command:
        case c.RunStep():
            return ("step", command.path, command.name, command.arguments)
        case c.RunUndo() | c.TakeLock() | c.FreeLock():
            return (type(command).__name__, command.path, command.name)
        case c.StartTimer():
            return ("timer", command.path, command.until)
        case c.Complete(None, cause):
            return ("compensated", "", None if cause is None else (cause.type, cause.message))
        case c.Complete(result):
            return ("completed", "", _value(saga, result))
        case c.Halt():
            return ("halt", command.path, command.error.type, command.error.message)
        case c.MarkVersion():
            return ("change", "", command.change_id)
        case _:
            return None


def _value(saga: Saga[..., Any], result: bytes | None) -> object:
    """Reads a result, so that a set is the same in every order."""
    try:
        return saga.result_schema.decode(result or b"null")
    except PayloadError:
        return result
