"""Clients that know only asyncio work under every event loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import anyio
import anyio.lowlevel
import pytest

from sagas.errors import TransportError
from sagas.transport.portal import AsyncioPortal

pytestmark = pytest.mark.anyio


async def test_a_function_runs_on_asyncio_whatever_runs_its_caller() -> None:
    portal = AsyncioPortal()

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    assert [await portal.run(double, number) for number in (1, 2)] == [2, 4]
    await portal.close()
    await portal.close()


async def test_a_function_may_use_anyio() -> None:
    """Which must not take the thread's event loop for its caller's."""
    portal = AsyncioPortal()

    async def shield() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        return type(asyncio.current_task()).__module__

    assert "asyncio" in await portal.run(shield)
    await portal.close()


async def test_what_it_raises_comes_back() -> None:
    portal = AsyncioPortal()

    async def fail() -> None:
        raise LookupError("no such stream")

    with pytest.raises(LookupError, match="no such stream"):
        await portal.run(fail)
    await portal.close()


async def test_calls_run_side_by_side() -> None:
    """Each of two waits for the other."""
    portal = AsyncioPortal()
    met: list[asyncio.Event] = []

    async def meet(number: int) -> None:
        met.append(asyncio.Event())
        if number == 1:
            await met[0].wait()
        else:
            met[0].set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(portal.run, meet, 1)
            group.start_soon(portal.run, meet, 2)
    await portal.close()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_cancelling_the_caller_cancels_the_function_and_waits_for_its_end() -> None:
    portal = AsyncioPortal()
    log: list[str] = []
    begun = threading.Event()

    async def linger() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.01)
            log.append("cleaned up")

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(portal.run, linger)
            await anyio.to_thread.run_sync(begun.wait)
            group.cancel_scope.cancel()
    assert log == ["cleaned up"]
    await portal.close()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancellation_of_its_own_is_an_error() -> None:
    """And no order to the caller, whose event loop knows nothing of it."""
    portal = AsyncioPortal()

    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(TransportError, match="cancelled by its own event loop"):
        await portal.run(give_up)
    await portal.close()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_the_thread_ends_with_the_last_that_needs_it() -> None:
    one, other = AsyncioPortal(), AsyncioPortal()

    async def thread() -> threading.Thread:
        return threading.current_thread()

    theirs = await one.run(thread)
    assert await other.run(thread) is theirs
    await one.close()
    assert theirs.is_alive()
    await other.close()
    await anyio.to_thread.run_sync(theirs.join, 10)
    assert not theirs.is_alive()


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_cancellation_that_is_lost_comes_again() -> None:
    """As some clients lose one."""
    portal = AsyncioPortal()
    begun = threading.Event()
    lost: list[str] = []

    async def stubborn() -> None:
        begun.set()
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost.append("cancelled")
                if len(lost) == 2:
                    raise

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(portal.run, stubborn)
            await anyio.to_thread.run_sync(begun.wait)
            group.cancel_scope.cancel()
    assert len(lost) == 2
    await portal.close()


def test_a_program_that_closes_nothing_ends_all_the_same() -> None:
    """And does not wait for the thread for ever."""
    code = """
        import asyncio, anyio
        from sagas.transport.portal import AsyncioPortal
        anyio.run(AsyncioPortal().run, asyncio.sleep, 0, backend="trio")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=30, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
