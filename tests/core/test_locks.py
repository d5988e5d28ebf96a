"""Locks: who holds one, for how long, and what becomes of those who wait."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from sagas import (
    Deadlock,
    IllegalTransition,
    LockTimeout,
    OutsideSaga,
    ReplayDiverged,
    Saga,
    gather,
    lock,
    race,
    saga,
    scope,
    step,
)
from sagas.core import commands as c
from sagas.core import events as e
from sagas.core.replay import abandon
from sagas.core.transitions import SagaState
from tests.core.fleet import Cast, casts, check_fleet
from tests.core.single import Run, act

FAILED = e.ErrorInfo("builtins:OSError", "broke")


@step(pivot=True)
def confirm() -> None: ...


def acted(path: str) -> e.StepSucceeded:
    return e.StepSucceeded(path, b'"x"')


def locking(commands: list[c.Command]) -> list[c.Command]:
    """Picks what is asked of whoever keeps the locks."""
    return [x for x in commands if isinstance(x, (c.TakeLock, c.FreeLock))]


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cast=casts())
def test_sagas_that_share_locks_keep_their_order_and_all_end(cast: Cast) -> None:
    """Whatever their bodies and their turns are, crashed together after any record."""
    check_fleet(cast)


# --- holding --------------------------------------------------------------------------------------------------------


@saga
async def guarded() -> str:
    async with lock("sku-1", timeout=5):
        await act("inside")
    return await act("after")


def test_a_saga_only_waits_while_another_one_holds_its_lock() -> None:
    """For a fact or for its timeout: no command is open."""
    run = Run(guarded)
    execution = run.execution
    assert list(run.records[0].commands) == [c.TakeLock("1", "sku-1"), c.StartTimer("1", 6.0)]
    assert execution.waiting
    assert (execution.locks, execution.awaited_locks()) == ({"sku-1": "1"}, ["sku-1"])
    assert execution.waits_for_lock("1")
    run.feed(e.LockGranted("1"))
    assert list(execution.open) == ["2"]
    assert not execution.timers
    assert (execution.locks, execution.awaited_locks()) == ({"sku-1": "1"}, [])


def test_a_lock_is_held_until_the_saga_has_ended() -> None:
    """It is left for the host to release with the last record, also when the saga is undone first."""
    run = Run(guarded)
    given = [*run.feed(e.LockGranted("1")), *run.feed(acted("2")), *run.feed(acted("3"))]
    assert locking(given) == []
    assert isinstance(given[-1], c.Complete)
    assert run.execution.locks == {"sku-1": "1"}

    run = Run(guarded)
    run.feed(e.LockGranted("1"))
    run.feed(acted("2"))
    given = [*run.feed(e.StepRejected("3", FAILED)), *run.feed(e.UndoSucceeded("2"))]
    assert locking(given) == []
    assert run.execution.state is SagaState.COMPENSATED
    assert run.execution.locks == {"sku-1": "1"}


def test_a_lock_of_a_block_is_released_on_leaving_it() -> None:
    """Before what follows is asked for; also when an exception leaves it."""

    @saga
    async def body() -> None:
        async with lock("a", hold="block"):
            await act("one")
        try:
            async with lock("a", hold="block"):
                await act("two")
        except Exception:  # noqa: S110 - the point is what follows
            pass
        await act("three")

    run = Run(body)
    run.feed(e.LockGranted("1"))
    assert run.feed(acted("2"))[:2] == [c.FreeLock("1", "a"), c.TakeLock("3", "a")]
    run.feed(e.LockGranted("3"))
    freed, asked = run.feed(e.StepRejected("4", FAILED))
    assert freed == c.FreeLock("3", "a")
    assert isinstance(asked, c.RunStep)
    assert run.execution.locks == {}
    run.execution.close()


def test_a_saga_that_holds_a_lock_gets_it_again_at_once() -> None:
    """Nobody is asked; it is released with the last block, or kept once it was wanted to the end."""

    @saga
    async def nested() -> None:
        async with lock("a", hold="block"):
            async with lock("a", hold="block"):
                await act("one")
            await act("two")

    run = Run(nested)
    run.feed(e.LockGranted("1"))
    assert locking(run.feed(acted("3"))) == []
    assert locking(run.feed(acted("4"))) == [c.FreeLock("1", "a")]

    @saga
    async def kept() -> None:
        async with lock("a", hold="block"), lock("a"):
            pass
        async with lock("a", hold="block"):
            await act()

    run = Run(kept)
    assert locking(run.feed(e.LockGranted("1"))) == []
    assert locking(run.feed(acted("4"))) == []
    assert run.execution.locks == {"a": "1"}


def test_a_child_saga_shares_the_locks_of_its_saga() -> None:
    """They are one saga, with one journal and one end."""

    @saga
    async def body() -> str:
        async with lock("sku-1"):
            return await guarded()

    run = Run(body)
    assert locking(run.feed(e.LockGranted("1"))) == []
    assert list(run.execution.open) == ["2.2"]
    run.execution.close()


def test_a_lock_taken_in_a_scope_that_fails_is_held_on() -> None:
    """What else depends on it is not known."""

    @saga
    async def body() -> None:
        try:
            async with scope(), lock("a"):
                await act()
                raise ValueError
        except ValueError:
            await act("after")

    run = Run(body)
    run.feed(e.LockGranted("1.1"))
    assert locking([*run.feed(acted("1.2")), *run.feed(e.UndoSucceeded("1.2"))]) == []
    assert run.execution.locks == {"a": "1.1"}
    run.execution.close()


# --- waiting --------------------------------------------------------------------------------------------------------


@saga
async def patient() -> str:
    try:
        async with lock("a", timeout=5):
            return await act("inside")
    except TimeoutError as error:
        return str(error)
    except Deadlock as error:
        return f"deadlock: {error}"


def test_waiting_for_a_lock_is_bounded() -> None:
    """It is raised in the body, the ticket is given back, and a late answer changes nothing."""
    run = Run(patient)
    assert locking(run.feed(e.TimerFired("1"), after=5)) == [c.FreeLock("1", "a")]
    assert run.result == "lock 'a' was not granted in time"
    assert not run.execution.waits_for_lock("1")
    for late in (e.LockGranted("1"), e.LockRefused("1", "x")):
        with pytest.raises(IllegalTransition, match="not waited for"):
            run.execution.apply(late, 99.0)


def test_a_refusal_is_raised_in_the_body() -> None:
    """Whoever refuses has forgotten the ticket already."""
    run = Run(patient)
    assert locking(run.feed(e.LockRefused("1", "b waits for a"))) == []
    assert run.result == "deadlock: b waits for a"
    assert run.execution.locks == {}


@pytest.mark.parametrize(
    ("answer", "cause"),
    [(e.LockRefused("2", "a circle"), "sagas.errors:Deadlock"), (e.TimerFired("2"), "sagas.errors:LockTimeout")],
)
def test_a_lock_that_is_not_granted_undoes_the_saga(answer: e.Event, cause: str) -> None:
    """Unless the body catches it."""

    @saga
    async def body() -> None:
        await act()
        async with lock("a", timeout=5):
            await act()

    run = Run(body)
    run.feed(acted("1"))
    run.feed(answer, after=5)
    run.feed(e.UndoSucceeded("1"))
    assert run.execution.state is SagaState.COMPENSATED
    assert run.execution.cause is not None
    assert run.execution.cause.type == cause


def test_branches_of_a_saga_wait_with_one_ticket() -> None:
    """One answer is for all of them; who waits no longer leaves it to the others."""

    async def branch(seconds: float) -> str:
        try:
            async with lock("a", timeout=seconds, hold="block"):
                return await act("inside")
        except LockTimeout:
            return "late"

    @saga
    async def body() -> list[str]:
        return list(await gather(branch(3), branch(9), branch(7)))

    run = Run(body)
    assert locking(list(run.records[0].commands)) == [c.TakeLock("1:0.1", "a")]
    assert locking(run.feed(e.TimerFired("1:0.1"), after=3)) == []
    assert run.execution.waits_for_lock("1:0.1")
    assert not run.execution.waits_for_lock("1:1.1"), "a ticket is named by the path that asked for it"
    run.feed(e.LockGranted("1:0.1"))
    assert sorted(run.execution.open) == ["1:1.2", "1:2.2"]
    assert locking(run.feed(acted("1:1.2"))) == []
    assert locking(run.feed(acted("1:2.2"))) == [c.FreeLock("1:0.1", "a")]
    assert run.result == ["late", "x", "x"]


def test_a_refusal_is_raised_in_every_branch_that_waits() -> None:
    """They share the ticket."""

    async def branch() -> str:
        try:
            async with lock("a"):
                return await act("inside")
        except Deadlock:
            return "deadlock"

    @saga
    async def body() -> list[str]:
        return list(await gather(branch(), branch()))

    run = Run(body)
    run.feed(e.LockRefused("1:0.1", "a circle"))
    assert run.result == ["deadlock", "deadlock"]
    assert not run.execution.timers


async def _enter() -> str:
    async with lock("a"):
        return await act("inside")


@saga
async def beside_a_failure() -> list[str]:
    return list(await gather(act("fails"), _enter()))


@saga
async def in_a_race() -> str:
    return await race(act("wins"), _enter())


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (beside_a_failure, e.StepRejected("1:0", FAILED)),
        (in_a_race, acted("1:0")),
        (patient, e.CancelRequested("changed my mind")),
    ],
    ids=["a sibling fails", "a race is lost", "cancelled"],
)
def test_a_branch_that_is_stopped_gives_its_ticket_back(body: Saga[[], Any], event: e.Event) -> None:
    """Else the lock would be granted to somebody who does not want it."""
    run = Run(body)
    path = run.execution.locks["a"]
    assert c.FreeLock(path, "a") in run.feed(event)
    assert run.execution.locks == {}
    assert not run.execution.timers


def test_a_block_that_is_cut_off_is_left_when_what_runs_in_it_has_ended() -> None:
    """The loser of a race holds its lock while its step is in flight, and no longer."""

    async def loser() -> str:
        async with lock("a", hold="block"):
            return await act("slow")

    @saga
    async def body() -> str:
        await race(loser(), act("quick"))
        return await act("after")

    run = Run(body)
    run.feed(e.LockGranted("1:0.1"))
    assert locking(run.feed(acted("1:1"))) == []
    assert locking(run.feed(e.StepRejected("1:0.2", FAILED))) == [c.FreeLock("1:0.1", "a")]
    run.execution.close()


# --- from the journal -----------------------------------------------------------------------------------------------


def test_a_replay_holds_and_awaits_the_same_locks() -> None:
    """Whatever was answered before is not asked again."""
    run = Run(patient)
    for event in (None, e.LockGranted("1")):
        if event is not None:
            run.feed(event)
        with closing(run.again()) as replayed:
            assert replayed.locks == run.execution.locks
            assert replayed.awaited_locks() == run.execution.awaited_locks()
            assert replayed.timers == run.execution.timers
            assert list(replayed.open) == list(run.execution.open)
    run.execution.close()


@saga(name="body")
async def _to_the_end() -> None:
    async with lock("a"):
        await act("one")
    await act("two")


@saga(name="body")
async def _for_a_block() -> None:
    async with lock("a", hold="block"):
        await act("one")
    await act("two")


@saga(name="body")
async def _another_lock() -> None:
    async with lock("b"):
        await act("one")
    await act("two")


@saga(name="body")
async def _no_lock() -> None:
    await act("one")
    await act("two")


@saga(name="body")
async def _a_step_first() -> None:
    await act("zero")
    async with lock("a"):
        await act("one")


@saga(name="body")
async def _nothing() -> None: ...


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (_to_the_end, _another_lock, "operation 1: the journal says lock 'a', the body now takes lock 'b'.*version"),
        (_to_the_end, _no_lock, "operation 1: the journal says lock 'a', the body now calls act.*version"),
        (_to_the_end, _nothing, "operation 1: lock 'a' is taken after record 0, the body no longer does so there"),
        (_to_the_end, _for_a_block, "operation 1: lock 'a' is released after record 2 only in the body as it is now"),
        (_for_a_block, _to_the_end, "operation 1: lock 'a' is released after record 2, the body no longer does so"),
        (_no_lock, _to_the_end, "operation 1: the journal says step act, the body now takes lock 'a'"),
        (_a_step_first, _no_lock, "operation 2: the journal says lock 'a', the body now calls act"),
        (_no_lock, _a_step_first, "operation 2: the journal says step act, the body now takes lock 'a'"),
    ],
)
def test_a_body_that_locks_otherwise_is_refused(old: Saga[[], Any], new: Saga[[], Any], told: str) -> None:
    """10: a replay asks nobody for locks, so it must not hold others than were asked for."""
    run = Run(old)
    while run.execution.state is SagaState.RUNNING and len(run.records) < 4:
        waiting = next(iter(run.execution.awaited_locks()), None)
        path = run.execution.locks[waiting] if waiting else next(iter(run.execution.open))
        run.feed(e.LockGranted(path) if waiting else acted(path))
    with pytest.raises(ReplayDiverged, match=told):
        run.again(new)
    run.execution.close()


def test_a_lock_that_the_journal_does_not_have_is_refused() -> None:
    """A body that takes one after all that was recorded goes on, for nobody has run past that place."""
    run = Run(_no_lock)
    with pytest.raises(ReplayDiverged, match="the journal says step act, the body now takes lock"):
        run.again(_to_the_end)
    run.execution.close()

    @saga(name="body")
    async def locks_later() -> None:
        await act("one")
        async with lock("a"):
            await act("two")

    with closing(run.again(locks_later)) as replayed:
        assert locking(replayed.apply(acted("1"), 9.0)) == [c.TakeLock("2", "a")]


def test_a_rollback_from_the_journal_alone_holds_the_locks_until_it_is_finished() -> None:
    """What was only waited for is given back at once."""

    async def wait(name: str) -> None:
        async with lock(name):
            await act(name)

    async def pass_by(name: str) -> None:
        async with lock(name, hold="block"):
            pass
        await act(name)

    async def give_way(name: str) -> None:
        with suppress(Deadlock):
            await wait(name)

    @saga
    async def body() -> None:
        await gather(wait("a"), wait("b"), pass_by("c"), give_way("d"))

    run = Run(body)
    for event in (e.LockGranted("1:0.1"), e.LockGranted("1:2.1"), acted("1:0.2"), e.LockRefused("1:3.1", "a circle")):
        run.feed(event)
    run.execution.close()
    alone = abandon("s", {"act": act}, run.records)
    assert alone.locks == {"a": "1:0.1", "b": "1:1.1"}
    assert not alone.waits_for_lock("1:1.1")
    assert locking(alone.apply(e.CancelRequested("no code"), 9.0)) == [c.FreeLock("1:1.1", "b")]
    alone.apply(e.UndoSucceeded("1:0.2"), 10.0)
    alone.apply(e.UndoSucceeded("1:2.2"), 11.0)
    assert alone.state is SagaState.COMPENSATED
    assert alone.locks == {"a": "1:0.1"}


def test_a_body_that_failed_after_its_pivot_goes_on_inside_its_block() -> None:
    """The lock is not released by the failure that better code takes back."""

    @saga(name="body")
    async def broken() -> None:
        async with lock("a", hold="block"):
            await confirm()
            raise ValueError

    @saga(name="body")
    async def mended() -> str:
        async with lock("a", hold="block"):
            await confirm()
            await act("inside")
        return await act("after")

    run = Run(broken)
    run.feed(e.LockGranted("1"))
    halted = run.feed(e.StepSucceeded("2", b"null"))
    assert locking(halted) == []
    assert isinstance(halted[-1], c.Halt)
    with closing(run.again(mended)) as replayed:
        assert replayed.locks == {"a": "1"}
        assert locking(replayed.apply(acted("3"), 9.0)) == [c.FreeLock("1", "a")]


# --- declared wrongly -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (lambda: lock(""), "1 to 200 printable"),
        (lambda: lock("x" * 201), "1 to 200 printable"),
        (lambda: lock("a\x00"), "1 to 200 printable"),
        (lambda: lock("\ud800"), "1 to 200 printable"),
        (lambda: lock(7), "1 to 200 printable"),  # type: ignore[arg-type]  # that is the point
        (lambda: lock("a", timeout=None), "waiting is bounded"),  # type: ignore[arg-type]  # that is the point
        (lambda: lock("a", timeout=0), "waiting is bounded"),
        (lambda: lock("a", timeout=math.inf), "waiting is bounded"),
        (lambda: lock("a", timeout=math.nan), "waiting is bounded"),
        (lambda: lock("a", hold="forever"), "'saga' .* or 'block'"),  # type: ignore[arg-type]  # that is the point
    ],
)
def test_wrong_arguments_are_refused_at_once(wrong: Callable[[], object], advice: str) -> None:
    """Where the lock is made, with a sentence that says what would do."""
    with pytest.raises(ValueError, match=advice):
        wrong()


def test_a_lock_outside_a_saga_says_so() -> None:
    """Only a saga can hold one."""

    async def main() -> None:
        async with lock("a"):
            pass

    entered: Awaitable[None] = main()
    with pytest.raises(OutsideSaga, match="only a coordinator"):
        asyncio.run(entered)  # type: ignore[arg-type]  # a coroutine is an awaitable


def test_a_saga_without_locks_keeps_nothing_for_them() -> None:
    """Thousands of sagas may be parked in memory."""
    run = Run(_no_lock)
    assert run.execution.tickets is None
    assert run.execution.locks == {}
    run.execution.close()
