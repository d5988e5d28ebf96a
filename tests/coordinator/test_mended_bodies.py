"""Bodies that failed after a pivot: they stay stuck until an operator resumes them with better code."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from sagas import Coordinator, NotApplicable, SagaStuck, saga, step


@step
async def prepare(number: int) -> int:
    return number


@prepare.compensator
async def clear(number: int) -> None: ...


@step(pivot=True)
async def commit() -> None: ...


@saga(name="operation")
async def broken() -> str:
    await prepare(1)
    await commit()
    raise RuntimeError("not thought of")


@saga(name="operation")
async def mended() -> str:
    await prepare(1)
    await commit()
    await prepare(2)
    return "mended"


async def _break(url: str) -> None:
    async with Coordinator(url, sagas=[broken]) as coordinator:
        with pytest.raises(SagaStuck, match="not thought of"):
            await coordinator.run(broken(), id="it")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


def _notes(url: str) -> list[str]:
    rows = sqlite3.connect(url.removeprefix("sqlite:///")).execute("SELECT data FROM saga_journal ORDER BY seq")
    return [bytes(data).decode() for (data,) in rows]


async def test_resuming_with_better_code_completes(url: str) -> None:
    await _break(url)
    async with Coordinator(url, sagas=[mended]) as coordinator:
        await coordinator.resume("it", by="grace")
        handle = await coordinator.start(mended(), id="it")
        assert await handle.result() == "mended"
    # The step that only the better code asks for is in the journal before it is run, as every other.
    assert '["step","3","prepare",{"number":2},false]' in _notes(url)[-2]


@pytest.mark.parametrize(
    "touch",
    [
        lambda coordinator: coordinator.signal("it", "news"),
        lambda coordinator: coordinator.get("it"),
        lambda coordinator: coordinator.start(mended(), id="it"),
    ],
    ids=["signal", "get", "start"],
)
async def test_nothing_else_sets_it_going(url: str, touch: Callable[[Coordinator], Awaitable[object]]) -> None:
    await _break(url)
    async with Coordinator(url, sagas=[mended]) as coordinator:
        await touch(coordinator)
        with pytest.raises(NotApplicable):
            await coordinator.cancel("it", reason="too late")
        await anyio.sleep(0.05)  # what must not begin has had time to
        assert (await coordinator.get("it")).status == "stuck"


async def test_better_code_may_take_more_than_one_try(url: str) -> None:
    await _break(url)
    async with Coordinator(url, sagas=[broken]) as coordinator:
        await coordinator.resume("it")
        handle = await coordinator.start(broken(), id="it")
        with pytest.raises(SagaStuck):
            await handle.result()
    async with Coordinator(url, sagas=[mended]) as coordinator:
        await coordinator.resume("it")
        assert await (await coordinator.start(mended(), id="it")).result() == "mended"
        steps = (await coordinator.get("it")).steps
    assert [(one.name, one.state) for one in steps][-1] == ("prepare", "succeeded")
