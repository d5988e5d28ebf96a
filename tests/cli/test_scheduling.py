"""``schedules``: lists, pauses and resumes them, from the journal alone."""

from __future__ import annotations

from datetime import datetime

import anyio
import pytest

from sagas import Coordinator, Schedule
from tests.cli import orders
from tests.cli.conftest import CommandLine

HOURLY = Schedule("hourly", lambda due: orders.good(), every=3600)
NIGHTLY = Schedule("nightly", lambda due: orders.good(), cron="0 3 * * *", timezone="Europe/Berlin")


@pytest.fixture(autouse=True)
def _known(sagas: CommandLine) -> None:
    """A coordinator had both, so the journal knows them."""

    async def play() -> None:
        async with Coordinator(sagas.url, sagas=[orders.good], schedules=[HOURLY, NIGHTLY]) as coordinator:
            while len(await coordinator.schedules()) < 2:  # noqa: ASYNC110 - only the journal tells
                await anyio.sleep(0.01)

    anyio.run(play)


def _paused(sagas: CommandLine) -> list[str]:
    return [row["name"] for row in sagas("schedules", "--json").json if row["paused"]]


def test_a_list_has_a_line_a_schedule_by_name(sagas: CommandLine) -> None:
    header, *lines = sagas("schedules").out.splitlines()
    assert header.split() == ["NAME", "DUE", "STATE", "TIMES"]
    assert [(line.split()[0], line.split()[3]) for line in lines] == [("hourly", "runs"), ("nightly", "runs")]
    assert lines[0].endswith("every 3600 s from 1970-01-01T00:00:00Z")
    assert lines[1].endswith("cron 0 3 * * * in Europe/Berlin")


def test_as_json_it_is_what_a_coordinator_gives(sagas: CommandLine) -> None:
    async def ask() -> list[tuple[str, str, datetime, bool]]:
        async with Coordinator(sagas.url, sagas=[orders.good]) as coordinator:
            return [(x.name, x.spec, x.due_at, x.paused) for x in await coordinator.schedules()]

    rows = sagas("schedules", "--json").json
    assert [(x["name"], x["spec"], datetime.fromisoformat(x["due_at"]), x["paused"]) for x in rows] == anyio.run(ask)


def test_a_schedule_is_paused_until_it_is_resumed(sagas: CommandLine) -> None:
    (line,) = (x for x in sagas("schedules", "--pause", "nightly").out.splitlines() if "nightly" in x)
    assert line.split()[3] == "paused"
    assert _paused(sagas) == ["nightly"]
    assert [x["paused"] for x in sagas("schedules", "--resume", "nightly", "--json").json] == [False, False]
    assert _paused(sagas) == []


def test_one_may_be_paused_while_another_goes_on(sagas: CommandLine) -> None:
    sagas("schedules", "--pause", "nightly")
    sagas("schedules", "--pause", "hourly", "--resume", "nightly")
    assert _paused(sagas) == ["hourly"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--pause", "weekly"), "there is no schedule 'weekly'"),
        (("--resume", "weekly"), "there is no schedule 'weekly'"),
        (("--pause", "hourly", "--resume", "weekly"), "there is no schedule 'weekly'"),
        (("--pause", "hourly", "--resume", "hourly"), "pause or resume 'hourly'?"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line_and_nothing_is_changed(
    sagas: CommandLine, options: tuple[str, ...], words: str
) -> None:
    assert words in sagas.fails("schedules", *options)
    assert _paused(sagas) == []


def test_a_journal_without_schedules_is_no_error(sagas: CommandLine) -> None:
    store = f"{sagas.url}.empty"
    assert sagas("migrate", store=store).code == 0
    assert sagas("schedules", store=store).out == "no schedules\n"
    assert sagas("schedules", "--json", store=store).json == []
