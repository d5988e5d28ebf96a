"""Bodies that do something else when they are replayed, or go on when they should not."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4

from hypothesis import strategies as st

from sagas import Rejected, saga, step
from sagas.testing import Run
from tests.testing.corpus.cases import Found, Options
from tests.testing.corpus.world import Shop, books, open_shop, shop

SAME = "a body does the same every time"
SHOP = Options(inputs={"cents": st.integers(1, 9)}, world=open_shop, view=books)


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


@saga
async def read_the_clock(cents: int) -> str:
    """An argument is made from the clock of the machine.

    PostHog/posthog#76658: ``datetime.now`` in a workflow, found by a linter.
    """
    await charge(cents)
    return await ship(f"on {datetime.now(UTC).isoformat()}")


@saga
async def draw_lots(cents: int) -> str:
    """A branch is taken by chance.

    temporalio/sdk-python#1109: a random number in a workflow, and all that were under way failed to replay.
    """
    await charge(cents)
    parts = 1 + random.getrandbits(20)
    return await ship(f"one of {parts}")


@saga
async def make_up_an_id(cents: int) -> str:
    """An id is made up in the body.

    TracecatHQ/tracecat#971: "child workflow id of scheduled event … does not match", because of ``uuid4``.
    """
    parcel = f"parcel {uuid4()}"
    await charge(cents)
    return await ship(parcel)


_numbers = iter(range(10**9))


@saga
async def count_in_the_module(cents: int) -> str:
    """A counter of the module gives the number of the parcel.

    After temporalio/sdk-typescript#2023: what else happened in the process decides which value comes next.
    """
    await charge(cents)
    return await ship(f"parcel {next(_numbers)}")


@saga
async def look_into_the_database(cents: int) -> str:
    """The body reads the stock itself, which is another one by the time that it is replayed.

    After openworkflowdev/openworkflow#49: "external API calls outside ``step.run()`` will break deterministic replay".
    """
    if not shop.payments.entries:
        await charge(cents)
    return await ship(f"of {len(shop.payments.entries)} payments")


@saga
async def remember_in_the_environment(cents: int) -> str:
    """The body notes in the environment that it was here, and does something else the next time.

    After ablative-io/aion#1: a body that reads what the end of its history holds, instead of what it held back then.
    """
    first = os.environ.get("CORPUS_SHIPPED") != "yes"
    os.environ["CORPUS_SHIPPED"] = "yes"
    await charge(cents)
    os.environ["CORPUS_SHIPPED"] = "no"
    return await ship("the first" if first else "another")


# --- going on all the same --------------------------------------------------------------------------------------


@step(rejects=[Rejected])
async def charge_card(cents: int) -> int:
    return shop.payments.enter(cents)


@charge_card.compensator
async def refund_card() -> None:
    shop.payments.take_back()


def shipped_means_paid(world: Shop, run: Run) -> None:
    """Nothing is on its way that is not paid."""
    assert run.status != "completed" or world.payments.entries


@saga
async def go_on_unpaid(cents: int) -> str:
    """The body logs that the card was declined, and ships.

    After microservices-patterns/ftgo-application#107, where an order ends in another state than its steps say.
    """
    with suppress(Rejected):  # it is logged
        await charge_card(cents)
    return await ship("unpaid")


CASES = [
    Found(read_the_clock, SAME, 0, SHOP),
    Found(draw_lots, SAME, 0, SHOP),
    Found(make_up_an_id, SAME, 0, SHOP),
    Found(count_in_the_module, SAME, 0, SHOP),
    Found(look_into_the_database, SAME, 0, SHOP),
    Found(remember_in_the_environment, SAME, 0, SHOP),
    Found(go_on_unpaid, "shipped means paid", 1, SHOP | Options(invariants=[shipped_means_paid])),
]
