"""Several versions of a saga on one journal, and which of them a new one gets."""

from __future__ import annotations

from typing import Any

import pytest

from sagas import (
    Client,
    DeclarationError,
    IdempotencyConflict,
    PayloadError,
    Saga,
    SagaNotRegistered,
    receive,
    saga,
    step,
    version,
)
from sagas.core.versions import chosen
from tests.coordinator.places import Place, until

LOG: list[str] = []
WEIGHTS = {"1": 1, "2": 1}
IDS = [f"s{number}" for number in range(20)]


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step
async def act(what: str) -> str:
    LOG.append(what)
    return what


@saga(name="order")
async def first(item: str) -> str:
    await act(f"{item} in 1")
    await receive("go")
    return await act(f"{item} ends in 1")


@saga(name="order", version="2")
async def second(item: str, *, express: bool = False) -> str:
    await act(f"{item} in 2")
    await receive("go")
    return await act(f"{item} ends in 2{' at once' if express else ''}")


@saga(name="order", version="3", continues=("1", "2"))
async def third(item: str, *, express: bool = False, wrapping: str = "paper") -> str:
    if await version("wrapping"):
        await act(f"{item} in {wrapping}")
    else:
        await act(f"{item} in {1}")
    await receive("go")
    return await act(f"{item} ends in 3")


async def _wait(place: Place, *ids: str) -> None:
    """Starts sagas of version 1 that wait for a signal; nobody drives them then."""
    async with place.coordinator(first) as coordinator:
        for saga_id in ids:
            await coordinator.start(first(saga_id), id=saga_id)

            async def waits(saga_id: str = saga_id) -> bool:
                return (await coordinator.get(saga_id)).waiting

            await until(waits)


async def test_each_saga_goes_on_with_its_own_version(place: Place) -> None:
    """Side by side, also after a restart; new ones get the version that was called."""
    await _wait(place, "old")
    async with place.coordinator(first, second) as coordinator:
        await coordinator.start(second("new"), id="new")
        await coordinator.start(first("late"), id="late")
    async with place.coordinator(second, first) as coordinator:
        for saga_id, call in (("old", first("old")), ("new", second("new")), ("late", first("late"))):
            await coordinator.signal(saga_id, "go")
            ended = f"{saga_id} ends in {call.saga.version}"
            assert await coordinator.run(call, id=saga_id) == ended
            assert (await coordinator.get(saga_id)).version == call.saga.version


async def test_a_process_without_its_version_leaves_a_saga_to_one_that_has_it(place: Place) -> None:
    """A signal for it waits meanwhile."""
    await _wait(place, "s")
    async with place.coordinator(second) as newer:
        await newer.signal("s", "go")
        handle = await newer.start(second("t"), id="t")
        await newer.signal("t", "go")
        assert await handle.result() == "t ends in 2"
        assert LOG == ["s in 1", "t in 2", "t ends in 2"]
        async with place.coordinator(first) as older:
            assert await older.run(first("s"), id="s") == "s ends in 1"
            owner = (await older.get("s")).timeline
    assert [line.what for line in owner].count("saga parked") == 0


async def test_a_version_goes_on_with_those_that_it_continues(place: Place) -> None:
    """Their rows keep the version that they were started in."""
    await _wait(place, "s")
    async with place.coordinator(third) as coordinator:
        await coordinator.signal("s", "go")
        assert await coordinator.run(third("s"), id="s") == "s ends in 3"
        assert (await coordinator.get("s")).version == "1"
        assert LOG == ["s in 1", "s ends in 3"]


async def test_a_version_of_its_own_is_preferred_to_one_that_continues_it(place: Place) -> None:
    """Whatever the order in which they were passed."""
    await _wait(place, "s", "t")
    async with place.coordinator(third, first) as coordinator:
        await coordinator.signal("s", "go")
        assert await coordinator.run(first("s"), id="s") == "s ends in 1"
    async with place.coordinator(first, third) as coordinator:
        await coordinator.signal("t", "go")
        assert await coordinator.run(first("t"), id="t") == "t ends in 1"


async def test_weights_choose_the_version_of_new_sagas_by_their_id(place: Place) -> None:
    """Whichever version was called; both are there."""
    async with place.coordinator(first, second, versions={"order": WEIGHTS}) as coordinator:
        for saga_id in IDS:
            call = first(saga_id) if saga_id < "s15" else second(saga_id)
            assert (await coordinator.start(call, id=saga_id)).id == saga_id
        rows = {row.id: row.version for row in await coordinator.list()}
        assert rows == {saga_id: chosen(WEIGHTS, "order", saga_id) for saga_id in IDS}
        assert set(rows.values()) == {"1", "2"}
        for saga_id in IDS:
            await coordinator.signal(saga_id, "go")
            assert await coordinator.run(first(saga_id), id=saga_id) == f"{saga_id} ends in {rows[saga_id]}"


async def test_an_id_that_was_made_up_is_chosen_for_too(place: Place) -> None:
    """By itself."""
    async with place.coordinator(first, second, versions={"order": WEIGHTS}) as coordinator:
        handles = [await coordinator.start(first("x")) for _ in range(20)]
        for handle in handles:
            assert (await coordinator.get(handle.id)).version == chosen(WEIGHTS, "order", handle.id)


@pytest.mark.parametrize(("before", "after"), [({"1": 1}, {"2": 1}), ({"2": 1}, {"1": 1}), ({"1": 1}, None)])
async def test_the_same_id_and_input_are_the_same_saga_after_the_weights_changed(
    place: Place, before: dict[str, int], after: dict[str, int] | None
) -> None:
    """In its old version; and another input is a conflict still."""
    async with place.coordinator(first, second, versions={"order": before}) as coordinator:
        await coordinator.start(second("x"), id="s")
    async with place.coordinator(first, second, versions=after and {"order": after}) as coordinator:
        for call in (first("x"), second("x")):
            assert (await coordinator.start(call, id="s")).id == "s"
        for other in (first("y"), second("y"), second("x", express=True)):
            if other.arguments.get("express") and after == {"1": 1}:
                continue  # version 1 has no place for it
            with pytest.raises(IdempotencyConflict):
                await coordinator.start(other, id="s")
        (row,) = await coordinator.list()
        assert row.version == next(iter(before))
        await coordinator.signal("s", "go")
        assert await coordinator.run(second("x"), id="s") == f"x ends in {row.version}"


async def test_the_same_start_is_recognised_by_code_that_has_a_new_parameter_since(place: Place) -> None:
    """The old code is not needed for it."""
    await _wait(place, "s")
    async with place.coordinator(third) as coordinator:
        assert (await coordinator.start(third("s"), id="s")).id == "s"
        for other in (third("t"), third("s", wrapping="gold")):
            with pytest.raises(IdempotencyConflict):
                await coordinator.start(other, id="s")


async def test_a_call_that_does_not_fit_the_chosen_version_starts_nothing(place: Place) -> None:
    """And says which version it was, and why."""
    async with place.coordinator(first, second, versions={"order": {"1": 1}}) as coordinator:
        with pytest.raises(
            PayloadError, match=r"versions=\{'1': 1\} chose version 1 of saga order for the id 's'.*express"
        ):
            await coordinator.start(second("x", express=True), id="s")
        assert await coordinator.list() == []


async def test_a_definition_that_was_not_passed_can_be_called_where_weights_decide(place: Place) -> None:
    """It only says what is meant; elsewhere it is refused."""
    async with place.coordinator(first, versions={"order": {"1": 1}}) as coordinator:
        await coordinator.start(second("x"), id="s")
        assert (await coordinator.get("s")).version == "1"
    async with place.coordinator(first) as coordinator:
        with pytest.raises(SagaNotRegistered, match="version 2"):
            await coordinator.start(second("x"), id="t")


# --- of a client ----------------------------------------------------------------------------------------------------


def _client(place: Place, *sagas: Saga[..., Any], **versions: dict[str, int]) -> Client:
    return Client(place.store(), sagas=sagas, versions=versions, migrate=True, poll=0.01)


async def test_a_client_chooses_by_its_weights_as_a_coordinator_does(place: Place) -> None:
    """And whoever runs the saga keeps to that."""
    async with _client(place, first, second, order=WEIGHTS) as client:
        for saga_id in IDS:
            await client.start(first(saga_id) if saga_id < "s15" else second(saga_id), id=saga_id)
        rows = {row.id: row.version for row in await client.list()}
        assert rows == {saga_id: chosen(WEIGHTS, "order", saga_id) for saga_id in IDS}
        assert set(rows.values()) == {"1", "2"}
        async with place.coordinator(first, second, versions={"order": {"1": 1}}):
            for saga_id in IDS:
                await client.signal(saga_id, "go")
                assert await client.run(first(saga_id), id=saga_id) == f"{saga_id} ends in {rows[saga_id]}"


@pytest.mark.parametrize(("before", "after"), [({"1": 1}, {"2": 1}), ({"2": 1}, {"1": 1}), ({"1": 1}, None)])
async def test_the_same_id_and_input_are_the_same_saga_for_clients_whose_weights_differ(
    place: Place, before: dict[str, int], after: dict[str, int] | None
) -> None:
    """Those without any have only what is called to go by."""
    async with _client(place, first, second, order=before) as client:
        await client.start(second("x"), id="s")
        assert (await client.start(first("x"), id="s")).id == "s"
    async with _client(place, first, second, order=after) if after else _client(place) as client:
        for call in (first("x"), second("x")):
            assert (await client.start(call, id="s")).id == "s"
        for other in (first("y"), second("y")):
            with pytest.raises(IdempotencyConflict):
                await client.start(other, id="s")
        (row,) = await client.list()
        assert row.version == next(iter(before))


async def test_a_client_starts_nothing_that_the_chosen_version_cannot_take(place: Place) -> None:
    async with _client(place, first, order={"1": 1}) as client:
        with pytest.raises(PayloadError, match=r"chose version 1 of saga order for the id 's'.*express"):
            await client.start(second("x", express=True), id="s")
        assert await client.list() == []


def test_a_client_needs_no_way_to_tell_steps_apart(place: Place) -> None:
    """It runs none, so versions whose steps share a name may be named without more ado."""

    def other() -> Saga[[str], None]:
        @step(name="act")
        async def act_otherwise(what: str) -> None: ...

        @saga(name="order", version="9")
        async def ninth(item: str) -> None:
            await act_otherwise(item)

        return ninth

    with pytest.raises(DeclarationError, match="two steps are named 'act'"):
        place.coordinator(first, other())
    _client(place, first, other(), order={"1": 1, "9": 1})


def test_weights_are_checked_before_anything_is_started(place: Place) -> None:
    """With a sentence that teaches."""
    with pytest.raises(DeclarationError, match=r"'2' has a weight, but no definition.*sagas=\[…\]"):
        _client(place, first, order=WEIGHTS)
    with pytest.raises(DeclarationError, match=r"'2' has a weight, but no definition.*sagas=\[…\]"):
        place.coordinator(first, versions={"order": WEIGHTS})
