"""A saga whose code no process has waits, and everybody can see it."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from sagas import Coordinator, SagaCompensated, receive, saga, step
from sagas.coordinator.orders import Orders
from tests.coordinator.places import Clock, Gate, Place, until

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step
async def act(what: str) -> str:
    LOG.append(what)
    return what


@act.compensator
async def take_back(what: str) -> None:
    LOG.append(f"undo {what}")


@saga(name="order")
async def first(what: str) -> str:
    await act(what)
    await receive("go")
    return what


@saga(name="order")
async def misfit(what: str) -> str:
    await receive("go")
    return await act(what)


@saga(name="order", version="2")
async def second(what: str) -> str:
    return await act(what)


@saga
async def unrelated() -> str:
    return await act("other")


async def _wait(place: Place, saga_id: str = "s") -> None:
    """Starts a saga that waits for a signal."""
    async with place.coordinator(first) as coordinator:
        await coordinator.start(first("x"), id=saga_id)

        async def waits() -> bool:
            return (await coordinator.get(saga_id)).waiting

        await until(waits)


async def _park(place: Place) -> None:
    """Starts a saga, and wakes it with code that does not fit."""
    await _wait(place)
    async with place.coordinator(misfit) as coordinator:
        await coordinator.signal("s", "go")

        async def stuck() -> bool:
            return (await coordinator.get("s")).status == "stuck"

        await until(stuck)


async def _told(coordinator: Coordinator) -> tuple[str | None, str | None]:
    """Gives what the list and the view say."""
    (row,) = [row for row in await coordinator.list() if row.id == "s"]
    return row.waits_for, (await coordinator.get("s")).waits_for


async def test_a_saga_tells_that_it_waits_for_its_code(place: Place) -> None:
    """In lists and in its view, until there is a process that has it; one that is driven waits for none."""
    await _wait(place)
    async with place.coordinator(second, unrelated) as newer:
        assert await _told(newer) == ("code of order version 1",) * 2
        assert await newer.run(second("y"), id="t") == "y"
        assert [(row.id, row.waits_for) for row in await newer.list()] == [
            ("t", None),
            ("s", "code of order version 1"),
        ]
        async with place.coordinator(first) as older:
            assert await _told(newer) == (None, None)
            await older.signal("s", "go")
            assert await older.run(first("x"), id="s") == "x"
        assert await _told(newer) == (None, None)


async def test_a_saga_whose_coordinator_is_alive_waits_for_no_code(place: Place) -> None:
    """Whatever else is alive."""
    async with place.coordinator(first) as owner, place.coordinator(second) as other:
        await owner.start(first("x"), id="s")
        assert await _told(other) == (None, None)


async def test_the_coordinators_that_are_alive_are_listed_with_their_code(place: Place) -> None:
    """Until they end."""
    async with place.coordinator(second, unrelated, name="new", lease=20.0) as newer:
        async with place.coordinator(first, name="old") as older:
            found = {row.name: row for row in await older.coordinators()}
            assert {name: row.code for name, row in found.items()} == {
                "new": ("order@2", "unrelated@1"), "old": ("order@1",)
            }  # fmt: skip
            assert len({row.id for row in found.values()}) == 2
            left = found["new"].expires_at - datetime.now(UTC)
            assert timedelta(0) < left <= timedelta(seconds=21)
        assert [row.name for row in await newer.coordinators()] == ["new"]


async def test_a_coordinator_warns_once_of_sagas_without_code_and_says_when_it_is_over(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that have something to do; by name and version."""
    gate = Gate()

    @step
    async def pause() -> None:
        await gate.wait()

    @saga(name="slow", version="7")
    async def slow() -> str:
        await pause()
        return "done"

    await _wait(place)
    async with place.coordinator(slow, shutdown_timeout=0) as coordinator:
        for number in range(3):
            await coordinator.start(slow(), id=f"s{number}")
        await gate.arrival(3)
    gate.open()
    with caplog.at_level(logging.WARNING, "sagas.coordinator"):
        async with place.coordinator(unrelated, clock=Clock(pace=0.0002)) as coordinator:

            async def said(what: str) -> bool:
                return any(what in message for message in caplog.messages)

            await until(lambda: said("slow version 7 wait, 3 by now"))
            assert (await coordinator.get("s1")).waits_for == "code of slow version 7"
            async with place.coordinator(slow) as older:
                await until(lambda: said("slow version 7 wait for their code no longer"))
                for number in range(3):  # left open, they would wait again
                    assert await (await older.start(slow(), id=f"s{number}")).result() == "done"
    about = [message for message in caplog.messages if "code" in message]
    assert len(about) == 2
    assert "no coordinator that is alive has their code. Start one that has" in about[0]


async def test_orders_for_a_saga_without_code_wait_for_a_process_that_has_it(place: Place) -> None:
    """A cancel too, since it may need more than the journal."""
    await _wait(place)
    await _wait(place, "t")
    async with place.coordinator(second) as newer:
        await newer.cancel("s", reason="no more")
        await newer.signal("t", "go")
        assert await newer.run(second("y")) == "y"
        assert (await newer.get("s")).status == "running"
    async with place.coordinator(first) as older:
        with pytest.raises(SagaCompensated, match="no more"):
            await older.run(first("x"), id="s")
        assert await older.run(first("x"), id="t") == "x"
    assert LOG == ["x", "x", "y", "undo x"]


async def test_a_parked_saga_is_rolled_back_by_whoever_is_asked_if_nobody_has_its_code(place: Place) -> None:
    """From its journal alone; only the compensators have to be there."""
    await _park(place)
    async with place.coordinator(unrelated, steps=[act]) as coordinator:
        await coordinator.cancel("s", reason="no more")

        async def undone() -> bool:
            return (await coordinator.get("s")).status == "compensated"

        await until(undone)
    assert LOG == ["x", "undo x"]


async def test_a_parked_saga_is_left_to_a_coordinator_that_has_its_code(place: Place) -> None:
    """Both to cancel and to resume it, whoever was asked."""
    await _park(place)
    async with place.coordinator(unrelated) as asked, place.coordinator(first):
        await asked.resume("s", by="grace")

        async def ended() -> bool:
            return (await asked.get("s")).status == "completed"

        await until(ended)
    LOG.clear()


async def test_a_cancel_of_a_parked_saga_goes_to_a_coordinator_that_has_its_code(place: Place) -> None:
    """It has the compensators."""
    await _park(place)
    async with place.coordinator(unrelated) as asked, place.coordinator(misfit):
        await asked.cancel("s", reason="no more")

        async def undone() -> bool:
            return (await asked.get("s")).status == "compensated"

        await until(undone)
        taken = [line.detail for line in (await asked.get("s")).timeline if line.what == "cancel requested"]
    assert taken == ["no more"]
    assert LOG == ["x", "undo x"]


async def test_mail_that_cannot_be_delivered_is_tried_less_and_less_often(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a coordinator has time for what it can do."""
    await _park(place)
    clock, given = Clock(), defaultdict[int, list[float]](list)
    give = Orders.give

    async def watched(self: Orders, saga_id: str, kind: str, body: bytes, *, mail: int | None = None) -> bool:
        if mail is not None:
            given[mail].append(clock.now())
        return await give(self, saga_id, kind, body, mail=mail)

    monkeypatch.setattr(Orders, "give", watched)
    async with place.coordinator(misfit, clock=clock) as coordinator:
        await coordinator.signal("s", "go")

        async def given_again() -> bool:
            clock.ahead += 0.5
            return any(len(times) > 4 for times in given.values())

        await until(given_again)
    for times in given.values():
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert all(gap >= min(2.0 ** (number + 1), 15.0) for number, gap in enumerate(gaps)), gaps
