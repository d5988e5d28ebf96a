"""One saga's mistakes stay its own: they cost no other saga, and nobody's task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from sagas import DeclarationError, Rejected, Saga, SagaCompensated, SagaStuck, receive, saga, step
from sagas.core import attempts
from tests.coordinator.places import Place, until

LOG: list[str] = []


@step
async def act(what: str) -> str:
    """Acts, after letting others have a turn."""
    await anyio.sleep(0.001)
    return what


@act.compensator
async def undo_act(what: str) -> None:
    """Takes it back."""
    LOG.append(f"undo {what}")


@saga
async def quiet(what: str) -> str:
    """Does no harm."""
    return await act(what)


async def _anyio_timeout(what: str) -> str:
    with anyio.fail_after(0.05):
        return await act(what)


async def _anyio_move_on(what: str) -> str:
    with anyio.move_on_after(0.05):
        return await act(what)
    return "too late"


async def _exit(what: str) -> str:
    await act(what)
    sys.exit(3)


async def _cancelled(what: str) -> str:
    await act(what)
    raise asyncio.CancelledError


@pytest.mark.parametrize("body", [_anyio_timeout, _anyio_move_on, _exit, _cancelled])
async def test_a_body_that_reaches_for_the_event_loop_or_the_exit_fails_alone(
    place: Place, body: Callable[[str], Coroutine[Any, Any, str]]
) -> None:
    """A cancel scope left open in the task that drives a body would cancel work that is not the body's."""
    rude: Saga[[str], str] = saga(name="rude")(body)
    async with place.coordinator(rude, quiet) as coordinator:
        for _ in range(3):
            with pytest.raises(SagaCompensated):
                await coordinator.run(rude("x"))
        await anyio.sleep(0.06)  # longer than the scopes that must not have been left open
        assert await coordinator.run(quiet("y")) == "y"


async def test_a_bug_in_the_library_costs_one_saga_and_not_the_coordinator(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown as stuck; the others go on."""
    real = attempts.StepAttempts.first

    def broken(self: attempts.StepAttempts) -> attempts.Next:
        if b"poison" in self._command.arguments:
            raise AttributeError("a bug")
        return real(self)

    monkeypatch.setattr(attempts.StepAttempts, "first", broken)
    async with place.coordinator(quiet) as coordinator:
        with pytest.raises(SagaStuck, match="a bug"):
            await coordinator.run(quiet("poison"), id="p")
        assert await coordinator.run(quiet("y")) == "y"
        assert (await coordinator.list(status="stuck"))[0].id == "p"


async def test_mail_that_was_kept_for_a_parked_saga_reaches_it_once_it_is_resumed(on_disk: Place) -> None:
    """Also when the coordinator has looked at that mail before, and the resume came by another way."""

    @saga(name="waits")
    async def original(what: str) -> str:
        await act(what)
        return await receive("go", str)

    @saga(name="waits")
    async def changed(what: str) -> str:
        return await receive("go", str)

    async with on_disk.coordinator(original) as coordinator:
        await coordinator.start(original("x"), id="s")
        await until(lambda: _waits(coordinator))
    async with on_disk.coordinator(changed) as coordinator:
        await coordinator.signal("s", "go", "now")
        await until(lambda: _is(coordinator, "stuck"))
    on_disk.sql(
        "INSERT INTO saga_mail (saga_id, at, kind, body) VALUES ('s', 0, 'signal', ?)", b'{"name":"go","payload":"now"}'
    )
    async with on_disk.coordinator(original) as coordinator:
        await anyio.sleep(0.05)  # several looks at the mail
        await coordinator.resume("s")
        with anyio.fail_after(10):
            assert await coordinator.run(original("x"), id="s") == "now"


async def _waits(coordinator: Any) -> bool:
    return bool((await coordinator.list())[0].waiting)


async def _is(coordinator: Any, status: str) -> bool:
    return bool((await coordinator.list())[0].status == status)


async def test_what_the_block_raises_comes_out_as_it_was_raised(place: Place) -> None:
    """Not within a group."""
    with pytest.raises(SagaCompensated):
        async with place.coordinator(quiet, _failing) as coordinator:
            await coordinator.run(_failing("x"))


@saga(name="failing")
async def _failing(what: str) -> None:
    await act(what)
    raise ValueError(what)


async def test_two_steps_of_one_name_are_refused_unless_told_which(place: Place) -> None:
    """A rollback from the journal alone finds a step by its name."""

    @step(name="twin")
    async def one(what: str) -> str:
        return what

    @step(name="twin")
    async def other(what: str) -> str:
        return what

    @saga
    async def both(what: str) -> str:
        await one(what)
        return await other(what)

    with pytest.raises(DeclarationError, match=r"two steps are named 'twin' .*one.* and .*other"):
        place.coordinator(both)
    async with place.coordinator(both, steps=[other]) as coordinator:
        assert await coordinator.run(both("x")) == "x"


class Nope(Rejected):
    """A business error."""


async def test_a_rejection_of_a_script_is_found_again_where_the_script_is_imported(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``__main__`` there, its own name here."""

    @step
    async def refuse(what: str) -> str:
        raise Nope(what)

    @saga
    async def forgiving(what: str) -> str:
        try:
            await refuse(what)
        except Nope as error:
            await receive("go")
            return f"no {error}"
        return "yes"

    monkeypatch.setattr(Nope, "__module__", "__main__")
    async with place.coordinator(forgiving) as coordinator:
        await coordinator.start(forgiving("x"), id="s")
        await until(lambda: _waits(coordinator))
    monkeypatch.undo()
    async with place.coordinator(forgiving) as coordinator:
        await coordinator.signal("s", "go")
        assert await coordinator.run(forgiving("x"), id="s") == "no x"


async def test_an_undeclared_error_says_where_in_the_step_it_was_raised(place: Place) -> None:
    """In the saga's cause, for whoever reads the journal."""

    @step
    async def stumbles(what: str) -> str:
        return {}[what]  # type: ignore[no-any-return, misc]  # it raises

    @saga
    async def stumbling(what: str) -> str:
        return await stumbles(what)

    async with place.coordinator(stumbling) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(stumbling("x"), id="s")
        assert "return {}[what]" in (await coordinator.get("s")).traceback


async def test_lease_files_of_the_dead_are_removed(on_disk: Place) -> None:
    """By the next coordinator that comes by."""
    assert on_disk.path is not None
    left = on_disk.path.with_name(f"{on_disk.path.name}-lease-0123456789ab")
    left.touch()
    async with on_disk.coordinator(quiet) as coordinator:
        assert await coordinator.run(quiet("y")) == "y"
    assert not list(on_disk.path.parent.glob("*-lease-*"))
