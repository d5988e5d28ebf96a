"""What comes after each attempt: another one, a question to the probe, or an outcome that is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import NotApplied, PayloadError, Rejected, Retry, Step, step
from sagas.core import attempts as a
from sagas.core import events as e
from sagas.core.commands import RunStep, RunUndo

_THREE = Retry(attempts=3, initial=1, factor=2, jitter=0)


def command(*, probe: bool = False, options: dict[str, Any] | None = None, **fields: Any) -> RunStep:
    """Asks for a step with some options."""

    def function() -> int:
        return 1

    def find() -> int | NotApplied:
        return NotApplied()

    act: Step[[], int] = step(**(options or {}))(function)
    if probe:
        act.probe(find)
    return RunStep("1", "act", act, b"{}", 1000.0, **fields)


def transactional() -> RunStep:
    """Asks for a step whose writes commit with its record."""

    @step(transactional=True)
    def write(session: Any) -> int:
        return 1

    return RunStep("1", "write", write, b"{}", 1000.0)


def fail(
    attempts: a.StepAttempts, error: Exception | None = None, *, now: float = 1000.0, stop: bool = False
) -> a.Next:
    """Lets an attempt fail."""
    return attempts.failed(error or OSError("broke"), now, now, 0.0, stop=stop)


def outcome(following: a.Next) -> type:
    """Names what happened, when nothing is left to do."""
    assert isinstance(following, a.Done)
    return type(following.event)


def test_it_begins_with_an_attempt() -> None:
    """The first, under number 1."""
    attempts = a.StepAttempts(command())
    assert (attempts.first(), attempts.attempt) == (a.Act(), 1)


@pytest.mark.parametrize("fields", [{"doubt": True}, {"redelivered": True}])
def test_a_step_that_may_have_acted_is_asked_about_first(fields: dict[str, Any]) -> None:
    """After a crash, for one; without a probe it is attempted again under the same key."""
    assert a.StepAttempts(command(probe=True, **fields)).first() == a.Ask()
    assert a.StepAttempts(command(**fields)).first() == a.Act()


@pytest.mark.parametrize(
    ("options", "error", "expected"),
    [
        ({}, OSError(), e.StepInDoubt),
        ({}, Rejected(), e.StepRejected),
        ({}, KeyError(), e.StepInDoubt),
        ({"rejects": (LookupError,)}, KeyError(), e.StepRejected),
        ({}, TimeoutError(), e.StepInDoubt),
        ({"atomic": True}, OSError(), e.StepRejected),
        ({"atomic": True}, TimeoutError(), e.StepInDoubt),
        ({}, PayloadError(), e.StepInDoubt),
        ({"atomic": True}, PayloadError(), e.StepInDoubt),
    ],
)
def test_what_a_failure_means(options: dict[str, Any], error: Exception, expected: type) -> None:
    """Declared: nothing happened. ``atomic``: neither, but for a timeout. A result that cannot be written: it acted."""
    assert outcome(fail(a.StepAttempts(command(options=options)), error)) is expected


@pytest.mark.parametrize("error", [OSError(), PayloadError(), TimeoutError()])
def test_a_transactional_step_is_never_in_doubt(error: Exception) -> None:
    """What it wrote is durable if and only if its record is; so a crash leaves no doubt either."""
    assert outcome(fail(a.StepAttempts(transactional()), error)) is e.StepRejected
    crashed = a.StepAttempts(replace(transactional(), redelivered=True))
    assert crashed.first() == a.Act()
    assert outcome(fail(crashed, error)) is e.StepRejected


def test_a_rejection_after_an_attempt_that_may_have_acted_leaves_doubt() -> None:
    """The earlier attempt is not taken back by the later one's answer."""
    attempts = a.StepAttempts(command(options={"retry": _THREE}))
    assert fail(attempts) == a.Pause(1, a.Act())
    assert outcome(fail(attempts, Rejected())) is e.StepInDoubt


def test_a_short_pause_is_made_and_a_long_one_is_written_down() -> None:
    """So that a restart does not begin anew; with the attempts so far, and whether one may have acted."""
    attempts = a.StepAttempts(command(options={"retry": _THREE}))
    assert fail(attempts) == a.Pause(1, a.Act())
    following = fail(attempts, now=1010.0)
    assert isinstance(following, a.Done)
    assert isinstance(following.event, e.StepBackedOff)
    assert (following.event.tried, following.event.until, following.event.doubt) == (2, 1012.0, True)
    assert len(following.event.attempts) == 2


def test_after_a_long_pause_the_budget_goes_on_where_it_was() -> None:
    """The number of the attempt too."""
    attempts = a.StepAttempts(command(options={"retry": _THREE}, tried=2, doubt=True))
    assert attempts.attempt == 3
    assert outcome(fail(attempts)) is e.StepInDoubt


def test_no_attempt_begins_after_the_total_timeout() -> None:
    """Counted from when the body asked for the step."""
    options = {"retry": Retry(attempts=9, initial=1, jitter=0), "total_timeout": 5.0}
    assert fail(a.StepAttempts(command(options=options)), now=1003.9) == a.Pause(1, a.Act())
    assert outcome(fail(a.StepAttempts(command(options=options)), now=1004.0)) is e.StepInDoubt


def test_a_saga_that_stops_wants_no_further_attempt() -> None:
    """In doubt if one may have acted, else rejected, also if none was made."""
    assert outcome(fail(a.StepAttempts(command(options={"retry": _THREE})), stop=True)) is e.StepInDoubt
    assert outcome(a.StepAttempts(command()).stopped()) is e.StepRejected
    assert outcome(a.StepAttempts(command(redelivered=True)).stopped()) is e.StepInDoubt


def test_a_probe_is_asked_before_anything_is_tried_again() -> None:
    """It acted: succeeded. It did not: the budget goes on, and the doubt is gone."""
    attempts = a.StepAttempts(command(probe=True, options={"retry": _THREE}))
    assert fail(attempts) == a.Ask()
    assert outcome(attempts.applied(b"1", 1000.0)) is e.StepSucceeded
    assert attempts.not_applied(1000.0, 0.0, stop=False) == a.Pause(1, a.Act())
    assert outcome(fail(attempts, Rejected())) is e.StepRejected


def test_a_probe_that_denies_it_on_the_last_attempt_makes_it_a_rejection() -> None:
    """Without a budget too, and when the saga stops."""
    attempts = a.StepAttempts(command(probe=True))
    assert fail(attempts) == a.Ask()
    assert outcome(attempts.not_applied(1000.0, 0.0, stop=False)) is e.StepRejected
    crashed = a.StepAttempts(command(probe=True, redelivered=True))
    assert outcome(crashed.not_applied(1000.0, 0.0, stop=True)) is e.StepRejected


def test_a_probe_that_cannot_answer_is_asked_some_times_and_then_leaves_doubt() -> None:
    """Never is the step attempted again before the probe has spoken."""
    attempts = a.StepAttempts(command(probe=True, options={"retry": _THREE}))
    fail(attempts)
    answers = [attempts.probe_failed(0.0) for _ in range(a.PROBE_RETRY.attempts or 0)]
    assert all(isinstance(x, a.Pause) and x.then == a.Ask() for x in answers[:-1])
    assert outcome(answers[-1]) is e.StepInDoubt


def test_what_cannot_even_begin_did_not_act() -> None:
    """Unless an earlier attempt may have."""
    assert outcome(a.StepAttempts(command()).not_run(PayloadError("x"))) is e.StepRejected
    assert outcome(a.StepAttempts(command(doubt=True)).not_run(PayloadError("x"))) is e.StepInDoubt


def undo(retry: Retry, **fields: Any) -> a.UndoAttempts:
    """Asks for an undo with a budget."""

    @step
    def act() -> int:
        return 1

    @act.compensator(retry=retry)
    def take_back() -> None: ...

    return a.UndoAttempts(RunUndo("1", "act", act, b"{}", b"1", **fields))


def test_an_undo_is_retried_on_its_own_budget_and_then_fails() -> None:
    """5: short pauses are made, long ones written down, and in the end the saga is stuck."""
    attempts = undo(_THREE)
    assert attempts.first() == a.Act()
    assert attempts.failed(OSError(), 0.0, 0.0, 0.0) == a.Pause(1, a.Act())
    following = attempts.failed(OSError(), 0.0, 10.0, 0.0)
    assert isinstance(following, a.Done)
    assert isinstance(following.event, e.UndoBackedOff)
    assert (following.event.tried, following.event.until) == (2, 12.0)
    assert outcome(undo(_THREE, tried=2).failed(OSError(), 0.0, 0.0, 0.0)) is e.UndoFailed


def test_a_rejection_is_no_answer_to_an_undo() -> None:
    """It is tried again, as after any other failure."""
    assert undo(_THREE).failed(Rejected(), 0.0, 0.0, 0.0) == a.Pause(1, a.Act())


_STEPS = st.sampled_from(["act", "act and fail", "fail", "reject"])


@given(
    script=st.lists(_STEPS, min_size=1, max_size=8),
    answers=st.lists(st.booleans(), min_size=1, max_size=6),
    crashed=st.booleans(),
    probe=st.booleans(),
    stop=st.integers(0, 6),
)
def test_the_outcome_is_true_of_the_world(
    script: list[str], answers: list[bool], crashed: bool, probe: bool, stop: int
) -> None:
    """Rejected only if no attempt acted; succeeded only if one did; else in doubt. Also across a crash."""
    acted = crashed and script[0] != "fail"
    options = {"retry": Retry(attempts=4, initial=0)}
    attempts = a.StepAttempts(command(probe=probe, redelivered=crashed, options=options))
    following, number, asked = attempts.first(), 0, 0
    while not isinstance(following, a.Done):
        if isinstance(following, a.Pause):
            following = following.then
        elif isinstance(following, a.Ask):
            asked += 1
            if not answers[asked % len(answers)] and asked < 9:
                following = attempts.probe_failed(0.0)
            elif acted:
                following = attempts.applied(b"1", 0.0)
            else:
                following = attempts.not_applied(0.0, 0.0, stop=number >= stop)
        else:
            what = script[number % len(script)]
            number += 1
            acted = acted or what in ("act", "act and fail")
            if what == "act":
                following = attempts.succeeded(b"1", e.Attempt(0.0, 0.0, None))
            else:
                error = Rejected() if what == "reject" else OSError()
                following = fail(attempts, error, stop=number >= stop)
    if isinstance(following.event, e.StepRejected):
        assert not acted
    if isinstance(following.event, e.StepSucceeded):
        assert acted
