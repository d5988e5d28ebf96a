"""Right steps pass, and each wrong one breaks just the law that it should."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import StaticPool
from sqlmodel import Session

from sagas import NotApplied, Rejected, current_step, step
from sagas.core.definitions import Step
from sagas.errors import RequestError
from sagas.testing import assert_commutes, assert_idempotent, assert_probes, assert_undoes
from tests.testing.shelf import Shelf, SoldOut, current, new, sold

COUNTS = {"count": st.integers(1, 9)}


def key() -> str:
    context = current_step()
    return context.undoes or context.idempotency_key


@step
async def sell(count: int) -> int:
    shelf = current()
    if key() in shelf.voided:
        return 0
    if key() in shelf.sales:
        return shelf.sales[key()]
    if count > shelf.stock:
        raise SoldOut(str(count))
    await anyio.sleep(1)  # virtual
    shelf.stock -= count
    shelf.till += 3 * count
    shelf.sales[key()] = count
    return count


@sell.compensator
async def take_back(count: int) -> None:
    shelf = current()
    shelf.voided.add(key())
    done = shelf.sales.pop(key(), 0)
    shelf.stock += done
    shelf.till -= 3 * done


@sell.probe
async def find_sale() -> int | NotApplied:
    found = current().sales.get(key())
    return NotApplied() if found is None else found


def fails(expected: str, assertion: Any, *args: Any, **options: Any) -> str:
    """Makes sure that an assertion fails for a reason; gives its message."""
    with pytest.raises(AssertionError) as failure:
        assertion(*args, **{"view": sold, "world": new, "seed": 1, **options})
    message = str(failure.value)
    assert expected in message.splitlines()[0], message
    return message


# --- assert_undoes --------------------------------------------------------------------------------------------------


def test_a_step_that_remembers_keys_is_undone_whatever_happens() -> None:
    assert_undoes(sell, view=sold, world=new, inputs=COUNTS, late=True, others=True)
    assert_idempotent(sell, view=sold, world=new, inputs=COUNTS)
    assert_probes(sell, view=sold, world=new, inputs=COUNTS)
    assert_commutes(sell, sell, view=sold, world=new, inputs=COUNTS)


async def test_they_work_within_any_event_loop() -> None:
    assert_undoes(sell, view=sold, world=new, inputs=COUNTS)


def test_inputs_are_made_up_from_types() -> None:
    assert_undoes(sell, view=sold, world=new)


def test_inputs_are_calls_or_values_too() -> None:
    assert_undoes(sell, view=sold, world=new, inputs=st.integers(1, 5))
    assert_undoes(sell, view=sold, world=new, inputs=st.builds(sell, COUNTS["count"]))


def test_a_world_may_be_a_context_manager_that_is_always_left() -> None:
    open_worlds: list[Shelf] = []

    @contextmanager
    def shelf() -> Generator[Shelf]:
        made = new()
        open_worlds.append(made)
        yield made
        open_worlds.remove(made)

    assert_undoes(sell, view=sold, world=shelf, inputs=COUNTS)
    assert not open_worlds


def make_wrong(undo: Any, *, rejects: tuple[type[Exception], ...] = (), act: Any = None) -> Step[..., Any]:
    """Makes a step that sells without any care, with this undo."""

    def add(count: int) -> int:
        shelf = current()
        if key() not in shelf.sales and key() not in shelf.voided:
            shelf.stock -= count
            shelf.till += 3 * count
            shelf.sales[key()] = count
        return count

    made = step(name="add", rejects=rejects)(act or add)
    made.compensator(undo)
    return made


def test_an_undo_that_forgets_a_part_is_found() -> None:
    def undo(count: int) -> None:
        current().stock += current().sales.pop(key(), 0)

    message = fails("undone is as if it had never been", assert_undoes, make_wrong(undo), inputs=COUNTS)
    assert "add(count=1) gives 1" in message
    assert "{'stock': 5, 'till': 3}" in message
    assert "^ it should hold {'stock': 5, 'till': 0}, as before" in message
    assert "To draw the same inputs again: assert_undoes(add, …, seed=1)" in message


def test_an_undo_that_does_not_know_whether_it_ran_is_found() -> None:
    def undo(count: int) -> None:
        if key() in current().sales:
            current().stock += count
            current().till -= 3 * count

    message = fails("undone twice is undone once", assert_undoes, make_wrong(undo), inputs=COUNTS)
    assert "undo(count=1) again" in message
    assert "current_step().undoes" in message


def test_an_undo_that_does_not_know_whether_there_was_an_action_is_found() -> None:
    def undo(count: int) -> None:
        if key() not in current().voided:
            current().voided.add(key())
            current().stock += count
            current().till -= 3 * count

    fails("an undo without an action does nothing", assert_undoes, make_wrong(undo), inputs=COUNTS)


def test_an_undo_that_needs_the_result_is_found() -> None:
    def undo(result: int | None) -> None:
        if result is not None and current().sales.pop(key(), 0):
            current().stock += result
            current().till -= 3 * result

    fails("in doubt, it is undone without its result", assert_undoes, make_wrong(undo), inputs=COUNTS)


def test_an_undo_that_undoes_a_duplicate_by_half_is_found() -> None:
    def act(count: int) -> int:
        current().stock -= count
        current().sales[key()] = count
        return count

    def undo() -> None:
        current().stock += current().sales.pop(key(), 0)

    fails("what was delivered twice is undone as once", assert_undoes, make_wrong(undo, act=act), inputs=COUNTS)


def test_an_undo_that_raises_is_found() -> None:
    def undo(count: int) -> None:
        done = current().sales.pop(key())
        current().stock += done
        current().till -= 3 * done

    message = fails("undone twice is undone once", assert_undoes, make_wrong(undo), inputs=COUNTS)
    assert "a compensator has to succeed: KeyError" in message


def test_a_refusal_that_leaves_something_is_found() -> None:
    def act(count: int) -> int:
        current().stock -= count
        if current().stock < 0:
            raise LookupError(count)
        current().sales[key()] = count
        return count

    def undo() -> None:
        current().stock += current().sales.pop(key(), 0)

    wrong = make_wrong(undo, act=act, rejects=(LookupError,))
    fails("a step that is refused has done nothing", assert_undoes, wrong, inputs={"count": st.just(9)})


def test_an_exception_that_is_no_refusal_is_in_doubt() -> None:
    def act(count: int) -> int:
        current().stock -= count
        current().sales[key()] = count
        if count == 3:
            raise ConnectionError("lost")
        return count

    def undo(result: int | None) -> None:
        if result is not None:
            current().stock += current().sales.pop(key(), 0)

    wrong = make_wrong(undo, act=act)
    message = fails("undone is as if", assert_undoes, wrong, inputs={"count": st.just(3)})
    assert "add(count=3) is in doubt: ConnectionError: lost" in message
    assert "undo(result=None)" in message


def late_wrong() -> Step[..., Any]:
    def act(count: int) -> int:
        if key() not in current().sales:
            current().stock -= count
            current().sales[key()] = count
        return count

    def undo() -> None:
        current().stock += current().sales.pop(key(), 0)

    return make_wrong(undo, act=act)


def test_a_late_action_is_tried_on_request() -> None:
    assert_undoes(late_wrong(), view=sold, world=new, inputs=COUNTS)
    message = fails(
        "an action that comes after its undo does nothing", assert_undoes, late_wrong(), inputs=COUNTS, late=True
    )
    assert "comes late" in message


def test_an_undo_that_takes_what_is_another_sagas_is_found_on_request() -> None:
    def act(count: int) -> int:
        if "sale" not in current().sales:
            current().stock -= count
        current().sales["sale"] = count
        return count

    def undo() -> None:
        current().stock += current().sales.pop("sale", 0)

    wrong = make_wrong(undo, act=act)
    assert_undoes(wrong, view=sold, world=new, inputs=COUNTS)
    fails("undone is as if it had never been", assert_undoes, wrong, inputs=COUNTS, others=True)


def test_a_view_that_shows_nothing_tests_nothing() -> None:
    with pytest.raises(AssertionError, match="the view is the same before and after step sell"):
        assert_undoes(sell, view=lambda _: 0, world=new, inputs=COUNTS)


def test_a_step_that_never_succeeds_tests_nothing() -> None:
    with pytest.raises(AssertionError, match=r"step sell never succeeded.*SoldOut: 7"):
        assert_undoes(sell, view=sold, world=new, inputs=st.just(7))


def test_an_undo_gets_what_the_journal_gives() -> None:
    seen: list[object] = []

    def act(count: int, pair: tuple[int, ...]) -> tuple[int, ...]:
        current().sales[key()] = count
        return pair

    def undo(pair: tuple[int, ...], result: tuple[int, ...] | None) -> None:
        seen.append(result)
        current().sales.pop(key(), None)

    made = step(name="pairs")(act)
    made.compensator(undo)
    assert_undoes(made, view=lambda x: dict(x.sales), world=new, inputs={"pair": st.just([1, 2])})
    assert (1, 2) in seen
    assert [1, 2] not in seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": {"weight": st.just(1)}}, "has no parameter weight"),
        ({"inputs": st.builds(dict)}, "do(es)? not fit"),
    ],
)
def test_wrong_inputs_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        assert_undoes(sell, view=sold, world=new, **options)


def test_a_step_without_an_undo_is_refused() -> None:
    @step
    def look(count: int) -> None: ...

    with pytest.raises(RequestError, match="has no compensator"):
        assert_undoes(look, view=sold)
    with pytest.raises(RequestError, match="has no probe"):
        assert_probes(look)
    with pytest.raises(RequestError, match="actions=True"):
        assert_commutes(look, look, view=sold, world=new)


# --- assert_idempotent ----------------------------------------------------------------------------------------------


def test_a_step_that_acts_again_is_found() -> None:
    def act(count: int) -> int:
        current().stock -= count
        return count

    message = fails(
        "done twice under one key is done once", assert_idempotent, make_wrong(lambda: None, act=act), inputs=COUNTS
    )
    assert "it should hold {'stock': 4, 'till': 0}, as after the first time" in message


def test_another_result_the_second_time_is_found_unless_it_may_differ() -> None:
    def act(count: int) -> str:
        current().stock -= 0 if key() in current().sales else count
        current().sales[key()] = count
        return str(uuid.uuid4())

    wrong = make_wrong(lambda: None, act=act)
    message = fails("done twice under one key is done once", assert_idempotent, wrong, inputs=COUNTS)
    assert "results=False" in message
    assert_idempotent(wrong, view=sold, world=new, inputs=COUNTS, results=False)


def test_a_duplicate_that_is_refused_is_found() -> None:
    def act(count: int) -> int:
        if key() in current().sales:
            raise Rejected("there is one")
        current().sales[key()] = count
        return count

    message = fails("done twice under one key", assert_idempotent, make_wrong(lambda: None, act=act), inputs=COUNTS)
    assert "the first attempt succeeded, so this one has to" in message


# --- assert_probes --------------------------------------------------------------------------------------------------


def probed(probe: Any) -> Step[..., Any]:
    made = make_wrong(lambda: None)
    made.probe(probe)
    return made


def say_no() -> NotApplied:
    return NotApplied()


@pytest.mark.parametrize(
    ("probe", "law"),
    [
        (lambda count: count, "says that nothing happened if nothing did"),
        (say_no, "gives the result of what happened"),
        (lambda: next(iter(current().sales.values()), NotApplied()), "says that nothing happened if nothing did"),
        (lambda: current().sales[key()], "says that nothing happened if nothing did"),
        (lambda count: current().sales.setdefault(key(), 9), "a probe"),
        (lambda: current().sales.get(key(), NotApplied) and NotApplied, "gives the result of what happened"),
    ],
    ids=["always", "never", "of another saga", "raises", "changes things", "as a class"],
)
def test_a_probe_that_lies_is_found(probe: Any, law: str) -> None:
    fails(law, assert_probes, probed(probe), inputs=COUNTS)


def test_a_probe_that_changes_something_is_found() -> None:
    def probe() -> int | NotApplied:
        current().till += 1
        return current().sales.get(key(), NotApplied())

    fails("a probe only reads", assert_probes, probed(probe), inputs=COUNTS)


# --- assert_commutes ------------------------------------------------------------------------------------------------


def restoring() -> Step[..., Any]:
    """A step whose undo sets back what it found."""

    def act(count: int) -> int:
        before = current().stock
        current().stock -= count
        return before

    def undo(result: int | None) -> None:
        if result is not None:
            current().stock = result

    made = step(name="restoring")(act)
    made.compensator(undo)
    return made


def test_undos_that_overwrite_each_other_are_found() -> None:
    message = fails("undoing in either order is the same", assert_commutes, restoring(), sell, inputs=COUNTS)
    assert "in the other order it holds" in message
    assert "  input: restoring(count=1)\n  input: sell(count=1)" in message


def test_parameters_of_the_same_name_have_the_same_value() -> None:
    seen: set[tuple[int, int]] = set()

    def act(count: int) -> int:
        seen.add((count, current().sales.get("other", count)))
        current().sales["other"] = count
        return count

    one, two = (step(name=f"step-{number}")(act) for number in (1, 2))
    with pytest.raises(AssertionError, match="the view is the same before and after"):
        assert_commutes(one, two, view=sold, world=new, actions=True)
    assert len(seen) > 1
    assert all(first == second for first, second in seen)


def test_the_order_of_actions_matters_on_request() -> None:
    def double() -> None:
        current().till *= 2

    def add() -> None:
        current().till += 1

    one, two = step(name="double")(double), step(name="add-one")(add)
    fails("acting in either order is the same", assert_commutes, one, two, actions=True)


def test_pairs_of_calls_are_inputs_too() -> None:
    pairs = st.tuples(st.builds(sell, st.just(1)), st.builds(sell, st.just(2)))
    assert_commutes(sell, sell, view=sold, world=new, inputs=pairs)
    with pytest.raises(RequestError, match="pairs of calls"):
        assert_commutes(sell, sell, view=sold, world=new, inputs=st.just(1))  # type: ignore[arg-type]


# --- in the transaction of a journal ---------------------------------------------------------------------------------


@dataclass
class Bank:
    engine: Engine = field(default_factory=lambda: create_engine("sqlite://", poolclass=StaticPool))

    def __post_init__(self) -> None:
        self.write("CREATE TABLE account (cents INTEGER, given INTEGER)")
        self.write("INSERT INTO account VALUES (500, 0)")

    def write(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement))

    def held(self) -> list[int]:
        with self.engine.connect() as connection:
            return list(connection.execute(text("SELECT cents FROM account")).scalars())


_bank: list[Bank] = []


def new_bank() -> Bank:
    _bank[:] = [Bank()]
    return _bank[0]


@step(transactional=True)
def draw(session: Session, cents: int) -> None:
    session.connection().execute(text(f"UPDATE account SET cents = cents - {cents}"))
    if cents > 500:
        raise Rejected("not so much")


@draw.compensator
def put(cents: int) -> None:
    _bank[0].write(f"UPDATE account SET cents = cents + {cents} - given, given = {cents}")


@step(transactional=True, name="draw_badly")
def draw_badly(session: Session, cents: int) -> None:
    draw.function(session, cents)


@draw_badly.compensator
def put_again(cents: int) -> None:
    _bank[0].write(f"UPDATE account SET cents = cents + {cents}")


BANK: dict[str, Any] = {"world": new_bank, "view": Bank.held, "database": lambda bank: bank.engine, "examples": 10}
CENTS = {"cents": st.sampled_from([1, 20, 501])}


def test_a_transactional_step_is_done_and_undone_in_its_database() -> None:
    assert_undoes(draw, inputs=CENTS, **BANK)
    with pytest.raises(AssertionError, match="undone twice is undone once — is broken"):
        assert_undoes(draw_badly, inputs=CENTS, **BANK)
    assert_commutes(draw_badly, draw_badly, inputs={"cents": st.integers(1, 9)}, **BANK)


@step(transactional=True)
def draw_within(session: Session, cents: int) -> None:
    draw.function(session, cents)


@draw_within.compensator(transactional=True)
def put_within(session: Session, cents: int) -> None:
    """Needs no note of what it gave."""
    session.connection().execute(text(f"UPDATE account SET cents = cents + {cents}"))


@step
def pay_in(cents: int) -> None:
    _bank[0].write(f"UPDATE account SET cents = cents + {cents}")


@pay_in.compensator(transactional=True)
def pay_out(session: Session, cents: int) -> None:
    session.connection().execute(text(f"UPDATE account SET cents = cents - {cents}"))


def test_a_transactional_undo_undoes_once_in_its_database() -> None:
    assert_undoes(draw_within, inputs=CENTS, **BANK)
    assert_commutes(draw_within, draw_within, inputs={"cents": st.integers(1, 9)}, **BANK)
    with pytest.raises(AssertionError, match="what was delivered twice is undone as once — is broken"):
        assert_undoes(pay_in, inputs=CENTS, **BANK)
    with pytest.raises(RequestError, match="compensator pay_out of step pay_in is transactional: say which database"):
        assert_undoes(pay_in, view=Bank.held, world=new_bank)


def test_a_transactional_step_needs_a_database_and_acts_once_anyhow() -> None:
    with pytest.raises(RequestError, match="say which database of the world it writes to"):
        assert_undoes(draw, view=Bank.held, world=new_bank)
    with pytest.raises(RequestError, match="it acts once, whatever goes wrong"):
        assert_idempotent(draw, view=Bank.held, world=new_bank)
