"""Views to draw: of golden journals and simulated runs, as they were after each of their records."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sagas import AttemptView, SagaView, StepView
from sagas.coordinator.fleet import Fleet
from sagas.coordinator.loading import History
from sagas.coordinator.telling import view_of
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.records import Record, decode
from sagas.stores.port import SagaRow
from sagas.testing import Simulator
from sagas.testing.random_runs import RandomRuns
from tests.golden.make import HERE
from tests.testing import shop

__all__ = ["START", "at_every_record", "golden", "simulated", "step", "view"]

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_NOBODY = Fleet(frozenset(), frozenset())


def golden() -> Iterator[tuple[str, Sequence[Record]]]:
    """Golden journals."""
    for file in sorted(HERE.glob("*.json")):
        rows: list[Any] = orjson.loads(file.read_bytes())["rows"]
        yield file.stem, [decode(seq, at, kind, path, data.encode()) for seq, at, kind, path, data, _ in rows]


def simulated(runs: int) -> Iterator[tuple[str, Sequence[Record]]]:
    """Journals of simulated runs in which all kinds of things go wrong."""
    for call in (shop.order("lamp", 1), shop.ask("lamp")):
        simulator = Simulator(call.saga)
        for number, run in enumerate(itertools.islice(RandomRuns(simulator, [call], 7), runs)):
            yield f"{call.saga.name}-{number}", run.records


def at_every_record(records: Sequence[Record]) -> Iterator[SagaView]:
    """Views of a saga as it was after each of its records."""
    for end in range(1, len(records) + 1):
        yield _view(tuple(records[:end]))


def _view(records: tuple[Record, ...]) -> SagaView:
    start = records[0].event
    assert isinstance(start, (e.SagaStarted, e.SagaSubmitted))
    status, ended_at = "running", None
    for record in records:
        for command in record.commands:
            if isinstance(command, c.Complete):
                status, ended_at = ("compensated" if command.result is None else "completed"), record.at
            elif isinstance(command, c.Halt):
                status = "stuck"
            elif isinstance(command, c.RunUndo):
                status = "compensating"
    row = SagaRow(
        "s", start.name, start.version, b"", records[0].at, "me", status, ended_at is None, None, ended_at, None, 0.0
    )
    return view_of(row, History("s", records, b"", start), _NOBODY)


def step(path: str, name: str = "act", state: str = "succeeded", **more: Any) -> StepView:
    """A step that took a second, a second after it was called."""
    outcome = None if state in ("scheduled", "backing off") else "succeeded" if "undo" in state else state
    if state == "undone":
        outcome = "succeeded"
    attempt = AttemptView(started_at=START + timedelta(seconds=1), seconds=1.0, error=None)
    blank = StepView(
        path=path, name=name, state=state, arguments={}, result=None, scheduled_at=START, ended_at=None,
        attempts=(attempt,), undo_attempts=(), error=None, outcome=outcome,
    )  # fmt: skip
    return replace(blank, **more)


def view(*steps: StepView, **more: Any) -> SagaView:
    """A saga with these steps."""
    blank = SagaView(
        id="order-1", name="order", version="1", status="running", waiting=False, created_at=START, ended_at=None,
        wake_at=None, error=None, input={}, result=None, cause=None, traceback="", steps=steps, locks=(),
        timeline=(), trace="",
    )  # fmt: skip
    return replace(blank, **more)
