"""One action and its undo at a barrier, and the laws: everything that can come in, in any order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sagas.core.events import ErrorInfo
from sagas.errors import KeyReused
from sagas.transport import StepReply, StepRequest
from sagas.worker import barrier
from sagas.worker.barrier import Entry

__all__ = ["LawBroken", "World", "explore"]

ACTION = StepRequest(kind="action", step="charge", saga_id="s", path="1", idempotency_key="k", arguments=b'{"x":1}')
OTHER = StepRequest(kind="action", step="charge", saga_id="s", path="1", idempotency_key="k", arguments=b'{"x":2}')
ELSEWHERE = StepRequest(kind="action", step="ship", saga_id="s", path="1", idempotency_key="k", arguments=b'{"x":1}')
UNDO = StepRequest(kind="undo", step="charge", saga_id="s", path="1", idempotency_key="u", undoes="k")
OTHER_UNDO = replace(UNDO, result=b"2")
UNDO_ELSEWHERE = StepRequest(kind="undo", step="ship", saga_id="s", path="1", idempotency_key="u", undoes="k")

_ERROR = ErrorInfo("builtins.OSError", "reset")


class LawBroken(AssertionError):
    """A law, and what was done when it was broken."""


@dataclass(slots=True)
class World:
    """What a participant does that has no database: one process, which may die and be another one then.

    Attributes:
        memory: What the barrier remembers.
        replies: Definite replies to the action.
        calls: How often the action was called.
        may: How many calls may have acted, as far as anybody who asked can know.
        acted: How many did.
        undoing: How often the undo was begun.
        undone: Whether it has succeeded, after whatever had acted.
        told: Whether an undo was answered by ``succeeded``.
        working: What is at work.
        process: Which process is alive.
    """

    memory: dict[str, Entry] = field(default_factory=dict[str, Entry])
    replies: list[StepReply] = field(default_factory=list[StepReply])
    calls: int = 0
    may: int = 0
    acted: int = 0
    undoing: int = 0
    undone: bool = False
    told: bool = False
    working: tuple[StepRequest, bool] | None = None
    process: int = 0
    first: StepRequest | None = None
    first_undo: StepRequest | None = None

    def alive(self, owner: str) -> bool:
        return owner == str(self.process)

    def law(self, holds: bool, name: str) -> None:
        if not holds:
            raise LawBroken(name)

    # --- requests -----------------------------------------------------------------------------------------------

    def ask(self, request: StepRequest) -> bool:
        """Has a request come in; says whether it is at work now."""
        before = dict(self.memory)
        try:
            admission = barrier.admit(request, self.memory, owner=str(self.process), alive=self.alive)
        except KeyReused:
            self.law(self._differs(request), "only another request is refused")
            self.law(before == self.memory, "nothing is done for a refused request")
            return False
        self.memory |= {entry.kind: entry for entry in admission.entries}
        if admission.reply is None or admission.reply.outcome not in ("running", "fenced"):
            self.law(not self._differs(request), "a key that comes with another request is refused")
        if request.kind == "undo":
            if admission.reply is None or admission.reply.outcome != "running":
                self.first_undo = self.first_undo or request
            return self._ask_undo(request, admission)
        return self._ask_action(request, admission)

    def _differs(self, request: StepRequest) -> bool:
        known = self.first_undo if request.kind == "undo" else self.first
        steps = {x.step for x in (self.first, self.first_undo) if x is not None}
        return bool(steps - {request.step}) or (
            known is not None and known.fingerprint() != request.fingerprint()
        )  # fmt: skip

    def _ask_action(self, request: StepRequest, admission: barrier.Admission) -> bool:
        reply = admission.reply
        if reply is None:
            self.law(self.working is None, "an action and its undo are never at work at the same time")
            self.law(not self.told and not self.undoing, "a late action never acts after its undo")
            self.law(not self.replies, "a duplicate is not performed")
            self.law(admission.doubt or not self.may, "an attempt knows of the doubt that an earlier one has left")
            self.first = self.first or request
            self.calls += 1
            self.working = (request, admission.doubt)
            return True
        self._answer_action(reply)
        return False

    def _answer_action(self, reply: StepReply) -> None:
        """Checks an answer to an action."""
        if reply.outcome == "running":
            self.law(self.working is not None, "only what is at work is called running")
        elif reply.outcome == "fenced":
            self.law(bool(self.told or self.undoing), "only what is undone is fenced")
            self.law(not self.replies, "duplicates get the first result")
        elif reply.outcome in ("succeeded", "rejected"):
            self.law(all(reply == other for other in self.replies), "duplicates get the first result")
            self.law(reply.outcome != "rejected" or not self.may, "what may have acted is not rejected")
            self.replies = [reply]
        elif reply.outcome == "failed":
            self.law(not self.may, "what may have acted is not called failed")

    def _ask_undo(self, request: StepRequest, admission: barrier.Admission) -> bool:
        reply = admission.reply
        if reply is None:
            self.law(self.working is None, "an action and its undo are never at work at the same time")
            self.law(not self.told, "an undo that is done is not done again")
            self.law(self.may > 0, "an undo of what did not act does nothing")
            self.undoing += 1
            self.working = (request, admission.doubt)
            return True
        if reply.outcome == "running":
            self.law(self.working is not None, "only what is at work is called running")
            return False
        self._answer_undo(reply)
        return False

    def _answer_undo(self, reply: StepReply) -> None:
        if reply.outcome == "succeeded":
            self.law(self.undone or not self.may, "nothing is called undone that was not")
            self.law(self.working is None, "an undo is not called done while its action is at work")
            self.told = True

    # --- ends ---------------------------------------------------------------------------------------------------

    def end(self, how: str) -> None:
        """Ends what is at work: ``ok``, ``rejected``, ``failed``, ``doubt+`` or ``-``, ``die+`` or ``die-``."""
        if self.working is None:
            return
        request, doubt = self.working
        self.working = None
        acts = how in ("ok", "doubt+", "die+")
        if request.kind == "undo":
            self.undone = self.undone or acts
        else:
            self.acted += acts
            self.may += how not in ("rejected", "failed")
        if how.startswith("die"):
            self.process += 1
            return
        if request.kind == "undo" and how in ("rejected", "failed"):
            how = "doubt-"  # a compensator's errors say nothing
        reply = {
            "ok": StepReply.succeeded(str(self.calls).encode()),
            "rejected": StepReply.rejected(ErrorInfo("shop.Declined", str(self.calls), b"{}")),
            "failed": StepReply.failed(_ERROR),
        }.get(how, StepReply.in_doubt(_ERROR))
        reply, entry = barrier.settle(request, reply, doubt=doubt)
        self.law(entry.kind == request.kind, "what is remembered is what ended")
        self.memory[entry.kind] = entry
        (self._answer_undo if request.kind == "undo" else self._answer_action)(reply)

    def probe(self) -> None:
        found = barrier.known_of(self.memory, alive=self.alive)
        if found is None:
            self.law(self.working is None or self.working[0].kind == "undo", "what is at work is called running")
            return
        if found.outcome == "running":
            self.law(self.working is not None, "only what is at work is called running")
        elif found.outcome == "not_applied":
            self.law(self.working is None or self.working[0].kind == "undo", "what is at work is called running")
            self.law(not self.may or self.undone, "what may have acted is not called not applied")
        else:
            self.law(self.acted > 0 and found in self.replies, "a probe finds what succeeded")


def _performed(request: StepRequest, how: str) -> Callable[[World], None]:
    """A request that ends at once, if it is performed."""

    def event(world: World) -> None:
        if world.ask(request):
            world.end(how)

    return event


def _begun(request: StepRequest) -> Callable[[World], None]:
    """A request that stays at work, if it is performed."""

    def event(world: World) -> None:
        world.ask(request)

    return event


def _ended(how: str) -> Callable[[World], None]:
    """The end of what is at work."""
    return lambda world: world.end(how)


_ENDS = ("ok", "rejected", "failed", "doubt+", "doubt-", "die+", "die-")
EVENTS: dict[str, Callable[[World], None]] = {
    **{f"act {how}": _performed(ACTION, how) for how in _ENDS},
    **{f"undo {how}": _performed(UNDO, how) for how in ("ok", "doubt-", "die+", "die-")},
    "act": _begun(ACTION),
    "undo": _begun(UNDO),
    **{f"end {how}": _ended(how) for how in ("ok", "rejected", "doubt+", "die+", "die-")},
    "probe": World.probe,
    "act otherwise": _performed(OTHER, "ok"),
    "undo otherwise": _performed(OTHER_UNDO, "ok"),
    "act as another step": _performed(ELSEWHERE, "ok"),
    "undo as another step": _performed(UNDO_ELSEWHERE, "ok"),
}


def explore(length: int) -> tuple[str, tuple[str, ...]] | None:
    """Goes through all that can come in, shortest first; worlds that are alike go on as one.

    Returns:
        The first law that is broken, and by what; ``None`` if none is.
    """
    worlds: list[tuple[World, tuple[str, ...]]] = [(World(), ())]
    seen: set[str] = set()
    for _ in range(length):
        further: list[tuple[World, tuple[str, ...]]] = []
        for before, names in worlds:
            for name, event in EVENTS.items():
                world = replace(before, memory=dict(before.memory), replies=list(before.replies))
                try:
                    event(world)
                except LawBroken as broken:
                    return str(broken), (*names, name)
                if (likeness := repr(world)) not in seen:
                    seen.add(likeness)
                    further.append((world, (*names, name)))
        worlds = further
    return None
