"""Waiting in line: by rank, then by arrival; whoever leaves holds up nobody."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas.coordinator.line import Line


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=300), st.integers(0, 300))
def test_those_who_stay_are_called_by_rank_and_arrival(comers: list[tuple[int, bool]], calls: int) -> None:
    line = Line()
    tickets = [(rank, number, line.join(rank)) for number, (rank, _) in enumerate(comers)]
    for (_, leaves), (_, _, ticket) in zip(comers, tickets, strict=True):
        if leaves:
            ticket.decide(admitted=False)
    staying = sorted((entry for entry in tickets if entry[2].admitted is None), key=lambda entry: entry[:2])
    assert line.length == len(staying)
    calls = min(calls, len(staying))
    for _ in range(calls):
        line.call()
    assert [entry[2].admitted for entry in staying] == [True] * calls + [None] * (len(staying) - calls)
    line.join(0).decide(admitted=False)
    assert line.length == len(staying) - calls


async def test_whoever_waits_too_long_is_not_admitted() -> None:
    """And is not called any more."""
    line = Line()
    late, other = line.join(1.0), line.join(2.0)
    assert not await late.wait(0.01)
    line.call()
    assert await other.wait()
    assert line.length == 0


async def test_whoever_was_called_is_admitted_however_late_it_looks() -> None:
    """Nobody else was."""
    line = Line()
    ticket = line.join(1.0)
    line.call()
    assert await ticket.wait(0.0)
    ticket.decide(admitted=False)
    assert ticket.admitted


async def test_a_closed_line_turns_everybody_away() -> None:
    """Those who are in it, and those who come."""
    line = Line()
    before = line.join(1.0)
    line.close()
    assert not await before.wait()
    assert not await line.join(1.0).wait()
    assert line.length == 0


async def test_whoever_is_cancelled_leaves_the_line() -> None:
    """At once."""
    line = Line()
    with anyio.move_on_after(0.01):
        await line.join(1.0).wait()
    assert line.length == 0
    with pytest.raises(IndexError):
        line.call()
