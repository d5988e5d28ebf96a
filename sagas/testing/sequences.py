"""Sequences of calls of steps, and what has to hold after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sagas.testing.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Callable

    from sagas.core.definitions import Step
    from sagas.core.operations import StepCall
    from sagas.testing.bench import Outcome

__all__ = [
    "Case",
    "Seen",
    "act_twice",
    "cases_of",
    "in_both_orders",
    "play",
    "probe_around",
]

_REMEMBER = (
    "Have whoever does the work remember the key under which it acted, current_step().idempotency_key, and have the "
    "compensator take back just what was done under the key it undoes, current_step().undoes."
)


class Case(NamedTuple):
    """A sequence of calls after which the view has to be as before.

    Attributes:
        law: What holds then.
        moves: ``act``, ``lose`` (act, and lose the reply), ``undo``, ``undo blindly`` (without a result) or ``late``.
        remedy: What to do if it does not.
    """

    law: str
    moves: tuple[str, ...]
    remedy: str


CASES = (
    Case(
        "undone is as if it had never been",
        ("act", "undo"),
        "The compensator has to take back everything that the step does. What it needs to know for that can be among "
        "the step's arguments or in its result, or be kept under its key, current_step().undoes.",
    ),
    Case(
        "what was delivered twice is undone as once",
        ("act", "act", "undo"),
        "An attempt is repeated if its reply is lost. " + _REMEMBER,
    ),
    Case(
        "undone twice is undone once",
        ("act", "undo", "undo"),
        "A compensator is run again if its process dies before that is written down. " + _REMEMBER,
    ),
    Case(
        "an undo without an action does nothing",
        ("undo blindly",),
        "A step in doubt is undone although its request may never have arrived. " + _REMEMBER,
    ),
    Case(
        "in doubt, it is undone without its result",
        ("lose", "undo blindly"),
        "If the reply is lost the compensator gets result=None, and the effect is there all the same. " + _REMEMBER,
    ),
    Case(
        "in doubt, undone twice is undone once",
        ("lose", "undo blindly", "undo blindly"),
        "A compensator is run again if its process dies before that is written down. " + _REMEMBER,
    ),
)
_FENCE = (
    "A request may still be on its way when its step is undone. Have the compensator leave a note of the key that it "
    "undoes, current_step().undoes, and the step do nothing if there is one for its own key."
)
LATE_CASES = (
    Case("an action that comes after its undo does nothing", ("undo blindly", "late"), _FENCE),
    Case("a duplicate that comes after the undo does nothing", ("act", "undo", "late"), _FENCE),
)


def cases_of(step: Step[..., Any], *, late: bool) -> tuple[Case, ...]:
    """Lists what a step and its undo can meet.

    Args:
        step: The step.
        late: Whether an action may come after its undo.
    """
    cases = (*CASES, *(LATE_CASES if late else ()))
    if step.options.transactional:  # it is never called twice, and never in doubt
        cases = tuple(x for x in CASES if "undo" in x.moves and x.moves.count("act") == 1)
    if step.undo is not None and step.undo.transactional:  # it never undoes twice
        cases = tuple(x for x in cases if sum(move.startswith("undo") for move in x.moves) == 1)
    return cases


class Seen:
    """What happened in any of the examples, so that an assertion that tried nothing does not pass."""

    def __init__(self) -> None:
        self.acted = self.shown = False
        self.error: BaseException | None = None

    def add(self, bench: Bench, outcome: Outcome) -> None:
        """Notes an action that has just been called for the first time."""
        self.acted |= outcome.kind == "acted"
        self.shown |= bench.lines[-1].held != bench.lines[-2].held
        self.error = outcome.error or self.error

    def check(self, step: Step[..., Any], *, visible: bool = True) -> None:
        """Makes sure that something was tried.

        Raises:
            AssertionError: Nothing was.
        """
        __tracebackhide__ = True
        if not self.acted:
            raise AssertionError(
                f"{step.where} never succeeded, so nothing is known: give inputs= with which it does. It raised: "
                f"{type(self.error).__name__}: {self.error}"
            ) from self.error
        if visible and not self.shown:
            raise AssertionError(
                f"the view is the same before and after {step.where}, whatever the input, so nothing is known about "
                "its undo: have view= look at what the step changes, in the world that world= has made"
            )


def play(bench: Bench, call: StepCall[Any], case: Case, seen: Seen) -> None:
    """Plays a sequence of calls, and holds the view against what it was."""
    done: dict[str, int] = {}
    payload: bytes | None = None
    for move in case.moves:
        again = " again" if done.get(move) else ""
        done[move] = done.get(move, 0) + 1
        if move in ("act", "lose"):
            outcome = bench.act(call, how=again or (", its reply lost," if move == "lose" else ""))
            if not again:
                seen.add(bench, outcome)
            if outcome.kind == "refused" and not again:
                _expect_unchanged(bench, call, "a step that is refused has done nothing", _REFUSED)
                return
            if not again and move == "act":
                payload = outcome.payload
        elif move == "late":
            bench.act(call, how=" comes late, and")
        elif (error := bench.undo(call, payload if move == "undo" else None, how=again)) is not None:
            raise bench.broken(case.law, (call,), f"{case.remedy}", f"a compensator has to succeed: {error!r}")
    _expect_unchanged(bench, call, case.law, case.remedy)


_REFUSED = (
    "Rejected, a type in rejects= and, if atomic=True, any exception say that nothing happened, so that nothing is "
    "undone: raise it before the step changes anything, or raise another one."
)


def _expect_unchanged(bench: Bench, call: StepCall[Any], law: str, remedy: str) -> None:
    """Holds the view against what it was."""
    if bench.lines[-1].held != bench.before:
        raise bench.broken(law, (call,), remedy, f"it should hold {bench.before!r}, as before")


def act_twice(bench: Bench, call: StepCall[Any], seen: Seen, *, results: bool) -> None:
    """Acts twice under the same key."""
    one = bench.act(call)
    seen.add(bench, one)
    once = bench.lines[-1].held
    two = bench.act(call, how=" again")
    law = "done twice under one key is done once"
    remedy = (
        "An attempt is repeated if its reply is lost. Have whoever does the work remember the keys under which it has "
        "acted, current_step().idempotency_key, with the results, and give the first result again."
    )
    if bench.lines[-1].held != once:
        raise bench.broken(law, (call,), remedy, f"it should hold {once!r}, as after the first time")
    if one.kind != "acted" or not results:
        return
    if two.kind != "acted":
        raise bench.broken(law, (call,), remedy, "the first attempt succeeded, so this one has to")
    decode = call.step.result_schema.decode
    assert one.payload is not None, "it acted"
    assert two.payload is not None, "it acted"
    if decode(one.payload) != decode(two.payload):
        remark = f"it should give {decode(one.payload)!r}, as the first time"
        raise bench.broken(law, (call,), remedy + " If no saga minds, results=False leaves this out.", remark)


def probe_around(bench: Bench, call: StepCall[Any], seen: Seen) -> None:
    """Asks the probe before and after the action."""
    remedy = (
        "The probe is asked whether the attempt under this very key took effect, current_step().idempotency_key: have "
        "it look for what was done under that."
    )
    _ask(bench, call, "a probe says that nothing happened if nothing did", remedy, None)
    outcome = bench.act(call)
    seen.add(bench, outcome)
    if outcome.kind == "acted":
        _ask(bench, call, "a probe gives the result of what happened", remedy, outcome.payload)


def _ask(bench: Bench, call: StepCall[Any], law: str, remedy: str, payload: bytes | None) -> None:
    """Asks the probe, and holds what it says against what happened."""
    held = bench.lines[-1].held
    found = bench.ask(call)
    decode = call.step.result_schema.decode
    if found.error is not None:
        raise bench.broken(law, (call,), remedy, f"a probe has to give an answer: {found.error!r}")
    if bench.lines[-1].held != held:
        raise bench.broken("a probe only reads", (call,), "Take what changes something out of it.", f"it held {held!r}")
    if payload is None and found.payload is not None:
        raise bench.broken(law, (call,), remedy, "it should give NotApplied()")
    if payload is not None and (found.payload is None or decode(found.payload) != decode(payload)):
        raise bench.broken(law, (call,), remedy, f"it should give {decode(payload)!r}, as the step did")


def in_both_orders(
    make: Callable[[], Bench],
    calls: tuple[StepCall[Any], StepCall[Any]],
    seen: Seen,
    law: str,
    *,
    undo: str,
) -> None:
    """Does two things in either order, each on a world of its own, and compares these."""
    ends: list[object] = []
    for order in ((0, 1), (1, 0)):
        with make() as bench:
            outcomes: dict[int, Outcome] = {}
            for which in (0, 1) if undo else order:
                outcomes[which] = bench.act(calls[which], of=f"-{which}")
                seen.add(bench, outcomes[which])
            if not all(x.kind == "acted" for x in outcomes.values()):
                return
            for which in order if undo else ():
                payload = outcomes[which].payload if undo == "undo" else None
                error = bench.undo(calls[which], payload, of=f"-{which}")
                if error is not None:
                    remark = f"a compensator has to succeed: {error!r}"
                    raise bench.broken(law, calls, _APART, remark)
            ends.append(bench.lines[-1].held)
            if ends[-1] != ends[0]:
                remark = f"in the other order it holds {ends[0]!r}"
                raise bench.broken(law, calls, _APART, remark)


_APART = (
    "Steps that run side by side are undone side by side, in any order. Have each undo take back only its own part "
    "(add and subtract instead of setting a value back to what it was), or have the saga await one after the other."
)
