"""What somebody gets wrong about a check is told: what, where, and what to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st

from sagas import saga, step
from sagas.errors import RequestError
from sagas.testing import CheckFailed, Fault, Simulator, check, mutate, play
from tests.testing.counter import Shop, buy, new_shop, shop, take, total

FEW = {"items": st.integers(1, 3)}


@contextmanager
def opened() -> Generator[Shop]:
    yield new_shop()


@asynccontextmanager
async def opened_later() -> AsyncGenerator[Shop]:
    yield new_shop()


async def made_later() -> Shop:
    return new_shop()


class Opaque:
    """Compared by identity."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": lambda world: world.nothing}, r"view= raised AttributeError: .*at the end of @reproduce\(buy"),
        ({"view": lambda _: Opaque()}, "not even equal to a copy of itself: its class has no __eq__"),
        ({"view": lambda _: float("nan")}, "not even equal to a copy of itself"),
        ({"view": lambda world: world.taken.values()}, r"view= gave dict_values\(.*cannot be copied"),
        ({"view": 7}, "view= has to be a function that takes the world, and 7 is none"),
        ({"invariants": total}, "invariants= has to be a list of functions"),
        ({"always": [True]}, "always= has to be a list of functions"),
        ({"world": Shop()}, "is one already: give what makes it, such as world=Shop or"),
        ({"world": opened()}, "of a @contextmanager the function, and not its call"),
        ({"world": made_later}, "make the world without `async`"),
        ({"world": opened_later}, "make the world without `async`"),
        ({"runs": 0}, "runs= .* has to be 1 or more, and not 0"),
        ({"seed": "a"}, "seed= has to be a whole number, .* and not 'a'"),
        ({"coverage": 90}, "coverage= is a share, from 0 to 1, and not 90"),
    ],
)
def test_a_check_says_what_is_wrong_with_its_arguments(options: dict[str, Any], message: str) -> None:
    every: dict[str, Any] = {"inputs": FEW, "world": new_shop, "view": total, "runs": 30, "seed": 1, **options}
    with pytest.raises(RequestError, match=message):
        check(buy, **every)


def test_mutate_says_it_too() -> None:
    with pytest.raises(RequestError, match="runs= "):
        mutate(buy, inputs=FEW, world=new_shop, runs=0)
    with pytest.raises(RequestError, match="world= "):
        mutate(buy, inputs=FEW, world=Shop())  # type: ignore[arg-type]


def test_a_misspelt_argument_is_refused() -> None:
    misspelt: dict[str, Any] = {"wrold": new_shop}
    with pytest.raises(TypeError, match=r"there is no argument wrold=; did you mean world="):
        mutate(buy, **misspelt)
    with pytest.raises(TypeError, match=r"there is no argument wrold=; did you mean world="):
        play(buy(items=1), **misspelt)
    with pytest.raises(TypeError, match=r"there is no argument deployed=; did you mean deploys="):
        Simulator(buy, deployed=[buy])  # type: ignore[call-arg]  # what it was called once


def test_the_seed_of_the_environment_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGAS_SEED", "seven")
    with pytest.raises(RequestError, match="SAGAS_SEED has to be a whole number, and is 'seven'"):
        check(buy, inputs=FEW, world=new_shop)


def test_a_saga_without_parameters_has_no_inputs() -> None:
    @saga
    async def buy_one() -> int:
        return await take(1)

    with pytest.raises(RequestError, match=r"saga .*buy_one.* has no parameters, and inputs= gave 0 for one; leave"):
        check(buy_one, inputs=st.integers(), world=new_shop)


def test_a_step_that_needs_more_than_its_world_is_named() -> None:
    """The world in which only what is left of a run happens is a new one."""
    kept: list[str] = []

    @step
    async def note(items: int) -> None:
        assert len(kept) < 1, "only once"
        kept.append("it")
        shop().stock -= items

    @saga
    async def once(items: int) -> None:
        await note(items)

    with pytest.raises(RequestError, match=r"step note succeeded in a run, and in a new world .* AssertionError"):
        check(once, inputs=FEW, world=new_shop, view=total, seed=1)


def test_a_saga_that_calls_itself_without_end_is_told() -> None:
    @saga
    async def dig(items: int) -> None:
        await dig(items)

    report = check(dig, inputs=FEW, runs=3, coverage=0.0, seed=1)
    assert "no run completed" in str(report)
    assert "200 deep in others: a saga that calls itself has to end before that" in str(report)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault("error", at="tke"), "there is no place 'tke'; did you mean 'take'?"),
        (Fault("error", at="undo of tak"), "there is no place 'undo of tak'; did you mean 'undo of take'?"),
        (Fault("error", at="undo of take"), "the run did not come by undo of take; have something fail"),
        (Fault("error", at="take", nth=5), "the run came by take only 2 times"),
        (Fault("never", at="take"), "at take there can be only: rejected, error, lost reply"),
        (Fault("error", at="pay"), "there is no place 'pay'\n"),
    ],
)
def test_a_planned_fault_that_cannot_happen_says_why(fault: Fault, why: str) -> None:
    with pytest.raises(CheckFailed) as failed:
        play(buy(items=1), fault, world=new_shop)
    assert why in str(failed.value)
    assert "this run came by: start, commit (3 times), take (2 times)" in str(failed.value)


def test_a_report_cuts_long_lists_and_counts_the_rest() -> None:
    report = check(buy, inputs=FEW, world=new_shop, view=total, runs=2, coverage=0.0, seed=1)
    last = str(report).splitlines()[-1]
    left = len(report.coverage.missing) - 12
    assert last.startswith("faults that never happened: ")
    assert last.endswith(f"; and {left} more")
    assert left > 0


def test_a_report_names_the_steps_that_leave_something_behind() -> None:
    @step
    async def tell(items: int) -> None: ...

    @step
    async def fail(items: int) -> None:
        raise KeyError(items)

    @saga
    async def tell_and_fail(items: int) -> None:
        await take(items)
        await tell(items)
        await fail(items)

    report = check(tell_and_fail, inputs=FEW, world=new_shop, view=total, runs=5, coverage=0.0, seed=1)
    assert report.left_behind == ("tell",)
    assert "whose effects stay when a saga is compensated: tell" in str(report)
