"""Code is tried on a journal, forward and back, before it is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from sagas import Retry, Saga, Step, receive, saga, sleep, step
from sagas.core import events as e
from sagas.core.rehearsal import Rehearsal, rehearse
from sagas.core.replay import abandon
from sagas.core.transitions import SagaState
from tests.core.corpus import ONCE_BROKEN
from tests.core.host import Host, Story, stories
from tests.core.plans import STEPS, interpret
from tests.core.single import Run

ERROR = e.ErrorInfo("a:B", "no")


@step
async def ship(item: str) -> str:
    return item


@ship.compensator
async def unship(item: str, result: str | None) -> None: ...


@step(name="ship")
async def ship_without_undo(item: str) -> str:
    return item


@step(name="ship")
async def ship_renamed(article: str) -> str:
    return article


@ship_renamed.compensator
async def unship_renamed(article: str) -> None: ...


@step(name="ship")
async def ship_numbers(item: str) -> int:
    return 1


@ship_numbers.compensator
async def unship_numbers(item: str, result: int | None) -> None: ...


@step(name="ship")
async def ship_fast(item: str, express: bool = False) -> str:
    return item


@ship_fast.compensator
async def unship_fast(item: str, result: str | None) -> None: ...


@step
async def bill(item: str) -> str:
    return item


def _body(first: Step[..., Any]) -> Saga[[], Any]:
    """A saga that calls a step and waits."""

    @saga(name="body")
    async def body() -> Any:
        await first("pen")
        return await receive("go")

    return body


def _rehearse(run: Run, body: Saga[[], Any], *steps: Step[..., Any]) -> Rehearsal:
    return rehearse(body, "s", {one.name: one for one in steps}, run.records)


def _ran(*events: e.Event) -> Run:
    """Runs the original up to somewhere."""
    run = Run(_body(ship))
    run.execution.registry = {"ship": ship}
    for event in events:
        run.feed(event)
    run.execution.close()
    return run


SHIPPED = e.StepSucceeded("1", b'"pen"')
BACKED_OFF = e.StepBackedOff("1", 1, 2000.0, True, ERROR)
PLACES: Mapping[str, tuple[e.Event, ...]] = {
    "called": (),
    "backing off": (BACKED_OFF,),
    "shipped": (SHIPPED,),
    "undoing": (SHIPPED, e.CancelRequested("no more")),
    "undo backing off": (SHIPPED, e.CancelRequested("no more"), e.UndoBackedOff("1", 1, 2000.0, ERROR)),
    "undo failed": (SHIPPED, e.CancelRequested("no more"), e.UndoFailed("1", ERROR)),
}
UNDERWAY = ("called", "backing off")


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], max_examples=60)
@given(story=stories())
def test_the_code_that_wrote_a_journal_fits_every_part_of_it(story: Story) -> None:
    """Whatever the body, its steps, signals, cancels and operators: no false alarm, and no end without an answer."""
    _fits(story)


@pytest.mark.parametrize("story", ONCE_BROKEN.values(), ids=ONCE_BROKEN)
def test_the_code_that_wrote_a_difficult_journal_fits_every_part_of_it(story: Story) -> None:
    """Minimal sagas for which a version of the core broke a law."""
    _fits(story)


def _fits(story: Story) -> None:
    host = Host(story)
    host.run()
    records = host.journal.records()
    host.close()
    for length in range(1, len(records) + 1):
        found = rehearse(interpret, "saga", STEPS, records[:length])
        assert found.objections == found.notes == ()
        assert found.halted is None or host.execution.state is not SagaState.COMPLETED


@pytest.mark.parametrize("place", PLACES)
def test_the_same_code_fits(place: str) -> None:
    """Wherever the saga stands."""
    body = _body(ship)
    assert _rehearse(_ran(*PLACES[place]), body, ship) == Rehearsal((), (), None)


@pytest.mark.parametrize("place", PLACES)
def test_a_compensator_that_is_gone_is_found(place: str) -> None:
    """The rollback would stop at it."""
    found = _rehearse(_ran(*PLACES[place]), _body(ship_without_undo), ship_without_undo)
    (objection,) = found.objections
    assert objection[:3] == ("rollback", "1", "step ship has no compensator any more")
    assert "Keep it until" in objection.remedy


@pytest.mark.parametrize("place", PLACES)
def test_a_parameter_of_a_step_that_was_renamed_is_found(place: str) -> None:
    """Forward where the step is to be attempted again, back where it is to be undone."""
    found = _rehearse(_ran(*PLACES[place]), _body(ship_renamed), ship_renamed)
    told = "the arguments of step ship do not fit their types: article: Field required"
    whens = ["forward", "rollback"] if place in UNDERWAY else ["rollback"]
    assert [one[:3] for one in found.objections] == [(when, "1", told) for when in whens]
    assert all("keep the names" in one.remedy for one in found.objections)


@pytest.mark.parametrize("place", ["shipped", "undoing"])
def test_a_result_of_another_type_is_found(place: str) -> None:
    """The body cannot read it, and the compensator cannot either."""
    found = _rehearse(_ran(*PLACES[place]), _body(ship_numbers), ship_numbers)
    assert [one.when for one in found.objections] == ["forward", "rollback"]
    assert all("the result of step ship does not fit its type" in one.reason for one in found.objections)
    assert found.objections[0].operation == "1"


@pytest.mark.parametrize("place", PLACES)
def test_a_new_parameter_with_a_default_fits_but_is_noted(place: str) -> None:
    """The recorded arguments hold."""
    found = _rehearse(_ran(*PLACES[place]), _body(ship_fast), ship_fast)
    told = "the body now calls ship with other arguments; the recorded ones hold"
    assert found.objections == ()
    assert [one[:3] for one in found.notes] == [("forward", "1", told)]


@pytest.mark.parametrize("place", PLACES)
def test_a_body_that_calls_another_step_is_found_though_it_can_be_undone(place: str) -> None:
    """By the first operation that differs; the rollback needs no body."""
    found = _rehearse(_ran(*PLACES[place]), _body(bill), ship, bill)
    assert [one[:3] for one in found.objections] == [
        ("forward", "1", "the journal says step ship, the body now calls bill")
    ]
    assert "sagas.version" in found.objections[0].remedy


def test_a_step_that_is_gone_is_found_forward_and_back() -> None:
    """The body no longer calls it, and nothing can undo it."""
    found = _rehearse(_ran(), _body(bill), bill)
    assert [one[:3] for one in found.objections] == [
        ("forward", "1", "the journal says step ship, the body now calls bill"),
        ("rollback", "1", "the code has no step ship, which would be undone"),
    ]


def test_a_step_that_only_the_body_finds_is_there() -> None:
    """As one that it calls through its module; without a body that fits, nothing finds it."""
    run = _ran(SHIPPED)
    assert _rehearse(run, _body(ship)) == Rehearsal((), (), None)
    assert [one.when for one in _rehearse(run, _body(bill)).objections] == ["forward", "rollback"]


def test_an_input_that_the_body_no_longer_takes_is_found() -> None:
    """It names the parameter."""

    @saga(name="body")
    async def other(item: str) -> None: ...

    found = rehearse(other, "s", {"ship": ship}, _ran(SHIPPED).records)
    (objection,) = found.objections
    assert (objection.when, objection.operation) == ("forward", "")
    assert "the arguments of saga body do not fit their types: item: Field required" in objection.reason


def test_what_is_past_its_pivot_is_not_undone() -> None:
    """So its compensators are not needed any more; a pivot under way may still turn out not to have acted."""

    @step(pivot=True)
    async def pay() -> int:
        return 1

    @step(name="ship")
    async def bare(item: str) -> str:
        return item

    def body(first: Step[..., Any]) -> Saga[[], Any]:
        @saga(name="body")
        async def body() -> Any:
            await first("pen")
            await pay()
            await sleep(5)

        return body

    for after in ((), (e.StepBackedOff("2", 1, 3000.0, True, ERROR),), (e.StepInDoubt("2", ERROR),)):
        again = Run(body(ship))
        for event in (SHIPPED, *after):
            again.feed(event)
        again.execution.close()
        assert _rehearse(again, body(ship), ship, pay) == Rehearsal((), (), None)
        gone = _rehearse(again, body(bare), bare, pay)
        assert [one[:2] for one in gone.objections] == [("rollback", "1")]
    run = Run(body(ship))
    for event in (SHIPPED, e.StepSucceeded("2", b"1")):
        run.feed(event)
    run.execution.close()
    assert _rehearse(run, body(bare), bare, pay) == Rehearsal((), (), None)


def test_a_body_that_waits_for_better_code_is_told_apart() -> None:
    """After its pivot it has failed; code that fails again has not mended it."""

    @step(pivot=True)
    async def pay() -> int:
        return 1

    @saga(name="body")
    async def broken() -> None:
        await pay()
        raise ZeroDivisionError

    @saga(name="body")
    async def mended() -> int:
        return await pay()

    run = Run(broken)
    run.feed(e.StepSucceeded("1", b"1"))
    run.execution.close()
    assert _rehearse(run, broken, pay) == Rehearsal((), (), "ZeroDivisionError")
    assert _rehearse(run, mended, pay) == Rehearsal((), (), None)


def test_a_rollback_without_a_body_is_tried_too() -> None:
    """It was cancelled while parked, so that only the compensators matter."""
    run = _ran(SHIPPED, e.SagaParked(ERROR))
    run.execution = abandon("s", {"ship": ship}, run.records)
    run.feed(e.CancelRequested("no more"))
    for body in (_body(bill), None):
        assert rehearse(body, "s", {"ship": ship}, run.records) == Rehearsal((), (), None)
        found = rehearse(body, "s", {"ship": ship_renamed}, run.records)
        assert [one.when for one in found.objections] == ["rollback"]


def test_trying_calls_nothing() -> None:
    """Neither steps nor compensators."""
    called: list[str] = []

    @step(retry=Retry(attempts=3))
    async def act() -> None:
        called.append("act")

    @act.compensator
    async def take_back() -> None:
        called.append("take back")

    @saga(name="body")
    async def body() -> None:
        try:
            await act()
            await receive("go")
        finally:
            await act()

    run = Run(body)
    run.feed(e.StepSucceeded("1", b"null"))
    run.execution.close()
    assert _rehearse(run, body, act) == Rehearsal((), (), None)
    assert called == []
