"""Finds out where a body waited for the signals that it received, which a journal does not say."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from sagas.coordinator.seclusion import Secluded
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.recording import Recording
from sagas.errors import SagaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagas.testing.runs import Run

__all__ = ["Received", "received"]


class Received(NamedTuple):
    """A signal that a body waited for, and got.

    Attributes:
        seq: Number of the record.
        path: Where it waited.
        name: Of the signal.
    """

    seq: int
    path: str
    name: str


def received(run: Run) -> list[Received]:
    """Lists the signals that a body waited for; one that was there already when it asked is not among them."""
    if not any(isinstance(x.event, e.SignalReceived) for x in run.records):
        return []
    return list(_replayed(run))


def _replayed(run: Run) -> Iterator[Received]:
    """Replays the run; as far as its own code goes, since another release may have gone on with it."""
    execution = Execution(run.scenario.call.saga, "saga", run.steps)
    execution.recording = recording = Recording(run.records)
    with closing(execution), Secluded():
        for record in run.records:
            before = execution.receives()
            recording.meet(record)
            try:
                execution.apply(record.event, record.at)
            except SagaError:
                return
            if isinstance(record.event, e.SignalReceived):
                after = execution.receives()
                gone = (path for path, name in before.items() if name == record.event.name and path not in after)
                yield from (Received(record.seq, path, record.event.name) for path in gone)
