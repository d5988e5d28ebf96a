"""What can go wrong in a simulated run, and where."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sagas.core.definitions import Probe, Step
from sagas.errors import RequestError

if TYPE_CHECKING:
    from typing import Any

    from sagas.core.definitions import Compensator

__all__ = ["COMMIT", "KINDS", "SIGNAL", "START", "Fault", "is_transactional", "options_of"]

# Every kind of fault, and what the story of a run says about it.
KINDS: dict[str, str] = {
    "rejected": "it is refused before anything happens",
    "error": "the request is lost before anything happens",
    "lost reply": "it takes effect, and its reply is lost",
    "down": "from now on every request is lost before anything happens, until an operator repairs it",
    "mute": "from now on it takes effect each time, and every reply is lost, until an operator repairs it",
    "hangs": "it does nothing and never answers, so that its timeout passes",
    "late reply": "it takes effect and never answers, so that its timeout passes",
    "twice": "the request is delivered twice",
    "slow": "it takes so long that what runs beside it is done before",
    "crash before": "the process is killed before it",
    "crash after": "the process is killed after it, before it could note that",
    "part": "the process is killed when only some of the records are written",
    "unavailable": "the database is away; nothing is written",
    "doubtful": "the records are written, and the connection is lost before the database could say so",
    "pause before": "the process is frozen before it, taken for dead, and thawed when another has taken over",
    "pause after": "the process is frozen after it, taken for dead, and thawed when another has taken over",
    "long pause": "the process is frozen after it, taken for dead, and thawed when all is over",
    "late": "the connection is lost, and the request arrives only when all is over",
    "cancel": "somebody cancels the saga meanwhile",
    "restart": "the process is asked to stop meanwhile, and another one started",
    "deploy": "the process is asked to stop meanwhile, and one with the other code started",
    "clock back": "somebody sets the clock back by an hour",
    "clock ahead": "somebody sets the clock ahead by an hour",
    "another": "somebody else asks for a saga with another input, and the same id",
    "early": "it is sent before the saga waits for it",
    "never": "it is never sent",
    "overdue": "it is sent only after the next timeout",
}  # fmt: skip

_ANY_CALL = ("error", "lost reply", "down", "mute", "twice", "crash before", "crash after", "pause after", "long pause")
_MEANWHILE = ("cancel", "restart")
_TIMED = ("hangs", "late reply")
_PROBE = ("error", "down", "crash before", "crash after")
COMMIT = (
    "crash before", "crash after", "part", "unavailable", "doubtful", "pause before", "pause after", "long pause",
    "cancel", "restart", "clock back", "clock ahead",
)  # fmt: skip
SIGNAL = ("early", "twice", "never", "overdue")
START = ("twice", "another")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        what: Its kind; one of ``KINDS``.
        at: Where: the name of a step, ``"undo of STEP"``, ``"probe of STEP"``, ``"commit"`` (a group of journal
            records on its way to the disk), ``"signal NAME"``, or ``"start"``.
        nth: At which visit of that place, from 1.

    Raises:
        RequestError: There is no such kind.
    """

    what: str
    at: str
    nth: int = 1

    def __post_init__(self) -> None:
        if self.what not in KINDS:
            raise RequestError(f"there is no fault {self.what!r}; there are: {', '.join(KINDS)}")
        if self.nth < 1:
            raise RequestError(f"{self.at} is visited for the first time with nth=1, not {self.nth}")

    def __repr__(self) -> str:
        nth = "" if self.nth == 1 else f", nth={self.nth}"
        return f"Fault({self.what!r}, at={self.at!r}{nth})"


@lru_cache(maxsize=512)
def options_of(
    target: Step[..., Any] | Compensator | Probe, *, late: bool = False, deploys: bool = False
) -> tuple[str, ...]:
    """Lists the kinds of faults that can happen to a function.

    Args:
        target: A step, a compensator or a probe.
        late: Whether a request may arrive when its saga is over. Only a participant with an inbox, or a transaction,
            can fend that off.
        deploys: Whether there is other code to deploy.
    """
    if isinstance(target, Probe):
        return _PROBE
    timed = target.options.timeout or target.options.total_timeout if isinstance(target, Step) else target.timeout
    options = (*_ANY_CALL, *(_TIMED if timed else ()), *_MEANWHILE, *(("deploy",) if deploys else ()))
    if isinstance(target, Step):
        without = _NOT_ATOMIC if target.options.atomic else ()
        options = ("rejected", *(x for x in options if x not in without), "slow")
    if is_transactional(target):
        return tuple(x for x in options if x not in _UNTRANSACTIONAL)
    return (*options, "late") if late else options


def is_transactional(target: Step[..., Any] | Compensator) -> bool:
    """Says whether what a step or a compensator writes and the record of that are one commit."""
    return target.options.transactional if isinstance(target, Step) else target.transactional


# A step that raises only if nothing happened does not lose its reply.
_NOT_ATOMIC = frozenset({"lost reply", "mute", "late reply"})
# What a transaction cannot meet: its effect and its record are one commit.
_UNTRANSACTIONAL = frozenset(
    {"lost reply", "mute", "late reply", "twice", "slow", "crash after", "pause after", "long pause"}
)
