"""What operators see of many sagas, and what they have done: with who and why, and only to what they saw."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import anyio
import pytest
from pydantic import RootModel

from sagas import (
    Client,
    Coordinator,
    NotApplicable,
    Rejected,
    RequestError,
    Retry,
    SagaCompensated,
    SagaFilter,
    SagaMovedOn,
    SagaNotFound,
    SagaStuck,
    Secret,
    lock,
    receive,
    saga,
    sleep,
    step,
)
from tests.coordinator.places import Place, until

BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _all_is_broken() -> None:
    BROKEN.clear()
    BROKEN.add("warehouse")


@step(retry=Retry(attempts=1))
async def reserve(item: str) -> str:
    return f"r-{item}"


@reserve.compensator(retry=Retry(attempts=1))
async def release(item: str, result: str | None) -> None:
    if BROKEN:
        raise ConnectionError(f"the warehouse does not answer for '{item}' since 12:30")


@step
async def charge(item: str) -> None:
    raise Rejected(f"no card for {item}")


@saga(name="order", version="2")
async def order(item: str) -> None:
    await reserve(item)
    await charge(item)


@saga(name="wait")
async def wait() -> str:
    return await receive("go", str)


@saga(name="quick")
async def quick(item: str) -> str:
    return await reserve(item)


@asynccontextmanager
async def stuck_sagas(place: Place, *ids: str) -> AsyncGenerator[tuple[Coordinator, Client]]:
    """A coordinator with stuck sagas, and a client beside it."""
    async with (
        place.coordinator(order, wait, quick) as coordinator,
        Client(place.store(), migrate=True, poll=0.01) as client,
    ):
        for saga_id in ids:
            with pytest.raises(SagaStuck):
                await coordinator.run(order(saga_id), id=saga_id)
        yield coordinator, client


async def status_is(client: Client, saga_id: str, status: str) -> None:
    """Waits until a saga stands so."""

    async def stands_so() -> bool:
        return (await client.get(saga_id)).status == status

    await until(stands_so)


async def test_what_an_operator_does_is_told_with_who_and_why(place: Place) -> None:
    """In the view, in the timeline and at the step, whichever process was asked."""
    async with stuck_sagas(place, "a") as (coordinator, client):
        await coordinator.retry("a", by="bob", reason="the warehouse said that it is back")

        async def tried_again() -> bool:
            view = await client.get("a")
            return view.status == "stuck" and len(view.steps[0].undo_attempts) == 2

        await until(tried_again)
        await client.skip("a", by="ana", reason="released by hand")
        await status_is(client, "a", "compensated")
        view = await client.get("a")
    assert [str(x) for x in view.decisions] == [
        "retried by bob: the warehouse said that it is back",
        "skipped by ana: released by hand",
    ]
    (first, second) = view.steps
    assert str(first.decision) == "skipped by ana: released by hand"
    assert (first.state, second.decision) == ("undo skipped", None)
    assert [line.detail for line in view.timeline if line.decision] == [
        "the warehouse said that it is back (by bob)",
        "released by hand (by ana)",
    ]
    assert first.undo_started_at is not None
    assert first.undo_ended_at is not None
    assert first.undo_started_at <= first.undo_attempts[0].started_at <= first.undo_ended_at
    assert (first.undoable, second.undoable) == (True, False)


async def test_signals_and_resumes_may_say_who_and_why(place: Place) -> None:
    """Nobody has to."""
    async with stuck_sagas(place) as (coordinator, client):
        handle = await coordinator.start(wait(), id="w")
        await client.signal("w", "go", "there", by="ana", reason="the form was signed")
        with anyio.fail_after(10):
            assert await handle.result() == "there"
        (decision,) = (await client.get("w")).decisions
        assert (str(decision), decision.path) == ("signalled go by ana: the form was signed", "")
        for bad in ("  ", "\ud800"):
            with pytest.raises(RequestError, match="reason"):
                await client.resume("w", reason=bad)


async def test_an_order_for_what_a_saga_no_longer_is_changes_nothing(place: Place) -> None:
    """Whether the asking process finds out, or the one that drives the saga."""
    async with stuck_sagas(place, "a") as (coordinator, client):
        seen = (await client.get("a")).revision
        for asked in (coordinator, client):
            with pytest.raises(SagaMovedOn, match=f"saga a has moved on .* record {seen - 1} .* record {seen}"):
                await asked.skip("a", reason="x", expected=seen - 1)
            with pytest.raises(RequestError, match="expected='new'"):
                await asked.retry("a", expected="new")  # type: ignore[arg-type]  # is what is tested
            with pytest.raises(SagaNotFound):
                await asked.retry("nobody", expected=3)
        assert (await client.get("a")).revision == seen
        # Both were looked at before either was done.
        store = place.store()
        store.open(migrate=False)
        for _ in range(2):
            store.post("a", 1.0, "retry", b'{"by":"ana","path":null,"expected":%d}' % seen)
        store.close()

        async def taken() -> bool:
            view = await client.get("a")
            return view.status == "stuck" and len(view.steps[0].undo_attempts) == 2

        await until(taken)
        BROKEN.clear()
        await client.retry("a")
        await status_is(client, "a", "compensated")
        assert [x.by for x in (await client.get("a")).decisions] == ["ana", ""]


async def test_a_takeover_is_no_change_for_who_looked_before(place: Place) -> None:
    """It changes nothing about what the saga did, and needs."""
    async with stuck_sagas(place, "a") as (_, client):
        seen = (await client.get("a")).revision
    BROKEN.clear()
    async with Client(place.store(), migrate=True, poll=0.01) as client:
        await client.retry("a", expected=seen, by="ana")
        async with place.coordinator(order):
            await status_is(client, "a", "compensated")
        view = await client.get("a")
    assert "saga taken over" in [line.what for line in view.timeline]
    assert [x.by for x in view.decisions] == ["ana"]


async def test_a_parked_saga_is_resumed_only_as_it_was_seen(place: Place) -> None:
    """As any other order."""

    @saga(name="wait")
    async def changed() -> str:
        await reserve("something else")
        return await receive("go", str)

    async with stuck_sagas(place) as (coordinator, client):
        await coordinator.start(wait(), id="w")
        await until(lambda: _waits(client, "w"))
    async with place.coordinator(changed) as coordinator:
        await coordinator.signal("w", "go", "there")

        async def parked() -> bool:
            return (await coordinator.get("w")).status == "stuck"

        await until(parked)
        seen = (await coordinator.get("w")).revision
        with pytest.raises(SagaMovedOn):
            await coordinator.cancel("w", reason="wrong code", expected=seen - 1)
        with pytest.raises(NotApplicable, match="still does not fit"):
            await coordinator.resume("w", reason="perhaps", expected=seen)
        await coordinator.cancel("w", reason="wrong code", by="ana", expected=seen)
        with pytest.raises(SagaCompensated):
            await coordinator.run(changed(), id="w")
        assert [str(x) for x in (await coordinator.get("w")).decisions] == ["cancelled by ana: wrong code"]


async def _waits(client: Client, saga_id: str) -> bool:
    """Says whether a saga waits for somebody."""
    return (await client.get(saga_id)).waiting


# --- many sagas -----------------------------------------------------------------------------------------------------


async def test_sagas_are_found_by_what_people_know_of_them(place: Place) -> None:
    """And by pages."""
    async with stuck_sagas(place, "a-1", "a-2", "b-1") as (coordinator, client):
        await coordinator.run(quick("x"), id="a-3")
        await coordinator.start(wait(), id="w")
        now = datetime.now(UTC)
        for wanted, expected in (
            (SagaFilter(), ["w", "a-3", "b-1", "a-2", "a-1"]),
            (SagaFilter(status="stuck"), ["b-1", "a-2", "a-1"]),
            (SagaFilter(status="open", id_prefix="a"), ["a-2", "a-1"]),
            (SagaFilter(status="ended"), ["a-3"]),
            (SagaFilter(name="quick"), ["a-3"]),
            (SagaFilter(version="2"), ["b-1", "a-2", "a-1"]),
            (SagaFilter(step="reserve"), ["b-1", "a-2", "a-1"]),
            (SagaFilter(step="serve"), []),
            (SagaFilter(error="WAREHOUSE"), ["b-1", "a-2", "a-1"]),
            (SagaFilter(error="for 'b-1'", step="reserve"), ["b-1"]),
            (SagaFilter(started_from=now - timedelta(hours=1), ended_before=now + timedelta(hours=1)), ["a-3"]),
            (SagaFilter(started_before=now - timedelta(hours=1)), []),
        ):
            page = await client.search(wanted)
            assert ([x.id for x in page.sagas], page.cursor) == (expected, None), wanted
        first = await client.search(SagaFilter(status="stuck"), limit=2)
        rest = await client.search(SagaFilter(status="stuck"), limit=2, after=first.cursor)
        assert ([x.id for x in first.sagas], [x.id for x in rest.sagas]) == (["b-1", "a-2"], ["a-1"])
        assert {x.step for x in first.sagas} == {"reserve"}
        counts = await client.counts()
        assert {status: str(x) for status, x in counts.statuses.items() if x.number} == {
            "running": "1", "stuck": "3", "completed": "1",
        }  # fmt: skip
        assert [(x.name, x.status, x.number) for x in counts.open] == [("order", "stuck", 3), ("wait", "running", 1)]
        rates = await client.rates(minutes=1)
        assert [(x.name, round(x.started), round(x.completed)) for x in rates.by_name] == [
            ("order", 3, 0),
            ("quick", 1, 1),
            ("wait", 1, 0),
        ]
        assert round(rates.total.started) == 5


async def test_what_makes_no_sense_is_refused(place: Place) -> None:
    """With a sentence that says what would."""
    async with Client(place.store(), migrate=True) as client:
        for wanted, why in (
            (SagaFilter(status="done"), "no status"),
            (SagaFilter(error="\ud800"), "error="),
            (SagaFilter(error="a\x00b"), "NUL"),
            (SagaFilter(started_from=datetime(2026, 1, 1)), "no zone"),  # noqa: DTZ001 - is what is tested
        ):
            with pytest.raises(RequestError, match=why):
                await client.search(wanted)
        for cursor in ("", "x", "-1", "9" * 400):
            with pytest.raises(RequestError, match="no cursor"):
                await client.search(after=cursor)
        with pytest.raises(RequestError, match="minutes"):
            await client.rates(minutes=0)
        assert (await client.search(after="9" * 19)).sagas == ()


async def test_stuck_sagas_are_grouped_by_what_halts_them(place: Place) -> None:
    """Without what differs between them: ids, numbers, quotations."""
    async with stuck_sagas(place, "a-1", "a-2", "b") as (_, client):
        (group,) = (await client.stuck()).groups
        assert (group.name, group.step) == ("order", "reserve")
        assert group.cause == "ConnectionError: the warehouse does not answer for … since …:…"
        assert [x.id for x in group.sagas] == ["b", "a-2", "a-1"]
        few = await client.stuck(limit=1)
        assert (few.complete, few.groups[0].key, len(few.groups[0].sagas)) == (False, group.key, 1)


async def test_who_holds_a_lock_and_who_waits_for_it_is_told(place: Place) -> None:
    """Across sagas."""

    @saga(name="holder")
    async def holder() -> None:
        async with lock("sku"):
            await sleep(3600)

    async with place.coordinator(holder) as coordinator:
        for saga_id in ("first", "second"):
            await coordinator.start(holder(), id=saga_id)

            async def stands_in_line(saga_id: str = saga_id) -> bool:
                return saga_id in [x.saga_id for x in await coordinator.locks()]

            await until(stands_in_line)
        assert [(x.lock, x.saga_id, x.held) for x in await coordinator.locks()] == [
            ("sku", "first", True),
            ("sku", "second", False),
        ]


# --- what makes no sense to a database ------------------------------------------------------------------------------


async def test_whoever_asks_for_more_than_databases_can_count_gets_all(place: Place) -> None:
    async with place.coordinator(pay) as coordinator:
        await coordinator.run(pay(Card("1", "Ana"), "2"), id="p")
        for limit in (2**31, 2**63, 10**40):
            assert [x.id for x in await coordinator.list(limit=limit)] == ["p"]
            assert [x.id for x in (await coordinator.search(limit=limit)).sagas] == ["p"]
            assert await coordinator.locks(limit) == []
            assert (await coordinator.stuck(limit)).complete


@pytest.mark.parametrize("saga_id", ["half \ud800", "nul \x00"])
async def test_an_id_that_no_database_keeps_is_that_of_no_saga(place: Place, saga_id: str) -> None:
    async with place.coordinator(pay) as coordinator:
        for ask in (coordinator.get, coordinator.journal, coordinator.resume, coordinator.retry):
            with pytest.raises(SagaNotFound):
                await ask(saga_id)
        with pytest.raises(SagaNotFound):
            await coordinator.signal(saga_id, "paid")
        with pytest.raises(SagaNotFound):
            await coordinator.retry(saga_id, expected=1)


# --- what nobody is to see ------------------------------------------------------------------------------------------


@dataclass
class Card:
    number: Annotated[str, Secret()]
    name: str


@step
async def tokenize(card: Card, pin: Annotated[str, Secret()]) -> Annotated[str, Secret()]:
    return f"token of {card.number} and {pin}"


@step
async def show(token: str) -> dict[str, str]:
    return {"name": "n", "api_token": token}


@saga(name="pay")
async def pay(card: Card, pin: Annotated[str, Secret()]) -> str:
    shown = await show(await tokenize(card, pin))
    return shown["name"]


class Pin(RootModel[Annotated[str, Secret()]]): ...


@saga(name="confirm")
async def confirm() -> str:
    card = await receive("card", Card)
    await receive("pin", Pin)
    return card.name


async def test_what_is_secret_in_signals_is_shown_nowhere(place: Place) -> None:
    """Where the code is known, by the marks of what it waits for; else by name."""
    async with place.coordinator(confirm) as coordinator:
        handle = await coordinator.start(confirm(), id="s")
        await coordinator.signal("s", "card", Card("4111-1111", "Ana"))
        await coordinator.signal("s", "pin", "0000-0")
        assert await handle.result() == "Ana"
        views = [(await coordinator.get("s"), await coordinator.journal("s"))]
    knows = Client(place.store(), sagas=[confirm])
    by_name = Client(place.store(), secret_fields=["number", "pin.payload"])
    for client in (knows, by_name):
        async with client:
            views.append((await client.get("s"), await client.journal("s")))
    for told in map(repr, views):
        assert "4111" not in told
        assert "0000-0" not in told
        assert told.count("'***'") == 2
        assert 'pin "***"' in told
    async with Client(place.store()) as client:
        shown = repr((await client.get("s"), await client.journal("s")))
    assert "4111" in shown
    assert "0000-0" in shown


async def test_what_is_secret_is_shown_nowhere(place: Place) -> None:
    """Where the types are known, by their marks; else by name."""
    card = Card("4111-1111", "Ana")
    async with place.coordinator(pay, secret_fields=["*token"]) as coordinator:
        assert await coordinator.run(pay(card, "0000"), id="p") == "n"
        views = [(await coordinator.get("p"), await coordinator.journal("p"))]
    knows = Client(place.store(), sagas=[pay], secret_fields=["*token"])
    by_name = Client(place.store(), secret_fields=["number", "pin", "token", "api_*", "tokenize.result"])
    for client in (knows, by_name):
        async with client:
            views.append((await client.get("p"), await client.journal("p")))
    for view, records in views:
        told = repr((view, records))
        assert "4111" not in told
        assert "0000" not in told
        assert view.input == {"card": {"number": "***", "name": "Ana"}, "pin": "***"}
        assert [x.result for x in view.steps] == ["***", {"name": "n", "api_token": "***"}]
        assert view.result == "n"
        assert [(x.seq, x.kind) for x in records] == [(0, "SagaStarted"), (1, "StepSucceeded"), (2, "StepSucceeded")]
    async with Client(place.store()) as client:
        assert "4111" in repr(await client.get("p"))
