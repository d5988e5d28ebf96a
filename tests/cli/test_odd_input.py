"""Whatever people type, and whatever is in the journal, is answered in a line and never by a traceback."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.cli import orders
from tests.cli.conftest import CommandLine

NUMBER, TEXT = "9" * 40, "\udcff"  # what a shell gives for a byte that is no UTF-8


@pytest.mark.parametrize("limit", ["2147483648", "9223372036854775808", NUMBER])
def test_a_limit_that_no_database_takes_is_none(sagas: CommandLine, journal: Callable[..., None], limit: str) -> None:
    journal(first=orders.good(), second=orders.good())
    assert len(sagas("list", "--json", "--limit", limit).json) == 2
    assert sagas("stats", "--json", "--limit", limit).code == 0
    queue = f"{sagas.url}?queue=payments"
    assert sagas("dlq", "list", "--limit", limit, "--queue", queue).out == "no dead letters\n"
    assert "0 sent back" in sagas("dlq", "redrive", limit, "9" * 5000, "--queue", queue).out


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (("show", TEXT), "there is no saga"),
        (("list", "--before", TEXT), "there is no saga"),
        (("list", "--name", TEXT), "name="),
        (("signal", TEXT, "paid"), "there is no saga"),
        (("resume", TEXT), "there is no saga"),
        (("retell", TEXT), "there is no saga"),
        (("run", "tests.cli.orders:good", "--input", TEXT), "is not JSON"),
    ],
)
def test_what_can_name_nothing_names_nothing(
    sagas: CommandLine, journal: Callable[..., None], command: tuple[str, ...], answer: str
) -> None:
    journal(first=orders.good())
    assert answer in sagas.fails(*command)


def test_a_name_that_no_file_can_have_is_no_target(sagas: CommandLine) -> None:
    told = sagas("check", NUMBER * 9)
    assert (told.code, "can be no name of a file: File name too long" in told.err) == (2, True)


@pytest.mark.parametrize("at", [1e15, -1e15, 253_402_300_800.0, float("inf")])
@pytest.mark.parametrize("column", ["created_at", "ended_at"])
def test_a_time_that_no_calendar_has_is_told_with_its_saga(
    sagas: CommandLine, journal: Callable[..., None], column: str, at: float
) -> None:
    journal(first=orders.good())
    with closing(sqlite3.connect("journal.db")) as database, database:
        database.execute(f"UPDATE saga SET {column} = ?", (at,))
    for command in (("list",), ("list", "--json"), ("show", "first"), ("show", "first", "--graph")):
        told = sagas.fails(*command)
        assert told == f"sagas: saga first: {at:g} is no time that a calendar has. Restore the journal from a backup"
    told_of: tuple[tuple[str, ...], ...] = (("top", "--once"), ("stats",), ("purge", "--completed", "1d", "--dry-run"))
    for others in told_of:
        assert sagas(*others).code == 0
