"""Random saga bodies: plans as data, one saga that carries any of them out, and what a plan says about order.

A plan is a JSON list whose first item names what to do:

``["do", tag, step, ends, undoes]``  call a step; how its attempts and undos end is written into the call
``["seq", *plans]``                  one after the other
``["gather" | "race", *plans]``      side by side
``["map", limit, *plans]``           side by side, at most ``limit`` at a time (0: all)
``["scope" | "child", plan]``        in a scope, in a child saga
``["try", tag, plan, handler]``      catch whatever the plan raises, then carry out the handler
``["lock", hold, name, plan]``       while holding a lock; how a host answers is written into the name
``["sleep", seconds]``, ``["receive", timeout]`` (0: none), ``["draw"]``, ``["raise"]``
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import Any, TypeAlias

from hypothesis import strategies as st

from sagas import Rejected, gather, lock, map_each, now, race, random, receive, record, saga, scope, sleep, step, uuid4

__all__ = [
    "NESTED", "STEPS", "Plan", "Refused", "altered", "emptied", "interpret", "later_than", "plans", "relocked",
    "steps_in", "subplans", "walk",
]  # fmt: skip

Plan: TypeAlias = list[Any]


class Refused(Rejected):
    """The one business error of the plans."""

    def __init__(self, tag: int) -> None:
        super().__init__(f"no {tag}")
        self.tag = tag


@step
async def reserve(tag: int, ends: list[str], undoes: list[str]) -> int:
    return tag


@reserve.compensator
async def release(tag: int) -> None: ...


@step
async def notify(tag: int, ends: list[str], undoes: list[str]) -> int:
    """Has no compensator."""
    return tag


@step(pivot=True)
async def commit(tag: int, ends: list[str], undoes: list[str]) -> int:
    """Cannot be taken back."""
    return tag


@step(pivot=True)
async def settle(tag: int, ends: list[str], undoes: list[str]) -> int:
    """Is a pivot once it succeeded, but can be undone while in doubt."""
    return tag


@settle.compensator
async def unsettle(tag: int) -> None: ...


STEPS: dict[str, Any] = {x.name: x for x in (reserve, notify, commit, settle)}


@saga
async def interpret(plan: Plan) -> list[Any]:
    """Carries a plan out; returns what the body saw, in order."""
    log: list[Any] = []
    await _carry_out(plan, log)
    return log


@saga
async def nested(plan: Plan) -> list[Any]:
    log: list[Any] = []
    await _carry_out(plan, log)
    return log


@saga(timeout=2.5)
async def hurried(plan: Plan) -> list[Any]:
    log: list[Any] = []
    await _carry_out(plan, log)
    return log


@saga(name="interpret")
async def altered(plan: Plan) -> list[Any]:
    """The same body after a careless change: it calls another step."""
    log: list[Any] = []
    await _carry_out(_renamed(plan), log)
    return log


@saga(name="interpret")
async def emptied(plan: Plan) -> list[Any]:
    """The same body after another one: it calls nothing."""
    return []


@saga(name="interpret")
async def relocked(plan: Plan) -> list[Any]:
    """And after another: it takes other locks."""
    log: list[Any] = []
    await _carry_out(_relocked(plan), log)
    return log


def _relocked(plan: Plan) -> Plan:
    if plan[0] == "lock":
        return ["lock", plan[1], f"other {plan[2]}", _relocked(plan[3])]
    return [_relocked(x) if isinstance(x, list) and plan[0] != "do" else x for x in plan]


def _renamed(plan: Plan) -> Plan:
    if plan[0] == "do":
        return [*plan[:2], "notify" if plan[2] == "reserve" else plan[2], *plan[3:]]
    return [_renamed(x) if isinstance(x, list) else x for x in plan]


NESTED: dict[str, Any] = {"child": nested, "hurried": hurried}


def _branch(plan: Plan, log: list[Any]) -> Awaitable[Any]:
    """Gives a branch of a group: a bare operation where the plan is one, else a coroutine."""
    match plan:
        case ["do", tag, name, ends, undoes]:
            return STEPS[name](tag, ends, undoes)  # type: ignore[no-any-return]  # a table of steps is untyped
        case ["sleep", seconds]:
            return sleep(seconds)
        case ["child" | "hurried" as kind, body]:
            return NESTED[kind](body)  # type: ignore[no-any-return]
        case _:
            return _carry_out(plan, log)


async def _carry_out(plan: Plan, log: list[Any]) -> None:
    match plan:
        case ["do", tag, name, ends, undoes]:
            log.append(["did", tag, await STEPS[name](tag, ends, undoes)])
        case ["seq", *items]:
            for item in items:
                await _carry_out(item, log)
        case ["gather", *branches]:
            await gather(*(_branch(x, log) for x in branches))
        case ["race", *branches]:
            await race(*(_branch(x, log) for x in branches))
        case ["map", limit, *items]:
            await map_each(lambda item: _carry_out(item, log), items, limit=limit or None)
        case ["scope", body]:
            async with scope():
                await _carry_out(body, log)
        case ["lock", hold, name, body]:
            async with lock(name, timeout=2, hold=hold):
                await _carry_out(body, log)
        case ["child" | "hurried" as kind, body]:
            log.append(await NESTED[kind](body))
        case ["try", tag, body, handler]:
            try:
                await _carry_out(body, log)
            except Exception as error:
                log.append(["caught", tag, type(error).__name__, str(error)])
                await _carry_out(handler, log)
        case _:
            await _carry_out_simple(plan, log)


async def _carry_out_simple(plan: Plan, log: list[Any]) -> None:
    match plan:
        case ["sleep", seconds]:
            await sleep(seconds)
        case ["receive", timeout]:
            log.append(["received", await receive("go", int, timeout=timeout or None)])
        case ["draw"]:
            log.append(["drew", str(await uuid4()), await random(), (await now()).timestamp()])
            log.append(["recorded", await record(lambda: 7)])
        case _:
            raise Refused(-1)


# --- what a plan says -----------------------------------------------------------------------------------------------


def subplans(plan: Plan) -> list[Plan]:
    """Lists the plans right below one."""
    return [x for x in plan[1:] if isinstance(x, list) and x and isinstance(x[0], str) and plan[0] != "do"]


def walk(plan: Plan) -> Iterator[Plan]:
    """Walks a plan and all below it."""
    yield plan
    for below in subplans(plan):
        yield from walk(below)


def steps_in(plan: Plan) -> Iterator[Plan]:
    """Walks the steps of a plan."""
    if plan[0] == "do":
        yield plan
    for below in subplans(plan):
        yield from steps_in(below)


def later_than(plan: Plan) -> dict[int, set[int]]:
    """Says which steps come after each, by tag; written down from the plan, without paths."""
    order: dict[int, set[int]] = {x[1]: set() for x in steps_in(plan)}
    _relate(plan, order)
    return order


def _relate(plan: Plan, order: dict[int, set[int]]) -> None:
    below = subplans(plan)
    if plan[0] in ("seq", "try"):
        for index, earlier in enumerate(below):
            after = {x[1] for later in below[index + 1 :] for x in steps_in(later)}
            for one in steps_in(earlier):
                order[one[1]] |= after
    for one in below:
        _relate(one, order)


# --- drawing one ----------------------------------------------------------------------------------------------------

_ENDS = st.sampled_from([[]] * 30 + [["rejected"], ["failed"], ["doubt"], ["later"], ["unsure"], ["unsure", "failed"],
                                     ["doubt", "doubt"]])  # fmt: skip
_UNDOES = st.sampled_from([[]] * 4 + [["failed"], ["later"], ["later", "failed"], ["failed"] * 9])
_NAMES = st.sampled_from(["reserve"] * 12 + ["notify", "settle", "commit"])
_STEPS = st.builds(lambda name, ends, undoes: ["do", 0, name, ends, undoes], _NAMES, _ENDS, _UNDOES)
_LEAVES = st.one_of(
    st.builds(lambda seconds: ["sleep", seconds], st.integers(1, 3)),
    st.builds(lambda timeout: ["receive", timeout], st.integers(0, 2)),
    st.sampled_from([["draw"], ["raise"]]),
)
_KINDS = (
    "do", "do", "do", "leaf", "seq", "seq", "seq", "gather", "gather", "race", "map", "scope", "child", "try", "lock",
)  # fmt: skip
_LOCKS = st.sampled_from(["a", "a", "b", "never", "refused"])


@st.composite
def _trees(draw: st.DrawFn, depth: int) -> Plan:
    kind = draw(st.sampled_from(_KINDS if depth else _KINDS[:4]))
    below = _trees(depth - 1)
    if kind in ("do", "leaf"):
        return draw(_STEPS if kind == "do" else _LEAVES)
    if kind == "scope":
        return ["scope", ["seq", *draw(st.lists(below, min_size=1, max_size=3))]]
    if kind == "lock":
        body = ["seq", *draw(st.lists(below, min_size=1, max_size=3))]
        return ["lock", draw(st.sampled_from(["saga", "block"])), draw(_LOCKS), body]
    if kind == "child":
        return [draw(st.sampled_from(["child", "hurried"])), ["seq", *draw(st.lists(below, min_size=1, max_size=3))]]
    if kind == "try":
        body = ["seq", *draw(st.lists(below, min_size=1, max_size=3))]
        return ["try", 0, draw(st.sampled_from([body, ["scope", body], ["child", body]])), draw(below)]
    several = draw(st.lists(below, min_size=2, max_size=4))
    return ["map", draw(st.integers(0, 2)), *several] if kind == "map" else [kind, *several]


@st.composite
def _locking_trees(draw: st.DrawFn, depth: int) -> Plan:
    kind = draw(st.sampled_from(["lock", "lock", "lock", "gather", "try", "scope", "race"])) if depth else "do"
    body = ["seq", *draw(st.lists(_locking_trees(depth - 1), min_size=1, max_size=2))] if depth else []
    match kind:
        case "lock":
            return ["lock", draw(st.sampled_from(["saga", "saga", "block"])), draw(st.sampled_from("abc")), body]
        case "gather" | "race":
            return [kind, body, draw(_locking_trees(depth - 1))]
        case "try":
            return ["try", 0, body, draw(_STEPS)]
        case "scope":
            return ["scope", body]
        case _:
            return draw(_STEPS)


def plans(depth: int = 3, *, locking: bool = False) -> st.SearchStrategy[Plan]:
    """Draws plans, perhaps of hardly more than locks; every step and every ``try`` has a tag of its own."""
    bodies = st.lists((_locking_trees if locking else _trees)(depth), min_size=2, max_size=4)
    return bodies.map(lambda items: _numbered(["seq", *items], iter(range(10_000))))


def _numbered(plan: Plan, tags: Iterator[int]) -> Plan:
    if plan[0] == "do":
        return ["do", next(tags), *plan[2:]]
    if plan[0] == "try":
        return ["try", next(tags), *(_numbered(x, tags) for x in plan[2:])]
    return [_numbered(x, tags) if isinstance(x, list) else x for x in plan]
