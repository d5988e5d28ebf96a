"""One saga, driven by hand: a test says each event itself."""

from __future__ import annotations

from typing import Any

import orjson

from sagas import Saga, step
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.records import Record, decode, encode
from sagas.core.replay import replay
from sagas.core.transitions import SagaState

__all__ = ["Run", "act", "ran"]

ran: list[str] = []


@step
def act(name: str = "x") -> str:
    ran.append(name)
    return name


@act.compensator
def take_back(name: str) -> None: ...


class Run:
    """A saga with its journal, step by step."""

    def __init__(self, body: Saga[[], Any]) -> None:
        self.saga = body
        self.execution = Execution(body, "s", {"act": act})
        self.records: list[Record] = []
        self.feed(e.SagaStarted(body.name, body.version, b"{}", "key"))

    def feed(self, event: e.Event, after: float = 1.0) -> list[c.Command]:
        """Takes a fact, and keeps it as bytes would."""
        at = self.execution.at + after
        given = self.execution.apply(event, at)
        self.records.append(decode(len(self.records), at, *encode(event, given)))
        return given

    def again(self, body: Saga[[], Any] | None = None) -> Execution:
        """Brings it back from its journal, perhaps with other code."""
        return replay(body or self.saga, "s", {"act": act}, self.records)

    @property
    def result(self) -> Any:
        """What the body returned."""
        assert self.execution.state is SagaState.COMPLETED, self.execution.cause
        return orjson.loads(self.execution.result or b"")
