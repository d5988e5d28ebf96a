"""A saga that is submitted: its input is kept, and its body starts with the first takeover."""

from __future__ import annotations

import orjson
import pytest

from sagas import PayloadError, Saga, receive, saga
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.records import Record, decode, encode
from sagas.core.replay import abandon, parked_by, replay
from sagas.core.transitions import SagaState
from sagas.errors import ReplayDiverged
from tests.core.single import act

_STEPS = {"act": act}


@saga(name="body", timeout=60.0)
async def body(name: str) -> str:
    return await act(name)


class Submitted:
    """A saga that was submitted at 100 s, with its journal."""

    def __init__(self, of: Saga[[str], str] = body, input: bytes = b'{"name":"ada"}') -> None:  # noqa: A002 - the event's word
        self.execution = Execution(of, "s", _STEPS)
        self.records: list[Record] = []
        self.feed(e.SagaSubmitted("body", "1", input, "key"), 100.0)

    def feed(self, event: e.Event, at: float) -> list[c.Command]:
        given = self.execution.apply(event, at)
        self.records.append(decode(len(self.records), at, *encode(event, given)))
        return given


def test_nothing_of_the_body_runs_before_the_first_takeover() -> None:
    """Its steps are noted with the takeover, under the key of the submission."""
    one = Submitted()
    before = one.execution.submitted, dict(one.execution.steps)
    given = one.feed(e.SagaTakenOver("first"), 110.0)
    assert [x.path for x in given if isinstance(x, c.RunStep)] == ["1"]
    assert orjson.loads(one.execution.steps["1"].arguments) == {"name": "ada"}
    assert (before, one.execution.submitted) == ((True, {}), False)
    assert one.execution.key == "key"
    assert not one.feed(e.SagaTakenOver("second"), 120.0)
    again = replay(body, "s", _STEPS, one.records, strict=True)
    assert list(again.open) == ["1"]
    again.close()
    one.execution.close()


def test_the_timeout_runs_from_the_submission() -> None:
    """Whenever somebody takes it over."""
    one = Submitted()
    one.feed(e.SagaTakenOver("first"), 150.0)
    assert one.execution.timers == {"": 160.0}
    one.execution.close()


@pytest.mark.parametrize("end", [e.CancelRequested("never mind"), e.TimerFired("")])
def test_a_saga_that_ends_before_its_body_started_never_starts_it(end: e.Event) -> None:
    """There is nothing to undo."""
    one = Submitted()
    assert one.feed(end, 160.0) == [c.Complete(None, one.execution.cause)]
    assert one.execution.state is SagaState.COMPENSATED
    assert not one.execution.submitted
    assert not one.feed(e.SagaTakenOver("late"), 170.0)
    assert replay(body, "s", _STEPS, one.records, strict=True).state is SagaState.COMPENSATED


def test_a_signal_that_comes_first_is_kept_for_the_body() -> None:
    @saga(name="body")
    async def patient(name: str) -> str:
        return await receive("go", str)

    one = Submitted(patient)
    one.feed(e.SignalReceived("go", b'"now"'), 101.0)
    one.feed(e.SagaTakenOver("first"), 102.0)
    assert one.execution.result == b'"now"'


def test_an_input_that_does_not_fit_is_refused_at_once() -> None:
    """As by ``SagaStarted``; and code that no longer takes it parks the saga before anything ran."""

    @saga(name="body")
    async def changed(name: int) -> None: ...

    with pytest.raises(PayloadError):
        Submitted(changed)  # type: ignore[arg-type]  # the very mistake
    one = Submitted()
    with pytest.raises(ReplayDiverged):
        replay(changed, "s", _STEPS, one.records)


def test_a_submitted_saga_that_was_parked_starts_when_it_is_resumed() -> None:
    one = Submitted()
    one.feed(e.SagaParked(e.ErrorInfo("ReplayDiverged", "")), 101.0)
    assert parked_by(one.records) is not None
    resumed = replay(body, "s", _STEPS, one.records)
    assert [x.path for x in resumed.apply(e.SagaResumed("ann"), 102.0) if isinstance(x, c.RunStep)] == ["1"]
    resumed.close()


def test_a_submitted_saga_that_was_parked_can_be_cancelled_without_code() -> None:
    one = Submitted()
    one.feed(e.SagaParked(e.ErrorInfo("ReplayDiverged", "")), 101.0)
    alone = abandon("s", _STEPS, one.records)
    assert alone.key == "key"
    alone.apply(e.CancelRequested("no code for it"), 102.0)
    assert alone.state is SagaState.COMPENSATED
    assert not alone.apply(e.SagaTakenOver("another"), 103.0)
