"""Live sagas and code that has changed under them."""

from __future__ import annotations

from typing import Any

import pytest

from sagas import NotApplicable, Saga, SagaCompensated, SagaStuck, receive, saga, step, version
from tests.coordinator.places import Place, until

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@step
async def first(what: str) -> str:
    """Acts."""
    LOG.append(f"first {what}")
    return what


@first.compensator
async def undo_first(what: str, result: str | None) -> None:
    """Takes it back."""
    LOG.append(f"undo first {what} {result}")


@step
async def second(what: str) -> str:
    """Acts."""
    LOG.append(f"second {what}")
    return what


@step
async def extra(what: str) -> str:
    """Acts; new."""
    LOG.append(f"extra {what}")
    return what


@saga(name="changing")
async def original(what: str) -> str:
    """As it was deployed first."""
    await first(what)
    await receive("go")
    return await second(what)


@saga(name="changing")
async def changed(what: str) -> str:
    """Begins with another step, without a marker."""
    await extra(what)
    await first(what)
    await receive("go")
    return await second(what)


@saga(name="changing")
async def patched(what: str) -> str:
    """The same change, with a marker for live sagas."""
    if await version("extra-first"):
        await extra(what)
    await first(what)
    await receive("go")
    return await second(what)


@saga(name="changing")
async def broken(what: str) -> str:
    """Raises where nothing catches it."""
    raise ZeroDivisionError


async def _start(place: Place, saga_id: str = "s") -> None:
    async with place.coordinator(original) as coordinator:
        await coordinator.start(original("x"), id=saga_id)

        async def waits() -> bool:
            return (await coordinator.get(saga_id)).waiting

        await until(waits)


async def _park(place: Place, body: Saga[Any, Any]) -> str:
    """Wakes the saga with code that does not fit; gives what is said of it then."""
    async with place.coordinator(body, steps=[first, second]) as coordinator:
        await coordinator.signal("s", "go")

        async def stuck() -> bool:
            return (await coordinator.get("s")).status == "stuck"

        await until(stuck)
        with pytest.raises(SagaStuck):
            await coordinator.run(body("x"), id="s")
        (found,) = await coordinator.list(status="stuck")
        assert found.waiting
        return str(found.error)


@pytest.mark.parametrize("body", [changed, broken], ids=["another operation", "an exception"])
async def test_a_saga_that_does_not_fit_its_code_is_parked_with_the_first_difference(
    place: Place, body: Saga[Any, Any]
) -> None:
    """Nothing of the new body has run."""
    await _start(place)
    error = await _park(place, body)
    assert "first" in error
    assert error.startswith("ReplayDiverged: ")
    assert LOG == ["first x"]


async def test_a_parked_saga_goes_on_with_the_right_code_when_it_is_resumed(place: Place) -> None:
    """Not before; and a resume with code that does not fit either changes nothing."""
    await _start(place)
    await _park(place, changed)
    async with place.coordinator(changed) as coordinator:
        with pytest.raises(NotApplicable, match=r"still does not fit the code at hand: .*first"):
            await coordinator.resume("s")
    async with place.coordinator(original) as coordinator:
        assert (await coordinator.get("s")).status == "stuck"
        await coordinator.resume("s", by="alice")
        # The signal that woke it was kept for it all the while.
        assert await coordinator.run(original("x"), id="s") == "x"
        assert [row.id for row in await coordinator.list(status="completed")] == ["s"]
    assert LOG == ["first x", "second x"]


async def test_a_parked_saga_is_rolled_back_from_its_journal_alone(place: Place) -> None:
    """With the arguments and results that were recorded; by code whose body no longer calls the step."""
    await _start(place)
    await _park(place, broken)
    async with place.coordinator(broken, steps=[first]) as coordinator:
        await coordinator.cancel("s", reason="give up")
        with pytest.raises(SagaCompensated, match="give up"):
            await coordinator.run(broken("x"), id="s")
    assert LOG == ["first x", "undo first x x"]


async def test_a_rollback_from_the_journal_alone_survives_a_restart(place: Place) -> None:
    """Once it was cancelled, the body is not needed any more."""
    await _start(place)
    await _park(place, broken)
    async with place.coordinator(broken, shutdown_timeout=0) as coordinator:
        await coordinator.cancel("s", reason="give up")
    async with place.coordinator(changed) as coordinator:
        with pytest.raises(SagaCompensated, match="give up"):
            await coordinator.run(changed("x"), id="s")
    assert "undo first x x" in LOG


async def test_a_marker_lets_live_sagas_go_on_as_they_were(place: Place) -> None:
    """New ones run the new way."""
    await _start(place)
    async with place.coordinator(patched) as coordinator:
        await coordinator.signal("s", "go")
        assert await coordinator.run(patched("x"), id="s") == "x"
        handle = await coordinator.start(patched("y"), id="t")
        await coordinator.signal("t", "go")
        assert await handle.result() == "y"
    assert LOG == ["first x", "second x", "extra y", "first y", "second y"]


async def test_a_saga_without_code_waits_for_a_process_that_has_it(place: Place) -> None:
    """It is neither stuck nor lost."""

    @saga
    async def unrelated() -> str:
        return await extra("z")

    await _start(place)
    async with place.coordinator(unrelated) as coordinator:
        await coordinator.signal("s", "go")
        assert await coordinator.run(unrelated()) == "z"
        assert (await coordinator.get("s")).status == "running"
    async with place.coordinator(original) as coordinator:
        assert await coordinator.run(original("x"), id="s") == "x"


async def test_a_body_that_failed_after_its_pivot_goes_on_when_it_is_mended_and_resumed(place: Place) -> None:
    """In the same process: its row says so, and another coordinator finds it running."""
    mended = False

    @step(pivot=True)
    async def ship() -> int:
        return 1

    @saga
    async def body() -> str:
        await ship()
        if not mended:
            raise ZeroDivisionError
        return await receive("go", str)

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")
        with pytest.raises(SagaStuck, match="ZeroDivisionError"):
            await handle.result()
        mended = True
        await coordinator.resume("s", by="alice")
        found = await coordinator.get("s")
        assert (found.status, found.error) == ("running", None)
        await coordinator.signal("s", "go", "done")
        assert await coordinator.run(body(), id="s") == "done"
