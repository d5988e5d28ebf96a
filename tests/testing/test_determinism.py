"""A body that does something else the next time is found, and the line that does it is named."""

# ruff: noqa: DTZ005, DTZ011, ICN001, PLC0208 - wall clocks, however imported, and sets are what is wrong here
from __future__ import annotations

import datetime
import datetime as dt
import functools
import linecache
import logging
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from datetime import datetime as clock
from decimal import Decimal
from enum import Enum
from random import random as chance
from typing import Any

import pytest

from sagas import gather, lock, map_each, now, record, saga, scope, sleep, step
from sagas import random as replayed_random
from sagas import uuid4 as replayed_uuid4
from sagas.core.definitions import Saga
from sagas.testing import CheckFailed, check
from tests.testing import wrong_helpers
from tests.testing.wrong_helpers import Calendar, is_weekend

LAW = "a body does the same every time"


class Color(Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


@dataclass
class Order:
    id: int
    tags: set[str] = field(default_factory=lambda: {"a", "b", "c"})

    def is_early(self) -> bool:
        return clock.now().hour < 12  # here: Order.is_early


@step
async def take(what: str) -> str:
    return what


@take.compensator
async def give_back(what: str) -> None: ...


@step
async def count(number: float) -> float:
    return number


@step
async def pack(items: set[str]) -> set[str]:
    return items


# --- the wall clock -------------------------------------------------------------------------------------------------


@saga
async def today_decides(order: int) -> None:
    await take(str(datetime.datetime.now().date()))  # here


@saga
async def hour_decides(order: int) -> None:
    if clock.now().hour < 12:  # here
        await take("morning")
    await take("any time")


@saga
async def date_of_module_decides(order: int) -> None:
    day = dt.date.today()  # here
    await take("x" if day.year > 2050 else "y")


@saga
async def date_by_name_decides(order: int) -> None:
    await take("first")
    if date.today().year > 2050:  # here
        await sleep(5)
    await take("second")


@saga
async def seconds_decide(order: int) -> None:
    began = time.monotonic()
    await take("first")
    if time.monotonic() - began > 60:  # here
        await take("late")
    await take("second")


@saga
async def clock_imported_inside_decides(order: int) -> None:
    from time import gmtime

    await count(float(gmtime().tm_year))  # here


@saga
async def calendar_decides(order: int) -> None:
    await take("odd" if Calendar().is_odd else "even")


@saga
async def helper_elsewhere_decides(order: int) -> None:
    await take("rest" if is_weekend() else "work")


@saga
async def helper_of_a_module_decides(order: int) -> None:
    await take(wrong_helpers.season())


@saga
async def method_of_the_input_decides(order: Order) -> None:
    await take("early" if order.is_early() else "late")


# --- chance ---------------------------------------------------------------------------------------------------------


@saga
async def chance_decides_seldom(order: int) -> None:
    if random.random() < 0.01:  # here
        await take("lucky")
    await take("any")


@saga
async def chance_by_name_decides_seldom(order: int) -> None:
    await take("lucky" if chance() > 0.999 else "any")  # here


@saga
async def choice_decides(order: int) -> None:
    await take(random.choice(["same"] * 50 + ["other"]))  # here


GENERATOR = random.Random(7)


@saga
async def a_generator_of_the_module_decides(order: int) -> None:
    if GENERATOR.randrange(10_000) == 0:  # here
        await take("lucky")
    await take("any")


@saga
async def a_new_generator_decides(order: int) -> None:
    rng = random.Random()
    await take("lucky" if rng.randint(1, 1000) == 1000 else "any")  # here


@saga
async def a_secret_decides(order: int) -> None:
    if secrets.randbelow(1000) == 0:  # here
        await take("lucky")
    await take("any")


@saga
async def a_new_id_is_handed_out(order: int) -> None:
    await take(str(uuid.uuid4()))  # here


@saga
async def an_id_decides(order: int) -> None:
    await take("few" if uuid.uuid4().hex < "01" else "most")  # here


# --- the process ----------------------------------------------------------------------------------------------------


@saga
async def the_process_decides(order: int) -> None:
    await take(f"worker {os.getpid()}")  # here


@saga
async def a_hash_decides(order: int) -> None:
    await take("left" if hash(f"order {order}") % 2 else "right")  # here


@saga
async def a_setting_decides(order: int) -> None:
    await take(os.environ["PATH"][:1])  # here


@saga
async def a_setting_by_function_decides(order: int) -> None:
    await take(os.getenv("PATH", "")[:1])  # here


# --- sets -----------------------------------------------------------------------------------------------------------


@saga
async def a_set_is_walked(order: int) -> None:
    for sku in {"apple", "pear"}:  # here
        await take(sku)


@saga
async def a_set_of_a_call_is_listed(order: int) -> None:
    skus = set(["apple", "pear", "apple"])  # noqa: C405 - as written by many
    await gather(*[take(sku) for sku in skus])  # here


KNOWN = frozenset({"apple", "pear"})


@saga
async def a_set_of_the_module_is_walked(order: int) -> None:
    await map_each(take, KNOWN)  # here


@saga
async def a_set_of_the_input_is_walked(order: Order) -> None:
    await take("-".join(order.tags))  # here


@saga
async def a_set_of_keys_is_walked(order: int) -> None:
    stock, wanted = {"apple": 1, "pear": 2}, {"pear": 1, "apple": 5}
    for sku in stock.keys() & wanted.keys():  # here
        await take(sku)


@saga
async def the_first_of_a_set_is_taken(order: int) -> None:
    colors = {color for color in Color if color is not Color.RED}
    await take(next(iter(colors)).name)  # here


@saga
async def a_set_is_popped(order: int) -> None:
    left = {"apple", "pear"} | {"plum"}
    while left:
        await take(left.pop())  # here


# --- what is shared -------------------------------------------------------------------------------------------------

SEEN: list[int] = []
COUNTS: dict[str, int] = {"runs": 0}
number = 0


@saga
async def a_list_of_the_module_grows(order: int) -> None:
    SEEN.append(order)
    if len(SEEN) > 1:
        await take("not the first")  # here
    await take("any")


@saga
async def a_dictionary_of_the_module_counts(order: int) -> None:
    COUNTS["runs"] += 1
    await count(COUNTS["runs"])  # here


@saga
async def a_global_counts(order: int) -> None:
    global number  # noqa: PLW0603 - it is wrong
    number += 1
    if number > 1:
        return  # here
    await take("first")


# --- where ----------------------------------------------------------------------------------------------------------


async def helper(what: str) -> None:
    await take("before")
    if random.random() < 0.001:  # here: helper_decides
        await take("lucky")
    await take(what)


@saga
async def helper_decides(order: int) -> None:
    await helper("any")


@saga
async def branch_decides(order: int) -> None:
    async def branch() -> None:
        await take("in a branch")
        await count(COUNTS.setdefault("branches", 0))  # here
        COUNTS["branches"] += 1

    await gather(take("beside"), branch())


@saga
async def child(order: int) -> None:
    await take("in a child")
    COUNTS["children"] = COUNTS.get("children", 0) + 1
    await count(COUNTS["children"])  # here: child_decides


@saga
async def child_decides(order: int) -> None:
    async with scope():
        await child(order)


def announced(function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    async def announce(*args: Any, **kwargs: Any) -> Any:
        logging.getLogger("tests").debug("starts at %s", time.time())
        return await function(*args, **kwargs)

    return announce


@saga
@announced
async def decorated_body_decides(order: int) -> None:
    if clock.now().minute < 30:  # here
        await take("early")
    await take("any")


def make_local() -> Saga[..., Any]:
    from datetime import datetime as inner

    limit = 12

    @saga
    async def local_body_decides(order: int) -> None:
        if inner.now().hour >= limit:  # here: local_body_decides
            await take("late")
        await take("any")

    return local_body_decides


WRONG = {
    today_decides: "",
    hour_decides: "another wall clock",
    date_of_module_decides: "another wall clock",
    date_by_name_decides: "another wall clock",
    seconds_decide: "another wall clock",
    clock_imported_inside_decides: "another wall clock",
    calendar_decides: "another wall clock",
    helper_elsewhere_decides: "another wall clock",
    helper_of_a_module_decides: "another wall clock",
    method_of_the_input_decides: "another wall clock",
    chance_decides_seldom: "other random numbers",
    chance_by_name_decides_seldom: "other random numbers",
    choice_decides: "",
    a_generator_of_the_module_decides: "other random numbers",
    a_new_generator_decides: "other random numbers",
    a_secret_decides: "other random numbers",
    a_new_id_is_handed_out: "",
    an_id_decides: "other random numbers",
    the_process_decides: "another process",
    a_hash_decides: "another process",
    a_setting_decides: "other environment variables",
    a_setting_by_function_decides: "other environment variables",
    a_set_is_walked: "sets in another order",
    a_set_of_a_call_is_listed: "sets in another order",
    a_set_of_the_module_is_walked: "sets in another order",
    a_set_of_the_input_is_walked: "sets in another order",
    a_set_of_keys_is_walked: "sets in another order",
    the_first_of_a_set_is_taken: "sets in another order",
    a_set_is_popped: "sets in another order",
    a_list_of_the_module_grows: "",
    a_dictionary_of_the_module_counts: "",
    a_global_counts: "",
    helper_decides: "other random numbers",
    branch_decides: "",
    child_decides: "",
    decorated_body_decides: "another wall clock",
    make_local(): "another wall clock",
}
ELSEWHERE = {
    "calendar_decides": "calendar",
    "helper_elsewhere_decides": "is_weekend",
    "helper_of_a_module_decides": "season",
    "method_of_the_input_decides": "Order.is_early",
}


def place_of(name: str) -> str:
    """Finds the line that is marked as the wrong one."""
    mark = ELSEWHERE.get(name, name)
    for file in (__file__, wrong_helpers.__file__):
        inside = False
        for line, text in enumerate(linecache.getlines(file), 1):
            inside = text.startswith(f"async def {name}(") or (inside and not text.startswith(("async def", "@")))
            if f"# here: {mark} " in f"{text.rstrip()} " or (inside and "# here" in text and "# here:" not in text):
                return f"{file}:{line} "
    raise AssertionError(name)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_a_body_that_depends_on_its_surroundings_is_found(wrong: Saga[..., Any]) -> None:
    with pytest.raises(CheckFailed) as caught:
        check(wrong, runs=50, seed=1)
    assert caught.value.law == LAW
    assert caught.value.run is not None
    how = next(x.how for x in caught.value.run.broken if x.law == LAW)
    assert place_of(wrong.name) in f"{how} ", how
    assert WRONG[wrong] in how


# --- bodies that only look as if ------------------------------------------------------------------------------------


@saga
async def replayed_values_decide(order: int) -> None:
    moment = await now()
    await take("early" if moment.hour < 12 else "late")
    if await replayed_random() < 0.5:
        await take(str(await replayed_uuid4()))


@saga
async def a_recorded_clock_decides(order: int) -> None:
    moment = await record(datetime.datetime.now, datetime.datetime)
    await take("early" if moment.hour < 12 else "late")


@saga
async def the_clock_is_only_logged(order: int) -> None:
    began = time.perf_counter()
    await take("x")
    logging.getLogger("tests").debug("%s at %s took %s", uuid.uuid4(), clock.now(), time.perf_counter() - began)


@saga
async def sets_are_used_without_their_order(order: Order) -> str:
    prices = {Decimal("1.10"), Decimal("2.20"), Decimal("3.30")}
    colors = {Color.RED, Color.GREEN, Color.BLUE} - {Color.RED}
    for tag in sorted(order.tags | {"z"}):
        await take(tag)
    await take(str(sum(prices)) if Color.RED not in colors else "none")
    return ",".join(sorted(color.name for color in colors))


@saga
async def a_set_is_an_argument_and_a_result(order: Order) -> set[str]:
    packed = await pack(order.tags | {"x", "y"})
    assert packed == order.tags | {"y", "x"}
    return {tag for tag in packed if tag > "b"}


@saga
async def numbers_in_a_set_have_their_order(order: int) -> None:
    for number in {3, 1, 2}:
        await count(number)


@saga
async def a_seeded_generator_decides(order: int) -> None:
    rng = random.Random(order)
    await count(rng.randrange(1_000_000))
    items = ["a", "b", "c", "d"]
    rng.shuffle(items)
    await take(items[0])


@saga
async def a_given_time_is_written(order: int) -> None:
    moment = clock.fromtimestamp(1_700_000_000, datetime.UTC) + datetime.timedelta(days=order % 100)
    await take(time.strftime("%Y", time.gmtime(1_700_000_000)) + moment.isoformat())
    await take(str(isinstance(moment, clock)) + str(date(2024, 1, 1)) + str(uuid.uuid5(uuid.NAMESPACE_DNS, "x")))


LABELS = {"a": "A", "b": "B"}


@saga
async def constants_of_the_module_decide(order: int) -> None:
    for key, label in LABELS.items():
        await take(key + label)
    if "apple" in KNOWN:
        await take("known")


def items_of(order: int) -> Iterator[str]:
    seen: set[str] = set()
    for name in ["a", "b", "a"]:
        if name not in seen:
            seen.add(name)
            yield name


@saga
async def a_generator_function_remembers(order: int) -> None:
    await gather(*(take(name) for name in items_of(order)))
    memo = {id(order): 1}
    assert id(order) in memo


class Plan:
    def __init__(self, *names: str) -> None:
        self.names = names

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.names == other.names

    def __hash__(self) -> int:
        return hash(self.names)


PLANS = {Plan("a"): "first", Plan("b"): "second"}


@saga
async def a_table_is_read_by_hash(order: int) -> None:
    await take(PLANS[Plan("a" if order % 2 else "b")])


RIGHT = [
    replayed_values_decide, a_recorded_clock_decides, the_clock_is_only_logged, sets_are_used_without_their_order,
    a_set_is_an_argument_and_a_result, numbers_in_a_set_have_their_order, a_seeded_generator_decides,
    a_given_time_is_written, constants_of_the_module_decide, a_generator_function_remembers, a_table_is_read_by_hash,
]  # fmt: skip


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.name)
def test_a_body_that_only_looks_as_if_passes(right: Saga[..., Any]) -> None:
    report = check(right, runs=80, coverage=0.0, seed=1)
    assert report.coverage.runs > 10


@step(pivot=True)
async def settle(order: int) -> None: ...


async def take_alone() -> None:
    async with lock("shelf"):
        await take("x")


async def refuse_odd(order: int) -> None:
    if order % 2:
        raise ValueError("odd")


@saga
async def a_branch_fails_beside_a_lock_beyond_the_pivot(order: int) -> None:
    await settle(order)
    await gather(take_alone(), refuse_odd(order))


def test_what_a_body_asked_for_on_its_way_out_is_not_held_against_it() -> None:
    """Better code may not ask for the lock, so the journal does not say that it was asked for."""
    with pytest.raises(CheckFailed, match="odd") as failed:
        check(a_branch_fails_beside_a_lock_beyond_the_pivot, runs=20, coverage=0.0, seed=1)
    assert LAW not in str(failed.value)


def test_a_body_without_its_source_is_replayed_as_it_is() -> None:
    space: dict[str, Any] = {"saga": saga, "take": take, "chance": chance, "__name__": "tests.nowhere"}
    exec("@saga\nasync def lost(order: int) -> None:\n    await take('x' if chance() < 2 else 'y')\n", space)  # noqa: S102 - as a notebook does
    assert check(space["lost"], runs=30, coverage=0.0).coverage.runs > 10


def test_a_body_is_left_as_it_was() -> None:
    code, names = a_set_is_walked.function.__code__, set(globals())
    with pytest.raises(CheckFailed):
        check(a_set_is_walked, runs=20)
    assert a_set_is_walked.function.__code__ is code
    assert type(KNOWN) is frozenset
    assert set(globals()) == names
