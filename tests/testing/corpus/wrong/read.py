"""What is wrong by its text, and does not show in a process that only ever runs once."""

from __future__ import annotations

import random
import time
import uuid
from datetime import UTC, datetime

import anyio

from sagas import Rejected, gather, race, saga, sleep, step
from tests.testing.corpus.cases import Read
from tests.testing.corpus.world import shop


@step
async def charge(cents: int) -> int:
    return shop.payments.enter(cents)


@charge.compensator
async def refund() -> None:
    shop.payments.take_back()


@step
async def ship(what: str) -> str:
    return shop.parcels.enter(what)


@ship.compensator
async def call_back() -> None:
    shop.parcels.take_back()


@step(pivot=True)
async def hand_over(what: str) -> str:
    return shop.parcels.enter(what)


@step(rejects=[Rejected])
async def invoice(cents: int) -> int:
    return shop.payments.enter(cents)


@invoice.compensator
async def credit_note() -> None:
    shop.payments.take_back()


async def post(text: str) -> None:
    """Stands for whoever delivers letters."""
    shop.letters.append(text)


@step
async def mail(text: str) -> None:
    await post(text)


@saga
async def walk_a_set(items: list[str]) -> int:
    """Parcels go out in the order of a set's hashes, which is another one in every process.

    banzaicloud/pipeline#2155: a workflow ranges over a map, whose order Go randomizes on purpose.
    """
    for item in set(items):
        await ship(item)
    return len(items)


@saga
async def read_the_time(cents: int) -> str:
    """The name of a parcel has the date of the machine.

    PostHog/posthog#76658.
    """
    await charge(cents)
    return await ship(f"on {datetime.now(UTC):%x}")


@saga
async def throw_a_die(cents: int) -> str:
    """Chance decides what is sent.

    temporalio/sdk-python#1109.
    """
    await charge(cents)
    return await ship("with a present" if random.random() < 0.01 else "bare")


@saga
async def invent_an_id(cents: int) -> str:
    """An id is made up in the body.

    TracecatHQ/tracecat#971.
    """
    await charge(cents)
    return await ship(str(uuid.uuid4()))


@saga
async def catch_everything(cents: int) -> str:
    """The body goes on when its branch was stopped.

    temporalio/samples-dotnet#46 argues over which exceptions the code of a saga may catch.
    """

    async def insist() -> str:
        while True:
            try:
                return await ship("fast")
            except BaseException:
                await sleep(1)

    async def give_up() -> str:
        await sleep(60)
        return "too slow"

    return await race(insist(), give_up())


@saga
async def refuse_after_the_pivot(cents: int) -> int:
    """The parcel has left, and then the invoice may be refused.

    After microservices-patterns/ftgo-application#107.
    """
    await hand_over("parcel")
    return await invoice(cents)


@saga
async def write_before_it_is_sure(cents: int) -> int:
    """A letter that nobody can take back goes out before the last step that may fail.

    oxidecomputer/omicron#3097: what has no undo of its own is left by the unwind.
    """
    await mail("thank you")
    return await charge(cents)


@saga
async def forget_to_wait(cents: int) -> str:
    """The charge is only described, and never made.

    hoangdaochuz/booking#39: a refund that nobody waits for.
    """
    charge(cents)  # type: ignore[unused-awaitable]  # what is wrong with it
    return await ship("unpaid")


@saga
async def wait_for_a_socket(cents: int) -> str:
    """The body waits for something that is no operation.

    dapr/docs#3201: "workflow functions must call deterministic APIs".
    """
    await anyio.sleep(1)
    await charge(cents)
    return await ship("slowly")


served: list[int] = []


@saga
async def count_in_the_module(cents: int) -> str:
    """The body changes a list of its module, and once more when it is replayed.

    After temporalio/sdk-typescript#2023.
    """
    served.append(cents)
    await charge(cents)
    return await ship(f"number {len(served)}")


@step
async def charge_and_ship(cents: int) -> str:
    await charge(cents)
    return await ship("all in one")


@charge_and_ship.compensator
async def undo_both() -> None:
    shop.payments.take_back()
    shop.parcels.take_back()


@saga
async def nest_steps(cents: int) -> str:
    """A step awaits other steps, which run under its key, and are never undone by themselves.

    oxidecomputer/omicron#1466: one action that does several things has no undo that fits.
    """
    return await charge_and_ship(cents)


@step
async def poll(cents: int) -> int:
    time.sleep(5)  # noqa: ASYNC251 - what is wrong with it
    return cents


@saga
async def hold_up_everybody(cents: int) -> int:
    """A step sleeps with the whole process.

    apache/servicecomb-pack#649: threads that wait.
    """
    (found,) = await gather(poll(cents))
    return found


CASES = [
    Read(walk_a_set, "unordered-iteration", "walk_a_set"),
    Read(read_the_time, "wall-clock", "read_the_time"),
    Read(throw_a_die, "randomness", "throw_a_die"),
    Read(invent_an_id, "randomness", "invent_an_id"),
    Read(catch_everything, "swallowed-stop", "catch_everything"),
    Read(refuse_after_the_pivot, "fallible-after-pivot", "refuse_after_the_pivot"),
    Read(write_before_it_is_sure, "uncompensated-step", "write_before_it_is_sure"),
    Read(forget_to_wait, "forgotten-await", "forget_to_wait"),
    Read(wait_for_a_socket, "foreign-await", "wait_for_a_socket"),
    Read(count_in_the_module, "global-state", "count_in_the_module"),
    Read(nest_steps, "operation-in-step", "charge_and_ship"),
    Read(hold_up_everybody, "blocking-call", "poll"),
]
