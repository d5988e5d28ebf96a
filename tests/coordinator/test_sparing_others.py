"""One saga's mistakes stay its own: they cost no other saga, and nobody's task."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from sagas import (
    DeclarationError,
    PayloadContext,
    Rejected,
    Retry,
    Saga,
    SagaCompensated,
    SagaStuck,
    receive,
    saga,
    sleep,
    step,
)
from sagas.core import attempts
from sagas.stores.port import Batch, Change
from tests.coordinator.places import Clock, Place, until

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
        nothing: dict[str, str] = {}
        return nothing[what]

    @saga
    async def stumbling(what: str) -> str:
        return await stumbles(what)

    async with place.coordinator(stumbling) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(stumbling("x"), id="s")
        assert "return nothing[what]" in (await coordinator.get("s")).traceback


async def test_a_coordinator_that_was_paused_beyond_its_lease_attempts_nothing_that_another_has_taken_over(
    on_disk: Place,
) -> None:
    """Its next attempt would act after the undo: fencing its records alone would come too late."""
    tries: list[str] = []
    gate = anyio.Event()

    @step(retry=Retry(attempts=5, initial=0.01, factor=1, jitter=0))
    async def flaky(what: str) -> str:
        tries.append(what)
        await gate.wait()
        raise ConnectionError(what)

    @saga
    async def body(what: str) -> str:
        return await flaky(what)

    clock = Clock()
    async with on_disk.coordinator(body, clock=clock, lease=30) as paused:
        await paused.start(body("x"), id="s")
        await until(lambda: _some(tries))
        on_disk.sql("DELETE FROM saga_lease")
        on_disk.sql("UPDATE saga SET owner = 'another'")
        on_disk.sql("INSERT INTO saga_lease (id, name, expires_at) VALUES ('another', 'another', 1e12)")
        clock.ahead = 31.0
        gate.set()
        await until(lambda: _is_gone(paused))
        assert tries == ["x"]


async def _some(things: list[str]) -> bool:
    return bool(things)


async def _is_gone(coordinator: Any) -> bool:
    return not coordinator._engine.sagas  # noqa: SLF001 - what it holds in memory is the point


async def test_what_has_ended_is_never_changed_again(place: Place) -> None:
    """Not even by a coordinator that believes the saga to be its own."""
    async with place.coordinator(quiet) as coordinator:
        await coordinator.run(quiet("x"), id="s")
    store = place.store()
    store.open(migrate=False)
    change = Change("s", "stuck", active=False, wake_at=None, ended_at=None, error="late", owner="old")
    store.commit(Batch(changes={"s": change}))
    row = store.get("s")
    store.close()
    assert row is not None
    assert row.status == "completed"


async def test_a_timer_that_no_calendar_holds_is_refused_in_the_body(place: Place) -> None:
    """It would make the list of all sagas unreadable."""

    @saga
    async def patient() -> None:
        await sleep(1e12)

    async with place.coordinator(patient) as coordinator:
        with pytest.raises(SagaCompensated, match="waits for at most"):
            await coordinator.run(patient())
        assert len(await coordinator.list()) == 1


async def test_an_argument_nested_too_deeply_fails_where_it_is_passed(place: Place) -> None:
    """Accepted, it could be written and never be read again."""

    @step
    async def keep(what: object) -> None: ...

    @saga
    async def deep() -> None:
        what: list[Any] = []
        for _ in range(196):
            what = [what]
        await keep(what)

    async with place.coordinator(deep) as coordinator:
        with pytest.raises(SagaCompensated, match="cannot be encoded"):
            await coordinator.run(deep(), id="s")
        assert (await coordinator.get("s")).status == "compensated"


async def test_a_codec_that_fails_parks_its_saga_and_loses_nothing(on_disk: Place) -> None:
    """What memory knew beyond the journal is forgotten; a resume goes on from what is durable."""

    class Flaky:
        broken = False

        def encode(self, value: bytes, context: PayloadContext) -> bytes:
            if self.broken and context.kind == "StepSucceeded":
                raise OSError("no key")
            return value

        def decode(self, value: bytes, context: PayloadContext) -> bytes:
            return value

    codec = Flaky()
    async with on_disk.coordinator(quiet, codec=codec) as coordinator:
        codec.broken = True
        with pytest.raises(SagaStuck, match="no key"):
            await coordinator.run(quiet("x"), id="s")
        codec.broken = False
        await coordinator.resume("s")
        assert await coordinator.run(quiet("x"), id="s") == "x"


async def test_a_body_that_swallows_its_end_is_left_alone(place: Place) -> None:
    """It would otherwise be asked to end for ever, and nothing else would run."""

    @saga
    async def stubborn() -> None:
        while True:
            try:
                await sleep(10)
            except:  # noqa: E722, S112 - the very mistake
                continue

    async with place.coordinator(stubborn, quiet) as coordinator:
        handle = await coordinator.start(stubborn(), id="s")
        await coordinator.cancel("s", reason="enough")
        with pytest.raises(SagaCompensated, match="enough"):
            await handle.result()
        assert await coordinator.run(quiet("y")) == "y"


async def test_lease_files_of_the_dead_are_removed(on_disk: Place) -> None:
    """By the next coordinator that comes by."""
    assert on_disk.path is not None
    left = on_disk.path.with_name(f"{on_disk.path.name}-lease-0123456789ab")
    left.touch()
    async with on_disk.coordinator(quiet) as coordinator:
        assert await coordinator.run(quiet("y")) == "y"
    assert not list(on_disk.path.parent.glob("*-lease-*"))
