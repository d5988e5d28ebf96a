"""``purge``: archives or deletes finished sagas, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from tests.cli import orders
from tests.cli.conftest import CommandLine, wait_for

AGES = ("--completed", "0s", "--compensated", "0s")


@pytest.fixture(autouse=True)
def _filled(journal: Callable[..., None]) -> None:
    journal(good_1=orders.good(), good_2=orders.good(), bad_1=orders.bad("pen"))
    journal(leave=True, open_1=orders.asks("pen"))


def _ids(sagas: CommandLine) -> set[str]:
    return {row["id"] for row in sagas("list", "--json").json}


def _journals(sagas: CommandLine) -> set[str]:
    """The sagas whose records are still where a coordinator writes them."""
    engine = create_engine(sagas.url)
    with engine.connect() as connection:
        found = {row[0] for row in connection.execute(text("SELECT DISTINCT saga_id FROM saga_journal"))}
    engine.dispose()
    return found


def test_finished_sagas_are_archived_and_look_as_before(sagas: CommandLine) -> None:
    story = sagas("show", "good-1").out
    assert sagas("purge", *AGES).out == "archived: 1 compensated, 2 completed\n"
    assert _journals(sagas) == {"open-1"}
    assert _ids(sagas) == {"good-1", "good-2", "bad-1", "open-1"}
    assert sagas("show", "good-1").out == story
    assert sagas("purge", *AGES).out == "nothing is old enough\n"


def test_with_delete_nothing_of_them_stays(sagas: CommandLine) -> None:
    assert sagas("purge", *AGES, "--delete", "--json").json == {
        "archived": {}, "deleted": {"completed": 2, "compensated": 1}, "kept": 0, "dry_run": False,
    }  # fmt: skip
    assert _ids(sagas) == {"open-1"}


def test_only_the_outcomes_that_are_named_go(sagas: CommandLine) -> None:
    assert sagas("purge", "--compensated", "0s", "--delete").out == "deleted: 1 compensated\n"
    assert _ids(sagas) == {"good-1", "good-2", "open-1"}


def test_what_ended_later_stays(sagas: CommandLine) -> None:
    for age in ("1h", "60m", "30d", "1.5w"):
        assert sagas("purge", "--completed", age).out == "nothing is old enough\n"
    assert _journals(sagas) == {"good-1", "good-2", "bad-1", "open-1"}


def test_archived_sagas_are_deleted_at_an_age_of_their_own(sagas: CommandLine) -> None:
    sagas("purge", *AGES)
    assert sagas("purge", *AGES, "--archived", "1h").out == "nothing is old enough\n"
    assert sagas("purge", *AGES, "--archived", "0s").out == "deleted: 1 compensated, 2 completed\n"
    assert _ids(sagas) == {"open-1"}


def test_with_delete_those_that_are_archived_may_stay_for_longer(sagas: CommandLine) -> None:
    sagas("purge", "--completed", "0s")
    options = (*AGES, "--delete", "--archived")
    assert sagas("purge", *options, "1h", "--dry-run").out == "would be deleted: 1 compensated\n"
    assert sagas("purge", *options, "1h").out == "deleted: 1 compensated\n"
    assert _ids(sagas) == {"good-1", "good-2", "open-1"}
    assert sagas("purge", *options, "0s").out == "deleted: 2 completed\n"
    assert _ids(sagas) == {"open-1"}


def test_a_dry_run_only_counts(sagas: CommandLine) -> None:
    assert sagas("purge", *AGES, "--dry-run").out == "would be archived: 1 compensated, 2 completed\n"
    assert sagas("purge", "--completed", "0s", "--delete", "--dry-run").out == "would be deleted: 2 completed\n"
    assert _journals(sagas) == {"good-1", "good-2", "bad-1", "open-1"}


def test_those_that_changed_hands_a_while_ago_are_counted_and_kept(sagas: CommandLine) -> None:
    """As a dry run foretells. Where all ages are longer, they go like any other."""
    engine = create_engine(sagas.url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE saga_journal SET kind = 'SagaResumed' WHERE saga_id = 'good-1' AND seq = 1"))
    engine.dispose()
    kept = "kept, since they changed hands within the last hour of their life: 1\n"
    assert sagas("purge", *AGES, "--dry-run").out == f"would be archived: 1 compensated, 1 completed\n{kept}"
    assert sagas("purge", *AGES).out == f"archived: 1 compensated, 1 completed\n{kept}"
    assert sagas("purge", *AGES, "--dry-run", "--json").json == {
        "archived": {}, "deleted": {}, "kept": 1, "dry_run": True,
    }  # fmt: skip
    assert sagas("purge", *AGES).out == kept
    assert _journals(sagas) == {"good-1", "open-1"}
    assert sagas("purge", "--completed", "2h").out == "nothing is old enough\n"


def test_more_than_a_batch_goes_at_once(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(**{f"more_{number}": orders.good() for number in range(230)})
    assert sagas("purge", "--completed", "0s", "--dry-run").out == "would be archived: 232 completed\n"
    assert sagas("purge", "--completed", "0s").out == "archived: 232 completed\n"
    assert _journals(sagas) == {"bad-1", "open-1"}


def test_an_open_saga_goes_on_when_those_around_it_are_gone(sagas: CommandLine, coordinator: Callable[[], Any]) -> None:
    sagas("purge", *AGES, "--delete")
    with coordinator():
        assert sagas("signal", "open-1", "approval", "--payload", "true", "--wait", "20").code == 0
        wait_for(lambda: sagas("show", "open-1", "--json").json["status"] == "completed")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "which sagas? Pass --completed 30d"),
        (("--archived", "30d"), "which sagas?"),
        (("--completed", "thirty"), "--completed 'thirty' is no age"),
        (("--completed", "-1d"), "is no age"),
        (("--completed", "30"), "such as 30d"),
        (("--completed", "2d", "--archived", "1d"), "--archived 1d is younger than the age"),
        (("--completed", "2d", "--archived", "1d", "--delete"), "--archived 1d is younger than the age"),
    ],
)
def test_what_makes_no_sense_is_told_in_a_line_and_nothing_goes(
    sagas: CommandLine, options: tuple[str, ...], words: str
) -> None:
    assert words in sagas.fails("purge", *options)
    assert _journals(sagas) == {"good-1", "good-2", "bad-1", "open-1"}
