"""Transactional compensators: what they write commits with the record that the step is undone, or neither does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlmodel import Session

from sagas import (
    IllegalTransition,
    Rejected,
    Retry,
    SagaCompensated,
    SagaStuck,
    StoreUnavailable,
    current_step,
    gather,
    saga,
    step,
)
from sagas.context import StepContext
from sagas.coordinator.runtime import Runtime
from sagas.coordinator.writes import Write
from sagas.core import events as e
from sagas.stores.port import Batch, Committed
from tests.coordinator.places import Clock, Place, until


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """A database with a ledger, in which nothing keeps an entry from being made twice."""
    if request.param == "postgres":
        found = Place(None, request.getfixturevalue("postgres_url"))
    else:
        found = request.getfixturevalue("on_disk")
    found.sql("CREATE TABLE ledger (entry TEXT)")
    return found


def _ledger(place: Place) -> list[str]:
    return sorted(entry for (entry,) in place.sql("SELECT entry FROM ledger"))


def _write(session: Session, entry: str) -> None:
    session.connection().execute(text("INSERT INTO ledger VALUES (:entry)"), {"entry": entry})


@step(transactional=True)
def enter(session: Session, name: str) -> str:
    """Writes."""
    _write(session, name)
    return f"result of {name}"


@enter.compensator(transactional=True)
def strike(session: Session, name: str, result: str) -> None:
    """Writes the contrary, which would be wrong to do twice."""
    assert result == f"result of {name}"
    _write(session, f"-{name}")


@step
async def refuse() -> None:
    """Fails."""
    raise Rejected("refused")


@saga
async def taken_back(names: list[str]) -> None:
    """Enters one, then the others side by side, and has all of that undone."""
    await enter("first")
    await gather(*(enter(name) for name in names))
    await refuse()


def _both(*names: str) -> list[str]:
    """What each of these and its undo write."""
    return sorted(sign + name for name in names for sign in ("", "-"))


async def test_an_undo_commits_with_its_record(place: Place) -> None:
    """Each once, also side by side, and for many sagas at a time."""

    async def run(number: int) -> None:
        with pytest.raises(SagaCompensated):
            await coordinator.run(taken_back([f"a{number}", f"b{number}"]))

    async with place.coordinator(taken_back) as coordinator, anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(run, number)
    each = [f"{name}{number}" for name in "ab" for number in range(5)]
    assert _ledger(place) == sorted([*_both(*each), *_both("first") * 5])


async def test_an_undo_knows_what_it_undoes(place: Place) -> None:
    """Its arguments and its context are those of any other compensator."""
    seen: list[StepContext] = []

    @step
    async def reserve(item: str, count: int = 1) -> str:
        assert current_step().undoes is None
        return item * count

    @reserve.compensator(transactional=True)
    def release(session: Session, count: int, result: str | None) -> None:
        seen.append(current_step())
        _write(session, f"{count} {result}")

    @saga
    async def body() -> None:
        await reserve("x", 3)
        await refuse()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
    (context,) = seen
    assert _ledger(place) == ["3 xxx"]
    assert context.undoes is not None
    assert (context.idempotency_key, context.step) == (f"{context.undoes}:undo", "reserve")
    assert (context.saga_id, context.path, context.attempt, context.deadline) == ("s", "1", 1, None)


async def test_an_undo_of_a_step_in_doubt_gets_no_result(place: Place) -> None:
    """As any other."""

    @step
    async def reserve() -> int:
        raise ConnectionError("lost")

    @reserve.compensator(transactional=True)
    def release(session: Session, result: int | None) -> None:
        _write(session, f"{result}")

    @saga
    async def body() -> None:
        await reserve()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body())
    assert _ledger(place) == ["None"]


async def test_an_undo_that_fails_takes_its_writes_back_and_is_tried_again(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """By its own budget; when that is used up, an operator has it tried again."""
    attempts: list[int] = []
    works_from = 3

    @step
    async def reserve() -> None: ...

    @reserve.compensator(transactional=True, retry=Retry(attempts=2, initial=0))
    def release(session: Session) -> None:
        attempts.append(current_step().attempt)
        _write(session, "release")
        if len(attempts) < works_from:
            raise ConnectionError(f"no {len(attempts)}")

    @saga
    async def body() -> None:
        await gather(reserve(), enter("beside"))
        await refuse()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaStuck, match="ConnectionError: no 2"):
            await coordinator.run(body(), id="s")
        assert _ledger(place) == _both("beside")
        await coordinator.retry("s")
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
    assert attempts == [1, 2, 1]
    told = [record.getMessage() for record in caplog.records if "of step reserve failed" in record.getMessage()]
    assert [(told[at].split(" of ")[0], "in release" in told[at]) for at in (0, 1)] == [
        ("saga s: undo 1", True), ("saga s: undo 2", True),
    ]  # fmt: skip
    assert len(told) == 2
    assert _ledger(place) == sorted([*_both("beside"), "release"])


@pytest.mark.parametrize("undoes", [False, True])
async def test_what_a_function_commits_itself_is_taken_back_too_if_it_fails(place: Place, undoes: bool) -> None:
    """Its session's commit is none of the transaction; that of what succeeds does no harm."""

    def attempt(session: Session, name: str) -> None:
        _write(session, f"{name} {current_step().attempt}")
        session.commit()
        _write(session, f"{name} {current_step().attempt}")
        session.rollback()
        with session.begin_nested():
            _write(session, f"{name} {current_step().attempt} more")
        if current_step().attempt == 1:
            raise ConnectionError("no")

    @step(transactional=True, retry=Retry(attempts=2, initial=0))
    def reserve(session: Session) -> None:
        if not undoes:
            attempt(session, "reserve")

    @reserve.compensator(transactional=True, retry=Retry(attempts=2, initial=0))
    def release(session: Session) -> None:
        if undoes:
            attempt(session, "release")

    @saga
    async def body() -> None:
        await reserve()
        await refuse()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body())
    name = "release" if undoes else "reserve"
    assert _ledger(place) == [f"{name} 2", f"{name} 2 more"]


async def test_an_undo_goes_on_after_a_long_pause(place: Place) -> None:
    """That it failed is durable, what it wrote is not; and whoever goes on knows which attempt is next."""

    @step
    async def reserve() -> None: ...

    @reserve.compensator(transactional=True, retry=Retry(attempts=2, initial=60))
    def release(session: Session) -> None:
        _write(session, f"attempt {current_step().attempt}")
        if current_step().attempt == 1:
            raise ConnectionError("no")

    @saga
    async def body() -> None:
        await reserve()
        await refuse()

    async with place.coordinator(body) as coordinator:
        await coordinator.start(body(), id="s")

        async def waits() -> bool:
            return (await coordinator.get("s")).waiting

        await until(waits)
    assert _ledger(place) == []
    async with place.coordinator(body, clock=Clock(ahead=61)) as coordinator:
        with anyio.fail_after(10), pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")
    assert _ledger(place) == ["attempt 2"]


# --- when the database does not do its part -------------------------------------------------------------------------

Work = Sequence[Callable[[Session], None]]
Transact = Callable[[Work, Callable[[], Batch]], Committed]


def _away(_: Transact, work: Work, finish: Callable[[], Batch]) -> Committed:
    """It cannot be reached."""
    raise StoreUnavailable("simulated: away")


def _lost_before_the_commit(transact: Transact, work: Work, finish: Callable[[], Batch]) -> Committed:
    """The connection is lost when everything was written."""

    def finish_and_fail() -> Batch:
        finish()
        raise StoreUnavailable("simulated: lost before the commit")

    return transact(work, finish_and_fail)


def _lost_after_the_commit(transact: Transact, work: Work, finish: Callable[[], Batch]) -> Committed:
    """The connection is lost before it could say that it has committed."""
    transact(work, finish)
    raise StoreUnavailable("simulated: lost after the commit")


@pytest.mark.parametrize("trouble", [_away, _lost_before_the_commit, _lost_after_the_commit])
async def test_an_undo_acts_once_whatever_becomes_of_its_commit(
    place: Place, trouble: Callable[..., Committed]
) -> None:
    """The journal is read again, and tells whether it did."""
    store: Any = place.store()
    transact, undos = store.transact, count()

    def at_every_other_undo(work: Any, finish: Callable[[], Batch]) -> Committed:
        undoes = any(run.__self__.context.undoes for run in work)
        if undoes and next(undos) % 2 == 0:
            return trouble(transact, work, finish)
        done: Committed = transact(work, finish)
        return done

    store.transact = at_every_other_undo
    async with place.coordinator(taken_back, store=store) as coordinator:
        with anyio.fail_after(20), pytest.raises(SagaCompensated):
            await coordinator.run(taken_back(["a", "b"]), id="s")
    assert next(undos) >= 2
    assert _ledger(place) == _both("first", "a", "b")


async def test_an_undo_whose_transaction_is_refused_at_its_end_needs_an_operator(place: Place) -> None:
    """It would be refused each time, as by a constraint that is deferred."""
    store: Any = place.store()
    transact, refuses = store.transact, True

    def refusing(work: Work, finish: Callable[[], Batch]) -> Committed:
        def finish_and_refuse() -> Batch:
            batch = finish()
            if refuses and any(row.kind == "UndoSucceeded" for row in batch.rows):
                raise ValueError("too many records")
            return batch

        done: Committed = transact(work, finish_and_refuse)
        return done

    store.transact = refusing
    async with place.coordinator(taken_back, store=store) as coordinator:
        with anyio.fail_after(20), pytest.raises(SagaStuck, match="ValueError: too many records"):
            await coordinator.run(taken_back([]), id="s")
        assert _ledger(place) == ["first"]
        refuses = False
        await coordinator.retry("s")
        with anyio.fail_after(20), pytest.raises(SagaCompensated):
            await coordinator.run(taken_back([]), id="s")
    assert _ledger(place) == _both("first")


@pytest.mark.parametrize("outcome", ["StepSucceeded", "UndoSucceeded"])
async def test_what_a_saga_does_not_take_is_not_written(
    place: Place, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by the function nor, afterwards, by the journal; only a bug of this library can cause that."""
    feed, refusals = Runtime.feed, iter([True])

    def feed_but_once(self: Runtime, event: e.Event, **options: Any) -> Write:
        if type(event).__name__ == outcome and next(refusals, False):
            raise IllegalTransition("here", outcome, "a test")
        return feed(self, event, **options)

    monkeypatch.setattr(Runtime, "feed", feed_but_once)
    async with place.coordinator(taken_back) as coordinator:
        with anyio.fail_after(20), pytest.raises(SagaStuck, match="IllegalTransition"):
            await coordinator.run(taken_back([]), id="s")
        assert _ledger(place) == ([] if outcome == "StepSucceeded" else ["first"])
        await coordinator.resume("s")
        with anyio.fail_after(20), pytest.raises(SagaCompensated):
            await coordinator.run(taken_back([]), id="s")
    assert _ledger(place) == _both("first")


async def test_in_memory_an_undo_that_wants_a_transaction_is_stuck_and_says_why() -> None:
    """Others go on."""

    @step
    async def reserve() -> None: ...

    @reserve.compensator(transactional=True)
    def release(session: Session) -> None:
        raise AssertionError("there is no session to call it with")

    @saga
    async def body(*, fails: bool) -> int:
        await reserve()
        if fails:
            await refuse()
        return 1

    async with Place(None).coordinator(body) as coordinator:
        with anyio.fail_after(10):
            with pytest.raises(SagaStuck, match="compensator release of step reserve is transactional, and memory:"):
                await coordinator.run(body(fails=True), id="s")
            assert await coordinator.run(body(fails=False)) == 1
            await coordinator.skip("s", reason="done by hand")
            with pytest.raises(SagaCompensated):
                await coordinator.run(body(fails=True), id="s")
