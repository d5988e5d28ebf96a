"""Each way to break an undo is killed by checks that look, survives those that do not, and is harmless if it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import anyio
import pytest
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import create_engine, text
from sqlalchemy.pool import StaticPool

from sagas import Retry, current_step, gather, saga, step
from sagas.testing import CheckFailed, Mutants, assert_undos_tested, mutate
from sagas.testing.altering import SAME, alter, altered_field
from sagas.testing.contents import contents_of, difference


@dataclass(frozen=True, slots=True)
class Order:
    item: str
    count: int


@dataclass
class Shop:
    stock: dict[str, int] = field(default_factory=lambda: {"lamp": 9, "desk": 9})
    reserved: dict[str, int] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    money: int = 0
    charges: dict[str, int] = field(default_factory=dict)
    refunds: set[str] = field(default_factory=set)
    parcels: list[str] = field(default_factory=list)


_shop: list[Shop] = [Shop()]


def shop() -> Shop:
    return _shop[0]


def new() -> Shop:
    _shop[0] = Shop()
    return _shop[0]


@step
async def reserve(order: Order) -> int:
    key = current_step().idempotency_key
    if key not in shop().reserved and key not in shop().voided:
        shop().stock[order.item] -= order.count
        shop().reserved[key] = order.count
    return order.count


@reserve.compensator
async def release(order: Order, result: int | None) -> None:
    """Undone by its key; the result is not needed."""
    key = current_step().undoes
    assert key is not None
    shop().voided.add(key)
    if shop().reserved.pop(key, None) is not None:
        shop().stock[order.item] += order.count


@step
def charge(cents: int, fee: int) -> str:
    key = current_step().idempotency_key
    if key not in shop().charges:
        shop().charges[key] = cents + fee
        shop().money += cents + 2 * fee
    return key


@charge.compensator
def refund(cents: int, fee: int) -> None:
    own = current_step()
    if own.undoes in shop().charges and own.idempotency_key not in shop().refunds:
        shop().refunds.add(own.idempotency_key)
        shop().money -= cents + 2 * fee


@step
async def ship(order: Order) -> None:
    if order.item not in shop().parcels:
        shop().parcels.append(order.item)


@ship.compensator
async def call_back(order: Order) -> None:
    if order.item in shop().parcels:
        shop().parcels.remove(order.item)


@step
async def write_down() -> None: ...


@write_down.compensator
async def nothing_to_undo() -> None:
    """What is written down may stay."""


@step
async def finish() -> None: ...


@saga
async def place_order(order: Order, cents: int, fee: int) -> None:
    await reserve(order)
    await charge(cents, fee)
    await ship(order)
    await write_down()
    await finish()


INPUTS: dict[str, st.SearchStrategy[Any]] = {
    "order": st.builds(Order, item=st.sampled_from(["lamp", "desk"]), count=st.integers(1, 3)),
    "cents": st.integers(100, 500),
    "fee": st.integers(1, 9),
}


def everything(world: Shop) -> object:
    return world.stock, world.money, world.parcels


def stock_alone(world: Shop) -> object:
    return world.stock, world.parcels


def broken(view: Any = everything, **options: Any) -> Mutants:
    return mutate(place_order, inputs=INPUTS, world=new, view=view, seed=1, runs=50, **options)


def names(mutants: Any) -> set[str]:
    return {x.name for x in mutants}


@pytest.fixture(scope="module")
def seen() -> Mutants:
    return broken()


@pytest.fixture(scope="module")
def unseen() -> Mutants:
    return broken(stock_alone)


# --- breakages ------------------------------------------------------------------------------------------------------


def test_checks_that_look_at_everything_notice_everything(seen: Mutants) -> None:
    assert not seen.survivors, str(seen)
    assert not seen.unreached
    assert not seen.never_undone


@pytest.mark.parametrize(
    "breakage",
    [
        "does nothing",
        "does nothing in doubt",
        "acts twice under two keys",
        "gets a wrong cents (one more)",
        "gets a wrong fee (one more)",
        "swaps cents and fee",
        "stops before `shop().money -= cents + 2 * fee`",
    ],
)
def test_a_breakage_is_killed_by_a_good_view_and_survives_a_poor_one(
    seen: Mutants, unseen: Mutants, breakage: str
) -> None:
    assert f"refund {breakage}" in names(seen.killed)
    assert f"refund {breakage}" in names(unseen.survivors)


def test_a_survivor_says_what_nobody_looks_at(unseen: Mutants) -> None:
    found = next(x for x in unseen.survivors if x.name == "refund does nothing")
    assert (found.step, found.undo) == ("charge", "refund")
    assert "money is " in found.why
    assert "instead of 0" in found.why
    assert "view=" in found.advice
    assert found.runs > 1
    text = str(unseen)
    assert "nothing notices if refund does nothing" in text
    assert found.advice in text


def test_fields_of_a_record_are_altered_one_by_one(seen: Mutants) -> None:
    assert {"release gets a wrong order.item (another one)", "release gets a wrong order.count (one more)"} <= names(
        seen.killed
    )


def test_undos_that_change_places_are_killed_if_the_world_refuses_that() -> None:
    @step
    async def deliver() -> None:
        shop().parcels = ["lamp"]

    @deliver.compensator
    async def fetch() -> None:
        shop().parcels = []

    @saga
    async def delivering(order: Order) -> None:
        await sold_out(order)
        await deliver()
        await finish()

    @step
    async def sold_out(order: Order) -> None:
        shop().stock[order.item] = 0

    @sold_out.compensator
    async def sell(order: Order) -> None:
        if shop().parcels:
            raise RuntimeError("what is on its way cannot be sold")
        shop().stock[order.item] = 9

    found = mutate(delivering, inputs={"order": INPUTS["order"]}, world=new, view=everything, runs=40, seed=1)
    assert "fetch runs after sell instead of before it" in names(found.killed)


def test_an_order_that_matters_only_in_between_is_noticed_by_always(seen: Mutants) -> None:
    name = "call_back runs after refund instead of before it"
    assert name in names(seen.harmless)

    def what_is_on_its_way_is_paid(world: Shop) -> bool:
        return not (world.parcels and world.refunds)

    assert name in names(broken(always=[what_is_on_its_way_is_paid]).killed)


def test_an_undo_that_knows_its_key_may_run_twice(seen: Mutants, unseen: Mutants) -> None:
    assert "release acts twice under two keys" in names(seen.harmless)
    assert "release acts twice under two keys" in names(unseen.harmless)


def test_an_argument_that_makes_no_difference_is_harmless(seen: Mutants) -> None:
    assert {"release gets no result", "release gets a wrong result (one more)"} <= names(seen.harmless)


def test_an_undo_that_is_written_to_do_nothing_is_not_broken(seen: Mutants) -> None:
    assert "nothing_to_undo" not in {x.undo for x in seen.all}


def test_an_invariant_notices_as_well_as_a_view() -> None:
    def money_is_whole(world: Shop) -> bool:
        kept = sum(x for key, x in world.charges.items() if f"{key}:undo" not in world.refunds)
        return bool(kept) == bool(world.money)

    assert "refund does nothing" in names(broken(stock_alone, invariants=[money_is_whole]).survivors)

    def no_refund_is_missing(world: Shop, run: Any) -> bool:
        return run.status != "compensated" or not world.money

    assert "refund does nothing" in names(broken(stock_alone, invariants=[no_refund_is_missing]).killed)


# --- the assertion --------------------------------------------------------------------------------------------------


def test_the_assertion_lists_what_goes_unnoticed() -> None:
    options: Any = {"inputs": INPUTS, "world": new, "seed": 1, "runs": 50}
    with pytest.raises(AssertionError, match="breakages of its compensators go unnoticed") as failure:
        assert_undos_tested(place_order, view=stock_alone, **options)
    assert "nothing notices if refund does nothing in doubt" in str(failure.value)


def test_survivors_can_be_accepted(unseen: Mutants) -> None:
    found = assert_undos_tested(
        place_order, view=stock_alone, inputs=INPUTS, world=new, seed=1, runs=50, accept=names(unseen.survivors)
    )
    assert found.killed


def test_the_unbroken_saga_has_to_hold() -> None:
    def nonsense(world: Shop) -> bool:
        return world.money < 0

    with pytest.raises(CheckFailed, match="has to hold before its compensators are broken") as failure:
        broken(invariants=[nonsense])
    assert failure.value.law == "nonsense"


def test_an_undo_that_no_run_reaches_is_told() -> None:
    @step(pivot=True)
    async def decide() -> None: ...

    @step
    async def after() -> None: ...

    @after.compensator
    async def never() -> None:
        shop().money -= 1

    @saga
    async def decided() -> None:
        await decide()
        await after()

    found = mutate(decided, world=new, view=everything, runs=40, seed=1)
    assert found.never_undone == ("after",)
    assert "step after is undone in no run" in str(found)
    with pytest.raises(AssertionError, match="step after is undone in no run"):
        assert_undos_tested(decided, world=new, view=everything, runs=40, seed=1)


def test_an_undo_that_acts_elsewhere_is_told() -> None:
    elsewhere: list[str] = []

    @step
    async def act() -> None: ...

    @act.compensator
    async def undo() -> None:
        elsewhere.append("undone")

    @saga
    async def acting() -> None:
        await act()
        await finish()

    found = mutate(acting, world=new, view=everything, runs=40, seed=1)
    assert [x.breakage for x in found.survivors] == ["does nothing"]
    assert "somewhere else" in found.survivors[0].why
    blind = mutate(acting, runs=40, seed=1)
    assert "nobody can look inside the world" in blind.survivors[0].why


def test_a_line_that_no_run_comes_by_is_told() -> None:
    @step
    async def act() -> None:
        shop().money = 1

    @act.compensator
    async def undo() -> None:
        shop().money = 0
        if shop().stock == {}:
            shop().money = 7

    @saga
    async def acting() -> None:
        await act()
        await finish()

    found = mutate(acting, world=new, view=everything, runs=40, seed=1)
    assert names(found.unreached) == {"undo stops before `shop().money = 7`"}
    assert not found.survivors


def test_doubt_that_no_run_reaches_was_not_tried() -> None:
    """An atomic step has acted only if it says so, so what it does not say is no harm."""

    @step(atomic=True)
    async def act() -> int:
        shop().money = 1
        return 1

    @act.compensator
    async def undo(result: int | None) -> None:
        if result is not None:
            shop().money = 0

    @saga
    async def acting() -> None:
        await act()
        await finish()

    found = mutate(acting, world=new, view=everything, runs=40, seed=1)
    blind = next(x for x in found.all if x.breakage == "does nothing in doubt")
    assert (blind.fate, blind.why) == (
        "never reached",
        "not tried: in no run the step acted and was undone without its result",
    )
    assert blind.why in str(found)


def test_what_is_tried_for_ever_is_put_in_doubt_and_cancelled() -> None:
    @step(retry=Retry(attempts=None))
    async def act() -> None:
        shop().money = 1

    @act.compensator
    async def undo() -> None:
        shop().money = 0

    @saga
    async def acting() -> None:
        await act()
        await finish()

    found = mutate(acting, world=new, view=everything, runs=5, seed=1)
    assert "undo does nothing in doubt" in names(found.killed)


def test_an_asynchronous_undo_is_stopped_between_its_awaits() -> None:
    @step
    async def act() -> None:
        shop().money, shop().parcels = 1, ["lamp"]

    @act.compensator
    async def undo() -> None:
        shop().money = 0
        await anyio.sleep(1)
        shop().parcels = []

    @saga
    async def acting() -> None:
        await act()
        await finish()

    found = mutate(acting, world=new, view=lambda x: x.money, runs=40, seed=1)
    assert {"undo stops before `await anyio.sleep(1)`", "undo stops before `shop().parcels = []`"} <= names(
        found.survivors
    )
    assert "undo stops before `shop().parcels = []`" in names(
        mutate(acting, world=new, view=everything, runs=40, seed=1).killed
    )


def test_steps_side_by_side_have_no_order_to_break() -> None:
    @saga
    async def both(order: Order, cents: int, fee: int) -> None:
        await gather(reserve(order), charge(cents, fee))
        await finish()

    found = mutate(both, inputs=INPUTS, world=new, view=everything, runs=40, seed=1)
    assert {x.undo for x in found.killed} == {"release", "refund"}
    assert not any("instead of before it" in x.breakage for x in found.all)


# --- what they are made of ------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    one: int
    two: str


class Model(BaseModel):
    one: int


@pytest.mark.parametrize("value", [True, 1, 1.5, "x", b"x", (1, 2), [1], {"a": 1}, {1}, frozenset({1})])
def test_what_is_altered_keeps_its_type_and_is_another_one(value: Any) -> None:
    assert type(alter(value)) is type(value)
    assert alter(value) != value


@pytest.mark.parametrize("value", [None, (), [], {}, object()])
def test_some_values_have_no_other_one(value: Any) -> None:
    assert alter(value) is SAME


@pytest.mark.parametrize("record", [Order("lamp", 1), Pair(1, "x"), Model(one=1)])
def test_a_field_is_altered_in_a_copy(record: Any) -> None:
    before = repr(record)
    name = "count" if isinstance(record, Order) else "one"
    changed = altered_field(record, name)
    assert getattr(changed, name) == 2
    assert repr(record) == before


def test_what_a_world_holds_can_be_compared() -> None:
    one, two = Shop(), Shop(money=3, parcels=["lamp"])
    two.stock = {"lamp": 9}
    found = difference(contents_of(two) or {}, contents_of(one) or {})
    assert set(found.values()) == {
        "money is 3 instead of 0",
        "parcels[0] is 'lamp', and should not be there",
        "stock['desk'] is missing, and was 9",
    }
    assert not difference(contents_of(one) or {}, contents_of(replace(one)) or {})


def test_a_sqlite_database_can_be_looked_into() -> None:
    @contextmanager
    def database() -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(":memory:")) as made:
            made.execute("CREATE TABLE stock (item TEXT, count INTEGER)")
            yield made

    with database() as one, database() as two:
        two.execute("INSERT INTO stock VALUES ('lamp', 1)")
        found = difference(contents_of(two) or {}, contents_of(one) or {})
        assert any("lamp" in x for x in found.values())


def test_a_sqlite_database_of_an_engine_can_be_looked_into() -> None:
    one, two = (create_engine("sqlite://", poolclass=StaticPool) for _ in range(2))
    for engine in (one, two):
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE stock (item TEXT)"))
            connection.execute(text("INSERT INTO stock VALUES (:item)"), {"item": "lamp" if engine is two else "desk"})
    assert not difference(contents_of({"db": one}) or {"": 1}, contents_of({"db": one}) or {})
    assert any("lamp" in x for x in difference(contents_of({"db": two}) or {}, contents_of({"db": one}) or {}).values())


def test_what_nobody_can_look_into_is_not_compared() -> None:
    assert contents_of(None) is None
    assert contents_of({"gate": iter([1])}) is None


def test_a_world_may_hold_itself() -> None:
    world: list[Any] = []
    world.append(world)
    assert contents_of(world) is not None
