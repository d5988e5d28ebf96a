"""A request that was given up may arrive when all is over, and a client's timeout is no answer."""

from __future__ import annotations

import pytest

from sagas import current_step, saga, step
from sagas.testing import CheckFailed, Fault, Run, Scenario, Simulator, check

rooms: dict[str, str] = {}
cancelled: set[str | None] = set()


def open_hotel() -> dict[str, str]:
    rooms.clear()
    cancelled.clear()
    return rooms


@step
async def book(room: str) -> str:
    return rooms.setdefault(current_step().idempotency_key, room)


@book.compensator
async def cancel() -> None:
    rooms.pop(current_step().undoes or "", None)


@saga
async def travel(room: str) -> str:
    return await book(room)


@step
async def book_unless_cancelled(room: str) -> str:
    assert current_step().idempotency_key not in cancelled, "it was cancelled"
    return rooms.setdefault(current_step().idempotency_key, room)


@book_unless_cancelled.compensator
async def cancel_for_ever() -> None:
    cancelled.add(current_step().undoes)
    rooms.pop(current_step().undoes or "", None)


@saga
async def travel_safely(room: str) -> str:
    return await book_unless_cancelled(room)


@step(rejects=[TimeoutError])
async def book_in_time(room: str) -> str:
    return rooms.setdefault(current_step().idempotency_key, room)


@book_in_time.compensator
async def cancel_in_time() -> None:
    rooms.pop(current_step().undoes or "", None)


@saga
async def travel_in_time(room: str) -> str:
    return await book_in_time(room)


def late_run(call: str) -> Run:
    chosen, place = {"fenced": (travel_safely, book_unless_cancelled), "bare": (travel, book)}[call]
    simulator = Simulator(chosen, world=open_hotel, view=dict, late=True)
    return simulator.run(Scenario(chosen("12a"), (Fault("late", place.name),)))


def test_a_late_request_acts_after_its_undo() -> None:
    run = late_run("bare")
    assert run.status == "compensated"
    assert [x.law for x in run.broken] == ["undone is as if it had never been"]


def test_a_participant_that_remembers_what_was_undone_fends_off_a_late_request() -> None:
    assert late_run("fenced").broken == []


def test_a_timeout_that_is_taken_for_a_refusal_is_found() -> None:
    with pytest.raises(CheckFailed) as failure:
        check(travel_in_time, world=open_hotel, view=dict)
    assert failure.value.law == "undone is as if it had never been"
