"""The laws of the design, each as a check of what a journal says; none asks the core about order or outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import orjson

from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.execution import Execution
from sagas.core.transitions import SagaState
from sagas.errors import IllegalTransition
from tests.core.host import Host, Story
from tests.core.lock_laws import LOCK_LAWS
from tests.core.plans import Plan, later_than, steps_in, subplans, walk
from tests.core.timeline import LawBroken, Moment, hold, timeline

__all__ = ["run", "snapshot"]

_PIVOTS = ("commit", "settle")
_COMPENSATED = ("reserve", "settle")


def snapshot(execution: Execution) -> dict[str, Any]:
    """Everything that a host can see of a saga."""
    return {
        "state": execution.state,
        "at": execution.at,
        "steps": {
            x.path: (x.name, x.state, x.arguments, x.result, x.tried, x.doubt, x.final, x.span)
            for x in execution.steps.values()
        },
        "open": {
            path: replace(command, redelivered=False) if isinstance(command, c.RunStep) else
            (command if isinstance(command, c.RunUndo) else path)
            for path, command in execution.open.items()
        },
        "timers": dict(execution.timers),
        "halted": dict(execution.halted),
        "cause": None if execution.cause is None else (execution.cause.type, execution.cause.message),
        "result": execution.result,
        "unread": execution.unread_signals(),
        "awaited": execution.awaited_signals(),
        "locks": {
            name: (lock.path, lock.granted, lock.kept, len(lock.blocks), [x.path for x in lock.waits])
            for name, lock in (execution.tickets or {}).items()
        },
        "can cancel": execution.can_cancel(),
        "submitted": execution.submitted,
    }  # fmt: skip


# --- laws about one finished run ------------------------------------------------------------------------------------


def _may_have_acted(moments: list[Moment], plan: Plan) -> Iterator[tuple[Moment, set[int]]]:
    """Walks the moments with the steps that, just after each, may have acted, are not final, and are to be undone."""
    names = {x[1]: x[2] for x in steps_in(plan)}
    alive: set[int] = set()
    asked: set[int] = set()
    final: set[int] = set()
    for moment in moments:
        tag = moment.tag
        if moment.what == "asked":
            asked.add(tag)
        elif moment.what in ("acted", "doubt") and names[tag] in _COMPENSATED and tag not in final:
            alive.add(tag)
        elif moment.what in ("rejected", "undone"):
            alive.discard(tag)
        if moment.what == "acted" and names[tag] in _PIVOTS:
            final |= asked
            alive -= final
        yield moment, alive


def _law_reverse_order(host: Host, moments: list[Moment]) -> None:
    """2: the undo of a step starts only when everything after it is undone."""
    later = later_than(host.story.plan)
    running: set[int] = set()
    for moment, alive in _may_have_acted(moments, host.story.plan):
        if moment.what == "asked":
            running.add(moment.tag)
        elif moment.what in ("acted", "rejected", "doubt", "paused", "parked"):
            running.discard(moment.tag)
        if moment.what == "undo":
            hold("undo in reverse causal order", not (later[moment.tag] & (alive | running)), moment)


def _law_everything_undone(host: Host, moments: list[Moment]) -> None:
    """2, 5: compensated means that every step that may have acted is undone, and only such a step ever is."""
    alive: set[int] = set()
    acted: set[int] = set()
    for moment, left in _may_have_acted(moments, host.story.plan):
        # What a pivot made final may be on its way back already, if it ran beside the pivot.
        if moment.what == "undo":
            hold("only what may have acted is undone", moment.tag in acted, moment)
        elif moment.what in ("acted", "doubt"):
            acted.add(moment.tag)
        elif moment.what in ("rejected", "undone"):
            acted.discard(moment.tag)
        alive = set(left)
    if host.execution.state is SagaState.COMPENSATED:
        hold("every step that may have acted is undone", not alive, alive)


def _law_irrevocable_doubt(host: Host, moments: list[Moment]) -> None:
    """5: nothing is called compensated that was not: a pivot without a compensator may not be left in doubt."""
    names = {x[1]: x[2] for x in steps_in(host.story.plan)}
    last = {m.tag: m.what for m in moments if names[m.tag] == "commit" and m.what in ("acted", "rejected", "doubt")}
    if host.execution.state is SagaState.COMPENSATED:
        hold("no irrevocable step is left in doubt", "doubt" not in last.values(), last)


def _law_pivot(host: Host, moments: list[Moment]) -> None:
    """Nothing before a succeeded pivot is undone, and the saga only goes forward."""
    names = {x[1]: x[2] for x in steps_in(host.story.plan)}
    later = later_than(host.story.plan)
    pivoted: set[int] = set()
    for moment in moments:
        if moment.what == "acted" and names[moment.tag] in _PIVOTS:
            pivoted.add(moment.tag)
        elif moment.what == "undo":
            hold("nothing before a pivot is undone", not (later[moment.tag] & pivoted), moment)
    if pivoted:
        hold("a pivoted saga goes forward", host.execution.state is not SagaState.COMPENSATED)


def _plain(plan: Plan) -> bool:
    return plan[0] in ("do", "seq", "gather", "sleep", "draw") and all(_plain(x) for x in subplans(plan))


def _law_siblings(host: Host, moments: list[Moment]) -> None:
    """3: after a failure in a gather nothing new starts in it."""
    for group in walk(host.story.plan):
        if group[0] != "gather" or not _plain(group):
            continue
        # A pivot that cannot be taken back is asked for again, because its outcome is needed.
        tags = {x[1] for x in steps_in(group) if x[2] != "commit"}
        # The failure of a gather within reaches this one only when everything in flight there has ended.
        direct = {x[1] for x in _in_sequence(group[1:])}
        failed = False
        for moment in moments:
            if moment.tag in tags and moment.what == "asked":
                hold("no new step in the siblings of a failure", not failed, moment)
            # A backed-off step also reads as doubt, and has not failed.
            if moment.tag in direct and moment.what in ("rejected", "doubt"):
                failed = failed or _ends_for_good(host, moment)


def _in_sequence(plans: list[Plan]) -> Iterator[Plan]:
    for plan in plans:
        if plan[0] == "do":
            yield plan
        elif plan[0] == "seq":
            yield from _in_sequence(plan[1:])


def _ends_for_good(host: Host, moment: Moment) -> bool:
    record = host.journal.records()[moment.seq]
    if isinstance(record.event, e.StepBackedOff):
        return False
    return not any(isinstance(x, c.Halt) for x in record.commands)


def _law_scope(host: Host, moments: list[Moment]) -> None:
    """What ran in a failed scope or child saga is undone before the body goes on."""
    if host.execution.state is not SagaState.COMPLETED or host.execution.result is None:
        return
    alive: set[int] = set()
    for _, left in _may_have_acted(moments, host.story.plan):
        alive = set(left)
    caught = {x[1] for x in orjson.loads(host.execution.result) if isinstance(x, list) and x[:1] == ["caught"]}
    for plan in walk(host.story.plan):
        if plan[0] == "try" and plan[1] in caught and plan[2][0] in ("scope", "child", "hurried"):
            inside = {x[1] for x in steps_in(plan[2])}
            hold("a failed scope is undone", not (inside & alive), (plan, alive))


def _law_all_or_nothing(host: Host, moments: list[Moment]) -> None:
    """A scope or child saga in a completed saga ran to its end or is undone, also if a sibling's failure ended it."""
    if host.execution.state is not SagaState.COMPLETED:
        return
    alive: set[int] = set()
    for _, left in _may_have_acted(moments, host.story.plan):
        alive = set(left)
    acted = {m.tag for m in moments if m.what == "acted"}
    for plan in walk(host.story.plan):
        if plan[0] in ("scope", "child") and subplans(plan)[0][0] == "do":
            continue
        if plan[0] in ("scope", "child") and all(x[0] in ("seq", "do") for x in walk(plan[1])):
            inside = {x[1] for x in steps_in(plan)}
            hold("a scope is done or undone", inside <= acted or not (inside & alive), (plan, alive))


def _law_race(host: Host, moments: list[Moment]) -> None:
    """What the losers of a race did is undone."""
    if host.execution.state is not SagaState.COMPLETED:
        return
    alive: set[int] = set()
    for _, left in _may_have_acted(moments, host.story.plan):
        alive = set(left)
    for plan in walk(host.story.plan):
        if plan[0] == "race":
            acting = [x for x in subplans(plan) if alive & {y[1] for y in steps_in(x)}]
            hold("the losers of a race are undone", len(acting) <= 1, (acting, alive))


def _law_cancel(host: Host, moments: list[Moment]) -> None:
    """6: cancelling compensates, unless a pivot in flight succeeds."""
    names = {x[1]: x[2] for x in steps_in(host.story.plan)}
    pivoted = any(m.what == "acted" and names[m.tag] in _PIVOTS for m in moments)
    if not pivoted and any(row.kind == "CancelRequested" for row in host.journal.rows):
        hold("a cancelled saga does not complete", host.execution.state is not SagaState.COMPLETED)


def _law_signals(host: Host, _: list[Moment]) -> None:
    """A signal is received once."""
    if host.execution.result is None:
        return
    received: list[int] = []

    def collect(log: list[Any]) -> None:
        for item in log:
            if item[:1] == ["received"]:
                received.append(item[1])
            elif item and isinstance(item[0], list):
                collect(item)

    collect(orjson.loads(host.execution.result))
    hold("a signal is received once", len(received) == len(set(received)), received)


def _law_keys(host: Host, _: list[Moment]) -> None:
    """7: a step is repeated only under the same idempotency key."""
    hold("one key a step", all(len(keys) == 1 for keys in host.ledger.begun.values()), host.ledger.begun)


def _law_end(host: Host, _: list[Moment]) -> None:
    """1: it ends completed, compensated or stuck; what ended takes no fact any more."""
    state = host.execution.state
    hold("a saga ends", state.ended or state.stuck, state)
    if not state.ended:
        return
    before = snapshot(host.execution)
    ends: tuple[e.Event, ...] = (e.CancelRequested("late"), e.SignalReceived("go", b"1"), e.TimerFired(""))
    for event in (*ends, *(e.StepSucceeded(path, b"1") for path in host.execution.steps)):
        try:
            host.execution.apply(event, host.execution.at + 1)
        except IllegalTransition:
            hold("an end is final", snapshot(host.execution) == before, event)
        else:
            raise LawBroken("an end is final", event)


_LAWS: tuple[Callable[[Host, list[Moment]], None], ...] = (
    _law_reverse_order, _law_everything_undone, _law_irrevocable_doubt, _law_pivot, _law_siblings, _law_scope,
    _law_all_or_nothing, _law_race, _law_cancel, _law_signals, _law_keys, _law_end,
)  # fmt: skip


def _move(host: Host) -> bool:
    try:
        return host.move()
    except IllegalTransition as error:
        raise LawBroken("what can happen is legal", error) from error


def run(story: Story, *, keep: Callable[[Host], None] = lambda _: None) -> Host:
    """Runs a script to its end, and holds the run against every law.

    Args:
        story: The script.
        keep: Called after every record.

    Raises:
        LawBroken: One does not hold.
    """
    host = Host(story)
    with closing(host):
        keep(host)
        while _move(host):
            keep(host)
            hold("a saga ends", len(host.journal.rows) < 500, "500 records")
        moments = timeline(host.journal.records())
        for law in _LAWS:
            law(host, moments)
        for lock_law in LOCK_LAWS:
            lock_law(host)
    return host
