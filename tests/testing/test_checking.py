"""What ``check`` tells, and what it can be asked for."""

from __future__ import annotations

import gc
import socket
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import StaticPool
from sqlmodel import Session

from sagas import NotApplied, Retry, current_step, gather, now, saga, sleep, step
from sagas.errors import RequestError
from sagas.testing import CheckFailed, Fault, Run, Scenario, Simulator, check, reproduce, runs
from tests.testing.counter import Shop, buy, buy_if_approved, new_shop, shop, take, total

_FEW = {"items": st.integers(1, 3)}


@step
async def grab(items: int) -> int:
    """Takes without looking at the key."""
    shop().stock -= items
    return items


@grab.compensator
async def give(items: int) -> None:
    shop().stock += items


@saga
async def hurry(items: int) -> int:
    return await grab(items)


# --- what it tells ---------------------------------------------------------------------------------------------------


def test_a_saga_that_recovers_passes() -> None:
    report = check(buy, inputs=_FEW, world=new_shop, view=total, runs=200, seed=1)
    assert report.coverage.share == 1.0
    assert set(report.coverage.outcomes) == {"completed", "compensated"}
    assert not report.never_called
    assert not report.never_undone
    assert not report.never_run


def test_a_failure_is_a_story_with_the_smallest_input_and_a_line_to_play_it_again() -> None:
    with pytest.raises(CheckFailed) as failed:
        check(hurry, inputs=_FEW, world=new_shop, view=total, seed=1)
    run = failed.value.run
    assert run is not None
    assert len(run.scenario.faults) == 1
    assert run.scenario.call.arguments == {"items": 1}
    told = str(failed.value)
    assert failed.value.law in told
    assert f"@reproduce(hurry(items=1), {run.scenario.faults[0]!r})" in told
    assert "seed=1" in told
    assert "SagaStarted" in told


def test_the_same_seed_plays_the_same_runs() -> None:
    one, same = (check(buy, inputs=_FEW, world=new_shop, view=total, runs=80, coverage=0.0, seed=7) for _ in range(2))
    assert one.coverage.fired == same.coverage.fired
    assert one.coverage.outcomes == same.coverage.outcomes


def test_too_few_runs_are_vacuous() -> None:
    with pytest.raises(CheckFailed, match="of the faults that can happen did") as failed:
        check(buy, inputs=_FEW, world=new_shop, view=total, runs=10, seed=1)
    assert failed.value.law == "a check is not vacuous"


def test_what_was_never_reached_is_reported() -> None:
    report = check(_wrap_many, inputs=_FEW, world=new_shop, view=total, runs=60, coverage=0.0, seed=1)
    assert report.never_called == ("wrap",)
    assert [x.rpartition(": ")[2] for x in report.never_run] == ["await wrap()"]
    assert "steps never called: wrap" in str(report)


@step
async def wrap() -> None: ...


@saga
async def _wrap_many(items: int) -> int:
    if items > 100:
        await wrap()
    return await take(items)


# --- one run again ---------------------------------------------------------------------------------------------------


def test_a_planned_run_is_played_instead_of_all_others() -> None:
    @reproduce(buy(items=2), Fault("crash after", at="take"))
    def plays() -> int:
        return check(buy, world=new_shop, view=total).coverage.runs

    assert plays() == 1


def test_a_planned_fault_that_never_happens_fails() -> None:
    @reproduce(buy(items=2), Fault("error", at="take", nth=9))
    def plays() -> None:
        check(buy, world=new_shop)

    with pytest.raises(CheckFailed, match="never happened"):
        plays()


async def test_a_planned_run_is_played_in_an_asynchronous_test() -> None:
    @reproduce(buy(items=2), Fault("cancel", at="take"))
    async def plays() -> int:
        await anyio.lowlevel.checkpoint()
        return check(buy, world=new_shop, view=total).coverage.runs

    assert await plays() == 1


def test_a_fault_of_no_kind_is_refused() -> None:
    with pytest.raises(RequestError, match="there is no fault 'explodes'"):
        Fault("explodes", at="take")


# --- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs", [_FEW, st.integers(1, 3), st.builds(buy, items=st.integers(1, 3))], ids=["by name", "value", "call"]
)
def test_inputs_are_given_by_name_by_value_or_as_calls(inputs: object) -> None:
    drawn = [run.scenario.call.arguments["items"] for run in _some(runs(buy, inputs=inputs, world=new_shop))]  # type: ignore[arg-type]
    assert drawn
    assert set(drawn) <= {1, 2, 3}


def _some(strategy: st.SearchStrategy[Run]) -> list[Run]:
    found: list[Run] = []

    @settings(max_examples=10, deadline=None, database=None)
    @given(strategy)
    def collect(run: Run) -> None:
        found.append(run)

    collect()
    return found


def test_inputs_are_drawn_by_type_if_nothing_is_said() -> None:
    @saga
    async def idle(count: int, name: str) -> str:
        await sleep(1)
        return f"{count} {name}"

    report = check(idle, runs=30, coverage=0.0, seed=1)
    assert report.coverage.runs >= 20


def test_a_parameter_that_is_not_there_is_named() -> None:
    with pytest.raises(RequestError, match="has no parameter article; it has: items"):
        check(buy, inputs={"article": st.integers()})


# --- invariants ------------------------------------------------------------------------------------------------------


def test_an_invariant_is_named_by_its_function() -> None:
    def nobody_takes_twice(world: Shop, run: Run) -> None:
        assert sum(x > 0 for x in world.taken.values()) <= 1, run.status

    with pytest.raises(CheckFailed) as failed:
        check(buy, inputs=_FEW, world=new_shop, invariants=[nobody_takes_twice], seed=1)
    assert failed.value.law == "nobody takes twice"
    assert failed.value.run is not None
    assert not failed.value.run.scenario.faults


def test_what_always_has_to_hold_is_seen_when_it_does_not() -> None:
    """At the end all is well, but in between the stock is not what it should be."""
    with pytest.raises(CheckFailed) as failed:
        check(
            buy, inputs=_FEW, world=new_shop, view=total, always=[lambda world: world.stock != 8], seed=1
        )  # fmt: skip
    assert failed.value.run is not None


# --- worlds ----------------------------------------------------------------------------------------------------------

_account: ContextVar[list[int]] = ContextVar("account")


@contextmanager
def _new_account() -> Generator[list[int]]:
    token = _account.set([])
    yield _account.get()
    _account.reset(token)


@step
async def pay(amount: int) -> None:
    if amount not in _account.get():
        _account.get().append(amount)


@pay.compensator
async def pay_back(amount: int) -> None:
    if amount in _account.get():
        _account.get().remove(amount)


@saga
async def settle(amount: int) -> None:
    await gather(pay(amount), pay(amount + 1))


def test_a_world_may_be_a_context_manager_that_sets_context_variables() -> None:
    report = check(settle, inputs=st.integers(1, 5), world=_new_account, view=sorted, runs=80, seed=1, coverage=0.0)
    assert report.coverage.outcomes["compensated"]


class Warehouse:
    """A world with a database."""

    def __init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        self.given_back: set[str] = set()
        with self.engine.begin() as connection:
            connection.execute(text("CREATE TABLE stock (n INTEGER)"))
            connection.execute(text("INSERT INTO stock VALUES (10)"))

    def count(self) -> int:
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT n FROM stock")).scalar_one())


_warehouse: list[Warehouse] = []


def _new_warehouse() -> Warehouse:
    _warehouse[:] = [Warehouse()]
    return _warehouse[0]


@step(transactional=True)
def move_out(session: Session, items: int) -> None:
    session.connection().execute(text("UPDATE stock SET n = n - :n"), {"n": items})


@move_out.compensator
def move_in(items: int) -> None:
    warehouse, key = _warehouse[0], current_step().undoes or ""
    if key not in warehouse.given_back:
        warehouse.given_back.add(key)
        with warehouse.engine.begin() as connection:
            connection.execute(text("UPDATE stock SET n = n + :n"), {"n": items})


@saga
async def dispatch(items: int) -> None:
    await move_out(items)
    await wrap()


def _engine(world: Warehouse) -> Engine:
    return world.engine


def test_transactional_steps_act_once_however_the_process_dies() -> None:
    report = check(
        dispatch,
        inputs=_FEW,
        world=_new_warehouse,
        view=Warehouse.count,
        database=_engine,
        runs=120,
        coverage=0.5,
        seed=1,
    )
    assert report.coverage.fired["crash before", "move_out"]
    assert report.coverage.fired["pause before", "commit"]


def test_transactional_steps_without_a_database_say_what_is_missing() -> None:
    with pytest.raises(RequestError, match="transactional steps need a database, and move_out is one"):
        check(dispatch, inputs=_FEW, world=_new_warehouse, runs=50, seed=1)


def test_a_step_that_opens_a_socket_is_told_that_this_is_a_simulation() -> None:
    @step
    async def call() -> None:
        async with await anyio.connect_tcp("localhost", 9):
            pass

    @saga
    async def phone() -> None:
        await call()

    run = Simulator(phone).run(Scenario(phone()))
    assert isinstance(run.calls[0].error, Exception)
    assert "in a simulation it talks to the world that check(world=…) makes" in str(run.calls[0].error)
    assert socket.AF_INET  # no socket was opened; else this would be another test


# --- signals, deploys, late requests ---------------------------------------------------------------------------------


def test_signals_come_early_twice_late_or_never() -> None:
    report = check(buy_if_approved, inputs=_FEW, world=new_shop, view=total, runs=120, coverage=0.5, seed=1)
    fired = {what for what, at in report.coverage.fired if at == "signal approval"}
    assert fired == {"early", "twice", "never", "overdue"}
    assert set(report.coverage.outcomes) == {"completed", "compensated"}


@saga(name="buy", version="2", continues=["1"])
async def buy_2(items: int) -> int:
    return await take(items) + await take(items)


@saga(name="buy", version="2")
async def buy_apart(items: int) -> int:
    await wrap()
    return await take(items)


@saga(name="buy", version="2", continues=["1"])
async def buy_less(items: int) -> int:
    await wrap()
    return await take(items)


@pytest.mark.parametrize("releases", [[buy_2], [buy, buy_apart]], ids=["same steps", "both versions"])
def test_a_deploy_at_any_moment_loses_nothing(releases: list[Any]) -> None:
    few = {"runs": 100, "seed": 1, "coverage": 0.0}
    report = check(buy, inputs=_FEW, world=new_shop, view=total, deploys=releases, **few)  # type: ignore[arg-type]
    assert report.coverage.fired["deploy", "take"]


def test_code_that_cannot_go_on_with_what_is_open_is_no_release() -> None:
    """Its sagas are parked, and have to be rolled back."""
    with pytest.raises(CheckFailed, match="the journal says step take, the body now calls wrap") as failed:
        check(buy, inputs=_FEW, world=new_shop, view=total, deploys=[buy_less], seed=1)
    assert failed.value.law == "a deploy goes on with what is open"
    assert failed.value.run is not None
    assert failed.value.run.status == "compensated"


def test_an_action_that_comes_late_is_tried_only_if_asked_for() -> None:
    check(_buy_late, inputs=_FEW, world=new_shop, view=_taken, runs=60, coverage=0.0, seed=1)
    with pytest.raises(CheckFailed) as failed:
        check(_buy_late, inputs=_FEW, world=new_shop, view=_taken, late=True, seed=1)
    assert failed.value.run is not None
    assert any(fault.what == "late" for fault in failed.value.run.scenario.faults)


@step
async def take_anew(items: int) -> None:
    """Forgets what was undone, so that a late request takes again."""
    shop().taken.setdefault(current_step().idempotency_key, items)


@take_anew.compensator
async def forget() -> None:
    shop().taken.pop(current_step().undoes or "", None)


@saga
async def _buy_late(items: int) -> None:
    await take_anew(items)
    await wrap()


def _taken(world: Shop) -> dict[str, int]:
    return world.taken


def test_a_timer_of_a_year_costs_nothing() -> None:
    @saga
    async def wait(items: int) -> bool:
        began = await now()
        taken = await take(items)
        await sleep(365 * 86_400.0)
        return (await now() - began).days >= 365 and taken == items

    runs_ = check(wait, inputs=_FEW, world=new_shop, view=total, invariants=[_said_yes], runs=60, coverage=0.0, seed=1)
    assert runs_.coverage.outcomes["completed"]


def _said_yes(_: Shop, run: Run) -> bool:
    return run.status != "completed" or run.result is True


def test_steps_that_are_no_coroutines_run_too() -> None:
    @step(retry=Retry(attempts=3), timeout=5.0)
    def take_at_once(items: int) -> int:
        shop().take(current_step().idempotency_key, items)
        return items

    @take_at_once.compensator
    def put_back_at_once() -> None:
        shop().put_back(current_step().undoes or "")

    @saga
    async def buy_at_once(items: int) -> int:
        return await take_at_once(items)

    report = check(buy_at_once, inputs=_FEW, world=new_shop, view=total, runs=150, coverage=0.8, seed=1)
    assert {"completed", "compensated"} <= set(report.coverage.outcomes)


# --- what users stumbled over ----------------------------------------------------------------------------------------


@step
async def deposit(items: int) -> int:
    shop().take(current_step().idempotency_key, items)
    return items


@deposit.compensator
async def give_back(result: int | None) -> None:
    """Believes that nobody knows means that nothing happened."""
    if result is not None:
        shop().put_back(current_step().undoes or "")


@deposit.probe
async def find_deposit() -> int | NotApplied:
    return shop().taken.get(current_step().idempotency_key, 0) or NotApplied()


@saga
async def book_with_deposit(items: int) -> int:
    return await deposit(items)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_probe_that_fails_is_tried_after_each_fault_that_leaves_something_in_doubt(seed: int) -> None:
    with pytest.raises(CheckFailed) as failed:
        check(book_with_deposit, inputs=_FEW, world=new_shop, view=total, seed=seed)
    assert failed.value.run is not None
    assert {fault.at for fault in failed.value.run.fired} == {"deposit", "probe of deposit"}


async def test_a_check_within_an_event_loop_leaves_nothing_behind() -> None:
    """The suite turns what Python cannot raise into failures."""
    await anyio.lowlevel.checkpoint()
    check(buy, inputs=_FEW, world=new_shop, view=total, runs=30, coverage=0.0, seed=1)
    gc.collect()


def test_a_planned_run_that_no_check_plays_fails() -> None:
    @reproduce(buy(items=2), Fault("error", at="take"))
    def plays() -> None:
        check(hurry, inputs=_FEW, world=new_shop, runs=20, coverage=0.0, seed=1)

    with pytest.raises(AssertionError, match="this test checks no saga buy"):
        plays()


def test_a_saga_that_never_completes_is_told() -> None:
    @saga
    async def fail(items: int) -> int:
        await take(items)
        raise KeyError(items)

    report = check(fail, inputs=_FEW, world=new_shop, view=total, runs=20, coverage=0.0, seed=1)
    assert "no run completed" in str(report)


def test_an_undo_that_is_wrong_for_some_inputs_is_found() -> None:
    """All inputs that were drawn go the same way, and only one of them is not undone."""

    @step
    async def pick(items: int, note: str) -> None:
        shop().take(current_step().idempotency_key, items)

    @pick.compensator
    async def unpick(items: int) -> None:
        if items != 5:
            shop().put_back(current_step().undoes or "")

    @saga
    async def picky(items: int, note: str) -> None:
        await pick(items, note)
        await wrap()

    inputs = {"items": st.integers(1, 12), "note": st.text()}
    with pytest.raises(CheckFailed) as failed:
        check(picky, inputs=inputs, world=new_shop, view=total, runs=150, seed=1)
    assert failed.value.run is not None
    assert failed.value.run.scenario.call.arguments["items"] == 5
