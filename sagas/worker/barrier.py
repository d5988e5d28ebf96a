"""The barrier with memory: what a participant does with a request, by what it remembers. Pure.

The idea is DTM's (``client/dtmcli/barrier.go``): rows in the participant's own database, which both an action and its
undo have to write, so that whoever comes second knows of the first. Beyond that, this one remembers replies, tells a
key that comes with another request, and knows actions that may have acted without saying so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from sagas.errors import KeyReused
from sagas.transport.port import StepReply, StepRequest

__all__ = ["Admission", "Entry", "Memory", "admit", "known_of", "settle"]

State = Literal["begun", "open", "done", "fenced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is remembered of an action or an undo.

    | State | An action | An undo |
    |---|---|---|
    | ``begun`` | is at work, if it has an owner that is alive; else it may have acted | the same |
    | ``open`` | was attempted, and did not act | failed, and is tried again |
    | ``done`` | has its reply for good | has undone, or had nothing to undo |
    | ``fenced`` | never acted, or may have, and is undone; it never will again | - |

    Attributes:
        about: Idempotency key of the action.
        kind: Which of the two it is.
        step: Name of the step.
        fingerprint: Of the first request; empty for an action that never came.
        state: See above.
        reply: What every duplicate gets, once it is ``done``.
        owner: The process that is at work on it, or ``""``.
    """

    about: str
    kind: Literal["action", "undo"]
    step: str
    fingerprint: bytes
    state: State
    reply: StepReply | None = None
    owner: str = ""


# What is known about an action, by kind of entry.
Memory = Mapping[str, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What to do with a request.

    Attributes:
        reply: The answer; ``None``: perform it.
        doubt: Whether an earlier attempt may have acted.
        entries: What to remember first.
    """

    reply: StepReply | None = None
    doubt: bool = False
    entries: tuple[Entry, ...] = ()


def admit(request: StepRequest, memory: Memory, *, owner: str, alive: Callable[[str], bool]) -> Admission:
    """Decides what to do with an action or an undo.

    Args:
        request: The action or undo.
        memory: What is known.
        owner: Who would perform it.
        alive: Says whether another process, or this one, is still at work.

    Raises:
        KeyReused: The key came with another request.
    """
    known = memory.get(request.kind)
    other_step = any(entry.step != request.step for entry in memory.values())
    if other_step or (known is not None and known.fingerprint not in {b"", request.fingerprint()}):
        raise KeyReused(request.idempotency_key, request.step)
    if known is not None and known.state == "done":
        assert known.reply is not None, "what is done has its reply"
        return Admission(reply=known.reply)
    if known is not None and known.state == "begun" and known.owner and alive(known.owner):
        return Admission(reply=StepReply.running())
    return (_admit_action if request.kind == "action" else _admit_undo)(request, memory, owner, alive)


def _entry(request: StepRequest, state: State, *, reply: StepReply | None = None, owner: str = "") -> Entry:
    """Makes what is remembered of a request."""
    return Entry(
        about=request.action_key, kind="undo" if request.kind == "undo" else "action", step=request.step,
        fingerprint=request.fingerprint(), state=state, reply=reply, owner=owner,
    )  # fmt: skip


def _admit_action(request: StepRequest, memory: Memory, owner: str, _: Callable[[str], bool]) -> Admission:
    """Decides about an action that has no reply yet and is not at work."""
    known = memory.get("action")
    if known is not None and known.state == "fenced":
        return Admission(reply=StepReply.fenced())
    doubt = known is not None and known.state == "begun"
    return Admission(doubt=doubt, entries=(_entry(request, "begun", owner=owner),))


def _admit_undo(request: StepRequest, memory: Memory, owner: str, alive: Callable[[str], bool]) -> Admission:
    """Decides about an undo that is not done yet and is not at work."""
    action = memory.get("action")
    if action is not None and action.state == "begun" and action.owner and alive(action.owner):
        return Admission(reply=StepReply.running())
    mine = _entry(request, "begun", owner=owner)
    if "undo" in memory:  # an earlier attempt has seen to the action
        return Admission(doubt=True, entries=(mine,))
    may_have_acted = action is not None and (
        action.state == "begun" or (action.reply is not None and action.reply.outcome == "succeeded")
    )
    if may_have_acted:
        assert action is not None, "else it cannot have acted"
        away = () if action.state == "done" else (replace(action, state="fenced", owner=""),)
        return Admission(entries=(*away, mine))
    kept_away = Entry(
        about=request.action_key, kind="action", step=request.step, fingerprint=b"" if action is None else
        action.fingerprint, state="fenced",
    )  # fmt: skip
    away = () if action is not None and action.state in {"done", "fenced"} else (kept_away,)
    done = StepReply.succeeded()
    return Admission(reply=done, entries=(*away, replace(mine, state="done", reply=done, owner="")))


def settle(request: StepRequest, reply: StepReply, *, doubt: bool) -> tuple[StepReply, Entry]:
    """Says what to answer and to remember after an attempt.

    Args:
        request: The action or undo that was performed.
        reply: How it went.
        doubt: Whether an earlier attempt may have acted.
    """
    if reply.outcome == "succeeded":
        return reply, _entry(request, "done", reply=reply)
    if request.kind == "undo":
        return reply, _entry(request, "open")
    if reply.outcome == "rejected" and not doubt:
        return reply, _entry(request, "done", reply=reply)
    if reply.outcome == "failed" and not doubt:
        return reply, _entry(request, "open")
    # An earlier attempt may have acted, whatever this one says.
    return replace(reply, outcome="in_doubt"), _entry(request, "begun")


def known_of(memory: Memory, *, alive: Callable[[str], bool]) -> StepReply | None:
    """Answers a probe from memory alone; ``None`` if the action may have acted, and only the step itself can tell."""
    action = memory.get("action")
    if action is None or action.state == "open":
        return StepReply.not_applied()
    if action.state == "done":
        assert action.reply is not None, "what is done has its reply"
        return action.reply if action.reply.outcome == "succeeded" else StepReply.not_applied()
    if action.state == "begun" and action.owner and alive(action.owner):
        return StepReply.running()
    return None if action.state == "begun" or "undo" in memory else StepReply.not_applied()
