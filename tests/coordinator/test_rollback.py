"""Undoing: cancels, timeouts, pivots, compensators that fail, and what an operator can do."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from sagas import (
    NotApplicable,
    Rejected,
    RequestError,
    Retry,
    SagaCompensated,
    SagaStuck,
    current_step,
    gather,
    receive,
    saga,
    sleep,
    step,
)
from tests.coordinator.places import Gate, Place, until


class Shop:
    """A step with an undo that a test can break, and a log of both."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.broken: set[str] = set()
        self.gate = Gate()

        @step
        async def book(what: str) -> str:
            if what == "slow":
                await self.gate.wait()
            self.log.append(what)
            return what

        @book.compensator(retry=Retry(attempts=2, initial=0))
        async def unbook(what: str) -> None:
            if what in self.broken:
                self.log.append(f"cannot undo {what}")
                raise ConnectionError(f"{what} is broken")
            self.log.append(f"undo {what}")

        self.book = book


async def test_a_saga_cancelled_while_a_step_runs_is_undone_when_the_step_has_ended(place: Place) -> None:
    """Its outcome is needed; what would come next is not started."""
    shop = Shop()

    @saga
    async def body() -> None:
        await shop.book("a")
        await shop.book("slow")
        await shop.book("never")

    async with place.coordinator(body, steps=[shop.book]) as coordinator:
        handle = await coordinator.start(body(), id="s")
        await shop.gate.arrival()
        await coordinator.cancel("s", reason="customer changed their mind", by="alice")
        await coordinator.cancel("s", reason="again")  # changes nothing
        assert shop.log == ["a"]
        shop.gate.open()
        with pytest.raises(SagaCompensated, match="cancelled: customer changed their mind"):
            await handle.result()
        with pytest.raises(NotApplicable, match=r"has ended \(compensated\)"):
            await coordinator.cancel("s", reason="late")
    assert shop.log == ["a", "slow", "undo slow", "undo a"]


async def test_a_saga_cancelled_while_it_waits_is_undone_at_once(place: Place) -> None:
    """For a timer, for a signal."""
    shop = Shop()

    @saga
    async def body(for_what: str) -> None:
        await shop.book(for_what)
        await (sleep(3600) if for_what == "timer" else receive("x"))

    async with place.coordinator(body, steps=[shop.book]) as coordinator:
        for what in ("timer", "signal"):
            handle = await coordinator.start(body(what), id=what)

            async def waits(what: str = what) -> bool:
                return (await coordinator.get(what)).waiting

            await until(waits)
            await coordinator.cancel(what, reason="enough")
            with pytest.raises(SagaCompensated, match="enough"):
                await handle.result()
    assert shop.log == ["timer", "undo timer", "signal", "undo signal"]


async def test_after_its_pivot_a_saga_cannot_be_cancelled_and_only_goes_forward(place: Place) -> None:
    """A step that does not work then halts it, instead of undoing what is final."""
    shop = Shop()
    works = False

    @step(pivot=True)
    async def ship() -> None:
        shop.log.append("ship")

    @step
    async def notify() -> str:
        if not works:
            raise ConnectionError("mail is down")
        return "sent"

    @saga
    async def body() -> str:
        await shop.book("a")
        await ship()
        await shop.book("slow")
        return await notify()

    async with place.coordinator(body, steps=[shop.book, ship, notify]) as coordinator:
        handle = await coordinator.start(body(), id="s")
        await shop.gate.arrival()
        with pytest.raises(NotApplicable, match="passed its pivot"):
            await coordinator.cancel("s", reason="late")
        shop.gate.open()
        with pytest.raises(SagaStuck, match="mail is down"):
            await handle.result()
        with pytest.raises(NotApplicable, match="passed its pivot"):
            await coordinator.cancel("s", reason="late")
        works = True
        await coordinator.retry("s", by="bob")
        assert await handle.result() == "sent"
    assert shop.log == ["a", "ship", "slow"]


@pytest.mark.parametrize("how", ["times out", "is done in time"])
async def test_a_saga_that_takes_too_long_is_undone(place: Place, how: str) -> None:
    """One that ends in time is left alone by its timeout."""
    shop = Shop()

    @saga(timeout=0.1 if how == "times out" else 3600)
    async def body() -> str:
        await shop.book("a")
        if how == "times out":
            await sleep(3600)
        return "done"

    async with place.coordinator(body, steps=[shop.book]) as coordinator:
        if how == "times out":
            with pytest.raises(SagaCompensated, match=r"timed out: the saga took longer than 0\.1 s"):
                await coordinator.run(body())
            assert shop.log == ["a", "undo a"]
        else:
            assert await coordinator.run(body()) == "done"


def _branches(shop: Shop) -> Callable[[], object]:
    @saga(name="branches")
    async def body() -> None:
        await shop.book("first")
        await gather(_pair(shop, "a"), _pair(shop, "b"))
        raise ValueError("no")

    return body


async def _pair(shop: Shop, name: str) -> None:
    await shop.book(f"{name}1")
    await shop.book(f"{name}2")


async def test_a_compensator_out_of_budget_makes_the_saga_stuck_while_other_branches_are_undone(place: Place) -> None:
    """Nothing is called compensated that was not, and what stands before waits."""
    shop = Shop()
    shop.broken = {"a2"}
    body = _branches(shop)

    async with place.coordinator(body, steps=[shop.book]) as coordinator:  # type: ignore[arg-type]  # is a saga
        handle = await coordinator.start(body(), id="s")  # type: ignore[arg-type,var-annotated]
        with pytest.raises(SagaStuck, match="a2 is broken"):
            await handle.result()

        async def other_branch_undone() -> bool:
            (found,) = await coordinator.list(status="stuck")
            return found.waiting

        await until(other_branch_undone)
        assert "undo b1" in shop.log
        assert shop.log.count("cannot undo a2") == 2
        assert not {"undo a1", "undo first"} & set(shop.log)
        (found,) = await coordinator.list(status="stuck")
        assert "a2 is broken" in str(found.error)
        with pytest.raises(SagaStuck, match="a2 is broken") as caught:
            await coordinator.run(body(), id="s")  # type: ignore[arg-type]
        assert caught.value.cause_type == "builtins:ConnectionError"


async def test_an_operator_s_retry_grants_a_new_budget(place: Place) -> None:
    """If that is used up too, the saga is stuck again; in the end it is undone to the beginning."""
    shop = Shop()
    shop.broken = {"a2"}
    body = _branches(shop)

    async with place.coordinator(body, steps=[shop.book]) as coordinator:  # type: ignore[arg-type]
        handle = await coordinator.start(body(), id="s")  # type: ignore[arg-type,var-annotated]
        with pytest.raises(SagaStuck):
            await handle.result()
        await coordinator.retry("s", by="alice")

        async def tried_again() -> bool:
            return shop.log.count("cannot undo a2") == 4 and (await coordinator.get("s")).status == "stuck"

        await until(tried_again)
        shop.broken = set()
        await coordinator.retry("s", by="alice")
        with pytest.raises(SagaCompensated, match="ValueError: no"):
            await handle.result()
    assert shop.log[-3:] == ["undo a2", "undo a1", "undo first"]


async def test_an_operator_may_skip_an_undo_with_a_reason_also_in_the_next_process(place: Place) -> None:
    """What stands before it is undone then; the reason is kept."""
    shop = Shop()
    shop.broken = {"a2"}
    body = _branches(shop)

    async with place.coordinator(body, steps=[shop.book]) as coordinator:  # type: ignore[arg-type]
        handle = await coordinator.start(body(), id="s")  # type: ignore[arg-type,var-annotated]
        with pytest.raises(SagaStuck):
            await handle.result()
        for bad in ("", "  ", None, "\ud800"):
            with pytest.raises(RequestError, match="reason"):
                await coordinator.skip("s", reason=bad)  # type: ignore[arg-type]  # is what is tested
        with pytest.raises(NotApplicable, match="nothing at nowhere waits for a skip"):
            await coordinator.skip("s", reason="x", path="nowhere")
    async with place.coordinator(body, steps=[shop.book]) as coordinator:  # type: ignore[arg-type]
        await coordinator.skip("s", reason="undone by hand", by="alice")
        with pytest.raises(SagaCompensated):
            await coordinator.run(body(), id="s")  # type: ignore[arg-type]
        assert "undone by hand (by alice)" in [line.detail for line in (await coordinator.get("s")).timeline]
    assert shop.log[-2:] == ["undo a1", "undo first"]


async def test_what_is_not_stuck_needs_no_operator(place: Place) -> None:
    """Orders are refused while it runs, and after it has ended."""
    shop = Shop()

    @saga
    async def body() -> None:
        await shop.book("slow")

    async with place.coordinator(body, steps=[shop.book]) as coordinator:
        handle = await coordinator.start(body(), id="s")
        for _ in range(2):
            with pytest.raises(NotApplicable):
                await coordinator.retry("s")
            with pytest.raises(NotApplicable):
                await coordinator.skip("s", reason="x")
            with pytest.raises(NotApplicable):
                await coordinator.resume("s")
            shop.gate.open()
            await handle.result()


async def test_side_by_side_branches_are_undone_side_by_side(place: Place) -> None:
    """The undo of one does not wait for that of the other."""
    gate = Gate()
    undone: list[str] = []

    @step
    async def book(what: str) -> None:
        pass

    @book.compensator
    async def unbook(what: str) -> None:
        if what in "ab":
            await gate.wait()
        undone.append(what)

    @step
    async def refuse() -> None:
        raise Rejected("no")

    @saga
    async def body() -> None:
        await book("first")
        await gather(book("a"), book("b"))
        await refuse()

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body())
        await gate.arrival(2)
        assert undone == []
        gate.open()
        with pytest.raises(SagaCompensated):
            await handle.result()
    assert undone[-1] == "first"


async def test_a_cancel_ends_the_attempts_of_a_step_that_keeps_failing(place: Place) -> None:
    """An endless budget does not keep a saga that nobody wants."""
    tries = 0
    undone: list[str] = []

    @step(retry=Retry(attempts=None, initial=0.001, factor=1))
    async def flaky() -> None:
        nonlocal tries
        tries += 1
        raise ConnectionError("no")

    @flaky.compensator
    async def unflaky() -> None:
        undone.append(current_step().step)

    @saga
    async def body() -> None:
        await flaky()

    async with place.coordinator(body) as coordinator:
        handle = await coordinator.start(body(), id="s")

        async def tried() -> bool:
            return tries > 3

        await until(tried)
        with pytest.raises(RequestError, match="reason"):
            await coordinator.cancel("s", reason="")
        await coordinator.cancel("s", reason="enough")
        with anyio.fail_after(10), pytest.raises(SagaCompensated, match="enough"):
            await handle.result()
    assert undone == ["flaky"]
