"""What comes after each attempt of a step or a compensator: another one, a question to the probe, or the outcome.

Pure: a host makes the attempts, and tells this class how they went, when, and what chance said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sagas.core import events as e
from sagas.core.failures import describe, describe_rejection, is_rejection, one_line
from sagas.core.retry import NO_RETRY, UNDO_RETRY, Retry
from sagas.errors import PayloadError

if TYPE_CHECKING:
    from sagas.core.commands import RunStep, RunUndo

__all__ = ["PROBE_RETRY", "Act", "Ask", "Done", "Heard", "Next", "Pause", "StepAttempts", "UndoAttempts", "last_span"]

# A pause at least this long, in seconds, is written to the journal, so that a restart does not begin anew.
PERSIST_FROM = 2.0
PROBE_RETRY = Retry(attempts=5)


@dataclass(frozen=True, slots=True)
class Act:
    """Attempt it (again)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the probe whether it acted."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this many seconds, then do what ``then`` says."""

    seconds: float
    then: Act | Ask


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do; this is what happened."""

    event: (
        e.StepSucceeded
        | e.StepRejected
        | e.StepInDoubt
        | e.StepBackedOff
        | e.UndoSucceeded
        | e.UndoBackedOff
        | e.UndoFailed
    )


Next: TypeAlias = Act | Ask | Pause | Done

_ACT = Act()
_ASK = Ask()
_LOST = e.ErrorInfo("lost", "the process ended while the step was in flight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What an answer other than success means.

    Attributes:
        final: Whether the action acted in no attempt, and never will.
        sent: Whether the request may have arrived, or may arrive yet.
        retry_after: Seconds for which whoever answered wants to be left alone.
    """

    final: bool = False
    sent: bool = True
    retry_after: float = 0.0


def last_span(attempts: tuple[e.Attempt, ...]) -> str:
    """Gives the span id of the last attempt that was traced; ``""`` if none was."""
    return next((attempt.span for attempt in reversed(attempts) if attempt.span), "")


class StepAttempts:
    """All attempts of one step, up to its outcome.

    With a probe, a step that may have acted is never attempted again before the probe has said that it did not. A
    participant behind a barrier sees to that itself: the request is sent again, and the probe is asked only when no
    attempt is left. What was once sent there may still arrive, whatever is heard of it; so it is undone, which keeps
    it away, unless the participant remembers that it has rejected it.

    Args:
        command: What to attempt.
        remote: Whether the attempts are made by a participant behind a barrier with memory.
    """

    __slots__ = (
        "_asked", "_command", "_doubt", "_error", "_log", "_probed", "_remote", "_retry", "_transactional", "_tried",
    )  # fmt: skip

    def __init__(self, command: RunStep, *, remote: bool = False) -> None:
        self._command = command
        self._remote = remote
        self._asked = False
        self._retry = command.step.options.retry if command.step is not None else NO_RETRY
        # What a transactional step wrote is durable if and only if its record is, so it is never in doubt.
        self._transactional = command.step is not None and command.step.options.transactional and not remote
        self._doubt = (command.doubt or command.redelivered) and not self._transactional
        self._tried = command.tried
        self._probed = 0
        self._error = _LOST
        self._log: tuple[e.Attempt, ...] = ()

    @property
    def attempt(self) -> int:
        """Which attempt comes next, from 1."""
        return self._tried + 1

    def first(self) -> Next:
        """Says what to do first."""
        return _ASK if self._doubt and self._has_probe and not self._remote else _ACT

    @property
    def _has_probe(self) -> bool:
        """Whether doubt can be resolved."""
        return self._command.step is not None and self._command.step.query is not None

    def succeeded(self, result: bytes, attempt: e.Attempt) -> Done:
        """Takes a result."""
        return Done(e.StepSucceeded(self._command.path, result, (*self._log, attempt)))

    def failed(
        self, error: BaseException, started: float, now: float, chance: float, *, stop: bool, span: str = ""
    ) -> Next:
        """Takes an exception.

        Args:
            error: What the attempt raised.
            started: POSIX time at which it began.
            now: POSIX time.
            chance: A random number in [0, 1).
            stop: Whether the saga no longer wants new attempts.
            span: Its span id, if it was traced.

        Returns:
            What to do next.
        """
        step = self._command.step
        declared = step.options.rejects if step is not None else ()
        self._tried += 1
        self._log = (*self._log, e.Attempt(started, round(now - started, 6), one_line(error), span))
        if is_rejection(error, declared):
            self._error = describe_rejection(error)
            return self._resolve() if self._doubt else self._rejected()
        self._error = describe(error)
        if isinstance(error, PayloadError):
            # It returned, so it acted; and trying again would give what cannot be written again.
            return self._rejected() if self._transactional else self._in_doubt()
        atomic = step is not None and step.options.atomic and not isinstance(error, TimeoutError)
        self._doubt = self._doubt or not (atomic or self._transactional)
        if self._doubt and self._has_probe:
            self._probed = 0
            return _ASK
        return self._again(now, chance, stop=stop)

    def answered(
        self, error: e.ErrorInfo, attempt: e.Attempt, now: float, chance: float, *, stop: bool, heard: Heard
    ) -> Next:
        """Takes it that a participant, or the way to it, has failed.

        Args:
            error: Why.
            attempt: When, and how long it took.
            now: POSIX time.
            chance: A random number in [0, 1).
            stop: Whether the saga no longer wants new attempts.
            heard: What it means.

        Returns:
            What to do next.
        """
        self._tried += 1
        self._log = (*self._log, attempt)
        self._error = error
        if heard.final:
            return self._rejected()
        self._doubt = self._doubt or heard.sent
        return self._again(now, chance, stop=stop, least=heard.retry_after)

    def not_run(self, error: Exception, *, sent: bool = False) -> Done:
        """Takes a failure to even begin; or (``sent``) to make anything of what came back."""
        self._error = describe(error)
        self._doubt = self._doubt or sent
        return self._in_doubt() if self._doubt else self._rejected()

    def stopped(self) -> Done:
        """Ends it without another attempt, because the saga no longer wants one."""
        if self._error is _LOST and not self._doubt:
            self._error = e.ErrorInfo("stopped", "the saga stopped before it was attempted")
        return self._in_doubt() if self._doubt else self._rejected()

    def applied(self, result: bytes, now: float) -> Done:
        """Takes the probe's answer that the step acted."""
        return Done(
            e.StepSucceeded(self._command.path, result, (*self._log, e.Attempt(now, 0.0, "found by the probe")))
        )

    def not_applied(self, now: float, chance: float, *, stop: bool) -> Next:
        """Takes the probe's answer that the step did not act."""
        if self._remote:
            return self._in_doubt()  # a request that is late may still arrive, so its undo has to keep it away
        self._doubt = False
        if self._error is _LOST:
            return self._rejected() if stop else _ACT
        if self._error.fields is not None:
            return self._rejected()
        return self._again(now, chance, stop=stop)

    def probe_failed(self, chance: float) -> Next:
        """Takes it that the probe could not answer."""
        self._probed += 1
        pause = PROBE_RETRY.pause_after(self._probed, chance)
        return self._in_doubt() if pause is None else Pause(pause, _ASK)

    def _again(self, now: float, chance: float, *, stop: bool, least: float = 0.0) -> Next:
        """Tries again if the budget and the clock allow it, after so many seconds at least."""
        pause = None if stop else self._retry.pause_after(self._tried, chance)
        pause = None if pause is None else max(pause, least)
        total = self._command.step.options.total_timeout if self._command.step is not None else None
        if pause is None or (total is not None and now + pause >= self._command.scheduled_at + total):
            return self._exhausted(stop=stop)
        if pause < PERSIST_FROM:
            return Pause(pause, _ACT)
        path = self._command.path
        return Done(e.StepBackedOff(path, self._tried, now + pause, self._doubt, self._error, self._log))

    def _exhausted(self, *, stop: bool) -> Next:
        """Ends it, since no attempt is left."""
        if self._remote and self._doubt and self._has_probe and not (self._asked or stop):
            self._asked = True
            self._probed = 0
            return _ASK
        return self._in_doubt() if self._doubt else self._rejected()

    def _resolve(self) -> Next:
        """Finds out about an earlier attempt, after a later one was rejected."""
        return _ASK if self._has_probe else self._in_doubt()

    def _rejected(self) -> Done:
        """Ends it: nothing happened."""
        return Done(e.StepRejected(self._command.path, self._error, self._log))

    def _in_doubt(self) -> Done:
        """Ends it: nobody knows."""
        return Done(e.StepInDoubt(self._command.path, self._error, self._log))


class UndoAttempts:
    """All attempts of one compensator.

    Args:
        command: What to undo.
    """

    __slots__ = ("_command", "_log", "_retry", "_tried")

    def __init__(self, command: RunUndo) -> None:
        self._command = command
        undo = command.step.undo if command.step is not None else None
        self._retry = undo.retry if undo is not None else UNDO_RETRY
        self._tried = command.tried
        self._log: tuple[e.Attempt, ...] = ()

    @property
    def attempt(self) -> int:
        """Which attempt comes next, from 1."""
        return self._tried + 1

    def first(self) -> Next:
        """Says what to do first."""
        return _ACT

    def succeeded(self, attempt: e.Attempt) -> Done:
        """Takes it that the step is undone."""
        return Done(e.UndoSucceeded(self._command.path, (*self._log, attempt)))

    def failed(self, error: BaseException, started: float, now: float, chance: float, *, span: str = "") -> Next:
        """Takes an exception; arguments as in ``StepAttempts.failed``."""
        attempt = e.Attempt(started, round(now - started, 6), one_line(error), span)
        return self.answered(describe(error), attempt, now, chance)

    def answered(
        self, error: e.ErrorInfo, attempt: e.Attempt, now: float, chance: float, *, retry_after: float = 0.0
    ) -> Next:
        """Takes it that it is not undone; arguments as in ``StepAttempts.answered``."""
        self._tried += 1
        self._log = (*self._log, attempt)
        pause = self._retry.pause_after(self._tried, chance)
        if pause is None:
            return Done(e.UndoFailed(self._command.path, error, self._log))
        pause = max(pause, retry_after)
        if pause < PERSIST_FROM:
            return Pause(pause, _ACT)
        return Done(e.UndoBackedOff(self._command.path, self._tried, now + pause, error, self._log))

    def not_run(self, error: Exception) -> Done:
        """Takes a failure to even begin, such as a compensator that the code no longer has."""
        return Done(e.UndoFailed(self._command.path, describe(error), self._log))
