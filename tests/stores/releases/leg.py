"""A part of some sagas' lives, under whichever release is found first: what it uses, both know.

``python tests/stores/releases/leg.py DIRECTORY LEG NUMBER…`` prints where the library is as soon as it works, and then
how each saga stands.

The leg ``share`` starts these, and takes those that another process shares from their beginning to their end.
"""

# ruff: noqa: INP001, T201 - run by itself, and no module: it must not drag in the code at hand

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

import sagas
from sagas import (
    Coordinator,
    Rejected,
    Retry,
    SagaCompensated,
    SagaNotFound,
    current_step,
    gather,
    receive,
    saga,
    scope,
    sleep,
    step,
)

DIED = 9
_place = Path(sys.argv[1])
_UNTIL_IT_WORKS = Retry(attempts=None, initial=0.01)


class Refused(Rejected):
    """It did nothing, and says so."""


def _act(what: str) -> None:
    """Dies with its process if it is asked to; acts once for a key, whoever asks how often."""
    step_now = current_step()
    number = step_now.saga_id.rpartition("-")[2]
    end = _place / f"die-{number}-{what.replace(' ', '-')}"
    if end.exists():
        end.unlink()
        os._exit(DIED)
    (_place / f"{number}.{what}.{step_now.undoes or step_now.idempotency_key}").touch()


@step
async def book(what: str) -> str:
    _act(f"book {what}")
    return what


@book.compensator(retry=_UNTIL_IT_WORKS)
async def unbook(what: str) -> None:
    _act(f"unbook {what}")


@step(retry=Retry(attempts=3, initial=0.01))
def charge(what: str, amount: int) -> int:
    if current_step().attempt == 1:
        raise ConnectionError("no line")
    _act(f"book {what}")
    return amount


@charge.compensator(retry=_UNTIL_IT_WORKS)
def refund(what: str, amount: int, result: int | None) -> None:
    _act(f"unbook {what}")


@step
async def refuse() -> None:
    raise Refused


@saga
async def journey(number: int) -> list[str]:
    """Waits twice for somebody to go on; every other one is undone in the end."""
    booked = await gather(book("bed"), book("seat"))
    try:
        async with scope():
            await book("spare")
            await refuse()
    except Refused:
        await sleep(0.01)
    first = await receive("first", str)
    await charge("meal", number)
    await sleep(0.01)
    second = await receive("second", str)
    await book("taxi")
    if number % 2:
        await refuse()
    return [*booked, first, second]


async def _until(check: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(20):
        while not await check():  # noqa: ASYNC110 - what is asked for gives no sign
            await anyio.sleep(0.01)


async def _waits(coordinator: Coordinator, leg: str, number: int) -> str:
    """Waits until a saga has done all that there is in a leg."""

    async def waits() -> bool:
        try:
            view = await coordinator.get(f"journey-{number}")
        except SagaNotFound:
            return False
        steps = {"start": 4, "first": 5}[leg]
        return len(view.steps) >= steps and all(x.state in ("succeeded", "undone", "rejected") for x in view.steps)

    await _until(waits)
    return "waits"


async def _run(coordinator: Coordinator, leg: str, number: int) -> str:
    """Takes one saga as far as it goes in a leg."""
    name = f"journey-{number}"
    if leg == "start":
        await coordinator.start(journey(number), id=name)
    else:
        await coordinator.signal(name, leg, leg)
    return await (_end(coordinator, number) if leg == "second" else _waits(coordinator, leg, number))


async def _end(coordinator: Coordinator, number: int) -> str:
    """Waits for the end of a saga."""
    try:
        result = await coordinator.run(journey(number), id=f"journey-{number}")
    except SagaCompensated:
        return "compensated"
    return f"completed {result}"


async def _share(coordinator: Coordinator, number: int) -> str:
    """Starts a saga, and asks the one that another process has started to go on."""
    other = number ^ 2
    await _run(coordinator, "start", number)
    await _waits(coordinator, "start", other)
    await _run(coordinator, "first", other)
    await _waits(coordinator, "first", number)
    await coordinator.signal(f"journey-{number}", "second", "second")
    return f"{await _end(coordinator, number)}, {await _end(coordinator, other)}"


async def _main() -> None:
    leg, numbers = sys.argv[2], [int(number) for number in sys.argv[3:]]
    url = f"sqlite:///{_place / 'journal.db'}"
    async with Coordinator(url, sagas=[journey], poll=0.01, shutdown_timeout=5) as coordinator:
        print(Path(sagas.__file__).parent, flush=True)

        async def run(number: int) -> None:
            told = _share(coordinator, number) if leg == "share" else _run(coordinator, leg, number)
            print(number, await told, flush=True)

        async with anyio.create_task_group() as group:
            for number in numbers:
                group.start_soon(run, number)


if __name__ == "__main__":
    anyio.run(_main)
