"""Replays what ran, as a recovery would, and says where a body does something else the second time."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from sagas.coordinator.seclusion import Secluded
from sagas.core.execution import Execution
from sagas.core.recording import Recording
from sagas.core.records import encode
from sagas.core.replay import replay
from sagas.errors import IllegalTransition, PayloadError, ReplayDiverged

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from sagas.core.definitions import Saga, Step
    from sagas.core.records import Record
    from sagas.stores.port import JournalRow

__all__ = ["replay_all", "replay_prefixes", "where"]


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
    execution.recording = Recording(records, strict=True)
    with closing(execution), Secluded():
        for record, row in zip(records, rows, strict=True):
            try:
                given = execution.apply(record.event, record.at)
            except (ReplayDiverged, IllegalTransition, PayloadError) as error:
                return f"replayed, it does something else{where(execution)}: {error}"
            if encode(record.event, given) != (row.kind, row.path, row.data):
                return (
                    f"replayed, it asks for something else{where(execution)} after record {record.seq} ({row.kind} "
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


def where(execution: Execution) -> str:
    """Names the line at which a body waits."""
    found = ""
    routine: Any = execution.body
    while routine is not None:
        frame = getattr(routine, "cr_frame", None)
        if frame is None:
            break
        code = frame.f_code
        found = f", at {code.co_filename}:{frame.f_lineno} in {code.co_name}"
        routine = getattr(routine, "cr_await", None)
    return found


def _names(commands: Sequence[object]) -> str:
    """Names commands."""
    names = [f"{type(x).__name__} {getattr(x, 'name', '')} {getattr(x, 'path', '')}".split() for x in commands]
    return ", ".join(" ".join(x) for x in names) or "nothing"
