"""Replays what ran, as a recovery would, and says where a body does something else the second time."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from sagas.coordinator.seclusion import Secluded
from sagas.core.commands import RunLocal
from sagas.core.execution import Execution
from sagas.core.recording import Recording
from sagas.core.records import encode, is_noted
from sagas.core.replay import replay
from sagas.errors import IllegalTransition, PayloadError, ReplayDiverged
from sagas.testing.where import LastLine, where

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from sagas.core.commands import Command
    from sagas.core.definitions import Saga, Step
    from sagas.core.records import Record
    from sagas.stores.port import JournalRow

__all__ = ["replay_all", "replay_prefixes", "with_line"]


def replay_all(
    saga: Saga[..., Any],
    saga_id: str,
    steps: Mapping[str, Step[..., Any]],
    records: Sequence[Record],
    rows: Sequence[JournalRow],
) -> str | None:
    """Feeds a journal to a fresh body, and compares what it asks for after every record.

    Returns:
        How it differs; ``None`` if it does not.
    """
    execution = Execution(saga, saga_id, steps)
    execution.recording = recording = Recording(records, strict=True)
    with closing(execution), Secluded():
        for record, row in zip(records, rows, strict=True):
            recording.meet(record)
            try:
                given = execution.apply(record.event, record.at)
            except (ReplayDiverged, IllegalTransition, PayloadError) as error:
                place = where(execution, getattr(error, "path", ""))
                return f"replayed, it does something else{place}: {error}"
            if not is_noted(given, record.commands) and encode(record.event, given) != (row.kind, row.path, row.data):
                place = where(execution, _first_other(given, record.commands))
                return (
                    f"replayed, it asks for something else{place} after record {record.seq} ({row.kind} "
                    f"{row.path}): {_names(given)} instead of {_names(record.commands)}"
                )
    return None


def replay_prefixes(
    saga: Saga[..., Any],
    saga_id: str,
    steps: Mapping[str, Step[..., Any]],
    records: Sequence[Record],
    lines: AbstractContextManager[None],
) -> str | None:
    """Recovers a saga from every prefix of its journal, each time with a fresh body.

    Args:
        saga: Its definition.
        saga_id: Its id.
        steps: By name.
        records: Its journal.
        lines: Entered while the whole body runs once.

    Returns:
        How one differs from what the whole journal says; ``None`` if none does.
    """
    states: list[object] = []
    execution = Execution(saga, saga_id, steps)
    with closing(execution), lines, Secluded():
        for record in records:
            execution.apply(record.event, record.at)
            states.append(_state(execution))
    for length in range(1, len(records)):
        try:
            with Secluded(), closing(replay(saga, saga_id, steps, records[:length], strict=True)) as recovered:
                if _state(recovered) != states[length - 1]:
                    return (
                        f"recovered after record {length - 1}, it waits for something else{where(recovered)}: "
                        f"{_state(recovered)} instead of {states[length - 1]}"
                    )
        except (ReplayDiverged, IllegalTransition, PayloadError) as error:
            return f"recovered after record {length - 1}, it does something else: {error}"
    return None


def _state(execution: Execution) -> object:
    """Gives what a host can see of a saga."""
    return (
        execution.state.status,
        sorted(execution.open),
        dict(execution.timers),
        execution.awaited_signals(),
        sorted(execution.tickets or ()),
        execution.result,
    )


def with_line(how: str, saga: Saga[..., Any], again: Callable[[], object]) -> str:
    """Names the line at which a body ended, if it waits at none.

    Args:
        how: What is known.
        saga: Its definition.
        again: Does the same once more.
    """
    if ", at " in how:
        return how
    with LastLine({saga.function.__code__.co_filename}) as last:
        again()
    return f"{how}{last}"


def _first_other(given: Sequence[Command], noted: Sequence[Command]) -> str:
    """Gives the path of the first command that is not the one that was noted."""
    kept = [x for x in given if not isinstance(x, RunLocal)]
    for one, other in zip(kept, noted, strict=False):
        if (type(one), getattr(one, "path", "")) != (type(other), getattr(other, "path", "")):
            return str(getattr(one, "path", ""))
    longer = kept[len(noted) :] or list(noted)[len(kept) :] or kept[:1]
    return str(getattr(longer[0], "path", "")) if longer else ""


def _names(commands: Sequence[object]) -> str:
    """Names commands."""
    names = [f"{type(x).__name__} {getattr(x, 'name', '')} {getattr(x, 'path', '')}".split() for x in commands]
    return ", ".join(" ".join(x) for x in names) or "nothing"
