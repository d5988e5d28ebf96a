"""How a step ends: succeeded, rejected, or in doubt; and what its body and its rollback make of that."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import BaseModel

from sagas import (
    NotApplied,
    Rejected,
    Retry,
    SagaCompensated,
    StepFailed,
    StepInDoubt,
    current_step,
    saga,
    step,
)
from tests.coordinator.places import Clock, Gate, Place


class CardDeclined(Exception):
    """A business error, declared in ``rejects``."""

    def __init__(self, code: str, limit: Decimal, *, at: datetime | None = None) -> None:
        super().__init__(code, limit)
        self.code = code
        self.limit = limit
        self.at = at


class OutOfStock(Rejected):
    """A business error by inheritance."""

    def __init__(self, sku: str, left: int) -> None:
        super().__init__(f"{left} of {sku} left")
        self.sku = sku
        self.left = left


class Charge(BaseModel):
    """A result with types of its own."""

    amount: Decimal
    at: datetime


WHEN = datetime(2024, 2, 29, 12, tzinfo=UTC)


async def test_the_body_sees_what_the_journal_decodes_to(place: Place) -> None:
    """Of the declared types, live as on replay."""

    @step
    async def charge(amount: Decimal) -> Charge:
        return Charge(amount=amount, at=WHEN)

    @saga
    async def pay(amount: Decimal) -> tuple[Charge, str]:
        found = await charge(amount)
        return found, type(found.amount).__name__

    async with place.coordinator(pay) as coordinator:
        for _ in range(2):
            assert await coordinator.run(pay(Decimal("1.10")), id="s") == (
                Charge(amount=Decimal("1.10"), at=WHEN), "Decimal",
            )  # fmt: skip


@pytest.mark.parametrize("kind", ["declared", "inherited"])
async def test_a_rejection_is_raised_in_the_body_as_it_was_with_its_fields(place: Place, kind: str) -> None:
    """And what rejected is not undone."""
    undone: list[str] = []

    @step(rejects=(CardDeclined,), retry=Retry(attempts=5))
    async def refuse(kind: str) -> None:
        if kind == "declared":
            raise CardDeclined("expired", Decimal("9.99"), at=WHEN)
        raise OutOfStock("book", 3)

    @refuse.compensator
    async def undo_refuse(kind: str) -> None:
        undone.append(kind)

    @saga
    async def try_it(kind: str) -> list[str]:
        try:
            await refuse(kind)
        except CardDeclined as error:
            return [error.code, repr(error.limit), repr(error.at == WHEN), str(error.args[0])]
        except OutOfStock as error:
            return [error.sku, str(error.left), str(error)]
        return []

    async with place.coordinator(try_it) as coordinator:
        expected = {
            "declared": ["expired", "Decimal('9.99')", "True", "expired"],
            "inherited": ["book", "3", "3 of book left"],
        }
        assert await coordinator.run(try_it(kind), id="s") == expected[kind]
        (found,) = (await coordinator.get("s")).steps
        assert (found.state, len(found.attempts)) == ("rejected", 1)
    assert undone == []


async def test_a_rejection_that_nobody_catches_compensates_and_names_the_cause(place: Place) -> None:
    """What ran before is undone with its result, in reverse order."""
    undone: list[tuple[str, str]] = []

    @step
    async def book(what: str) -> str:
        return what.upper()

    @book.compensator
    async def unbook(what: str, result: str | None) -> None:
        undone.append((what, str(result)))

    @step
    async def refuse() -> None:
        raise OutOfStock("book", 0)

    @saga
    async def order() -> None:
        await book("a")
        await book("b")
        await refuse()

    async with place.coordinator(order) as coordinator:
        for _ in range(2):
            with pytest.raises(
                SagaCompensated, match=r"saga s was compensated: .*OutOfStock: 0 of book left"
            ) as caught:
                await coordinator.run(order(), id="s")
            assert caught.value.saga_id == "s"
            assert caught.value.cause_type.endswith("OutOfStock")
        assert [x.state for x in (await coordinator.get("s")).steps] == ["undone", "undone", "rejected"]
    assert undone == [("b", "B"), ("a", "A")]


async def test_any_other_exception_leaves_doubt_and_is_undone_without_a_result(place: Place) -> None:
    """The step may have acted."""
    undone: list[object] = []

    @step
    async def charge(amount: int) -> int:
        raise ConnectionResetError("reply lost")

    @charge.compensator
    async def refund(amount: int, result: int | None) -> None:
        undone.append((amount, result, current_step().undoes is not None))

    @saga
    async def pay() -> None:
        try:
            await charge(7)
        except StepInDoubt as error:
            raise ValueError(f"{error.step}: {error.error_message}") from error

    async with place.coordinator(pay) as coordinator:
        with pytest.raises(SagaCompensated, match="ValueError: charge: reply lost"):
            await coordinator.run(pay(), id="s")
    assert undone == [(7, None, True)]


async def test_an_atomic_step_that_raises_did_nothing(place: Place) -> None:
    """Its body sees StepFailed, and it is not undone."""
    undone: list[int] = []

    @step(atomic=True)
    async def write() -> int:
        raise OSError("no")

    @write.compensator
    async def unwrite() -> None:
        undone.append(1)

    @saga
    async def body() -> str:
        try:
            await write()
        except StepFailed as error:
            return type(error).__name__
        return ""

    async with place.coordinator(body) as coordinator:
        assert await coordinator.run(body()) == "StepFailed"
    assert undone == []


async def test_a_probe_that_finds_the_effect_gives_the_result(place: Place) -> None:
    """It is asked with the same key, and nothing is tried again."""
    keys: list[tuple[str, str]] = []

    @step(retry=Retry(attempts=3, initial=0))
    async def charge(amount: int) -> int:
        keys.append(("step", current_step().idempotency_key))
        raise TimeoutError("reply lost")

    @charge.probe
    async def find(amount: int) -> int | NotApplied:
        keys.append(("probe", current_step().idempotency_key))
        return amount * 10

    @saga
    async def pay() -> int:
        return await charge(7)

    async with place.coordinator(pay) as coordinator:
        assert await coordinator.run(pay()) == 70
    assert [kind for kind, _ in keys] == ["step", "probe"]
    assert len({key for _, key in keys}) == 1


async def test_a_probe_that_finds_nothing_lets_the_step_be_tried_again(place: Place) -> None:
    """With no budget left, the step is rejected: it is not undone."""
    done: list[str] = []

    @step(retry=Retry(attempts=2, initial=0))
    async def charge(amount: int) -> int:
        done.append("step")
        raise TimeoutError("lost")

    @charge.probe
    def find(amount: int) -> int | NotApplied:
        done.append("probe")
        return NotApplied()

    @charge.compensator
    async def refund(amount: int) -> None:
        done.append("undo")

    @saga
    async def pay() -> str:
        try:
            await charge(7)
        except StepFailed as error:
            return type(error).__name__
        return ""

    async with place.coordinator(pay) as coordinator:
        assert await coordinator.run(pay()) == "StepFailed"
    assert done == ["step", "probe", "step", "probe"]


async def test_a_probe_that_cannot_answer_leaves_doubt(place: Place) -> None:
    """After a few tries."""
    asked = 0

    @step
    async def charge() -> int:
        raise TimeoutError("lost")

    @charge.probe
    async def find() -> int | NotApplied:
        nonlocal asked
        asked += 1
        raise ConnectionError("down too")

    @saga
    async def pay() -> int:
        return await charge()

    async with place.coordinator(pay, clock=Clock(pace=0.01)) as coordinator:
        with pytest.raises(SagaCompensated, match="StepInDoubt"):
            await coordinator.run(pay())
    assert asked == 5


async def test_sync_steps_compensators_and_probes_run_in_worker_threads(place: Place) -> None:
    """And know their context there."""
    seen: list[tuple[bool, str]] = []
    main = threading.current_thread()

    def note() -> None:
        seen.append((threading.current_thread() is main, current_step().step))

    @step
    def work() -> int:
        note()
        raise OSError("lost")

    @work.probe
    def find() -> int:
        note()
        return 7

    @work.compensator
    def unwork(result: int | None) -> None:
        note()

    @step
    async def refuse() -> None:
        raise Rejected("no")

    @saga
    async def body() -> None:
        await work()
        await refuse()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated):
            await coordinator.run(body())
    assert seen == [(False, "work")] * 3


async def test_a_result_that_cannot_be_written_fails_that_step_and_undoes_it(place: Place) -> None:
    """It returned, so it acted; the saga stays readable."""
    undone: list[object] = []

    @step(retry=Retry(attempts=3, initial=0))
    async def make() -> int:
        return "not a number"  # type: ignore[return-value]  # is what is tested

    @make.compensator
    async def unmake(result: int | None) -> None:
        undone.append(result)

    @saga
    async def body() -> int:
        return await make()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match="the result of step make"):
            await coordinator.run(body(), id="s")
        assert (await coordinator.get("s")).status == "compensated"
    assert undone == [None]


@pytest.mark.parametrize(
    "text", ["\udcff in a file's name", "two\nlines\0", "x" * 100_000], ids=["surrogate", "control", "long"]
)
async def test_an_error_may_say_anything(place: Place, text: str) -> None:
    """Its text is no reason for the coordinator to stumble: in a step, a compensator, and a rejection."""

    @step
    async def book() -> int:
        return 1

    @book.compensator(retry=Retry(attempts=2, initial=0))
    async def unbook() -> None:
        if current_step().attempt == 1:
            raise OSError(text)

    @step
    async def refuse(how: str) -> None:
        raise Rejected(text) if how == "rejected" else OSError(text)

    @saga
    async def body(how: str) -> None:
        await book()
        await refuse(how)

    async with place.coordinator(body) as coordinator:
        for how in ("rejected", "in doubt"):
            with pytest.raises(SagaCompensated):
                await coordinator.run(body(how), id=how)
            assert (await coordinator.get(how)).status == "compensated"


async def test_a_step_that_exits_the_process_fails_as_any_other(place: Place) -> None:
    """``sys.exit`` in business code must not end the coordinator."""

    @step
    async def leave() -> None:
        raise SystemExit(3)

    @saga
    async def body() -> None:
        await leave()

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match="SystemExit"):
            await coordinator.run(body())


async def test_a_body_that_raises_compensates(place: Place) -> None:
    """A mistake in a body is a failure like any other, and its traceback is kept."""
    gate = Gate()
    gate.open()

    @step
    async def book() -> int:
        await gate.wait()
        return 1

    @saga
    async def body() -> float:
        return await book() / 0

    async with place.coordinator(body) as coordinator:
        with pytest.raises(SagaCompensated, match="ZeroDivisionError: division by zero"):
            await coordinator.run(body(), id="s")
        assert "await book() / 0" in (await coordinator.get("s")).traceback
