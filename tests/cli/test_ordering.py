"""``signal``, ``cancel``, ``retry``, ``skip``, ``resume``: another process drives the saga."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli import orders
from tests.cli.conftest import CommandLine, wait_for

Journal = Callable[..., None]
Start = Callable[[], Any]

WAIT = ("--wait", "20")


def _status(sagas: CommandLine, saga_id: str) -> str:
    return str(sagas("show", saga_id, "--json").json["status"])


def test_a_signal_reaches_a_saga_in_another_process(sagas: CommandLine, journal: Journal, coordinator: Start) -> None:
    journal(order_1=orders.asks("pen"), leave=True)
    with coordinator():
        done = sagas("signal", "order-1", "approval", "--payload", "true", *WAIT)
    assert done.code == 0
    assert "signal done" in done.out
    assert "now completed" in done.out
    assert sagas("show", "order-1", "--json").json["result"] is True


def test_a_cancel_undoes_a_saga_in_another_process(sagas: CommandLine, journal: Journal, coordinator: Start) -> None:
    journal(order_1=orders.asks("pen"), leave=True)
    with coordinator():
        told = sagas("cancel", "order-1", "--reason", "changed my mind", "--by", "ann", "--json", *WAIT).json
    assert told["taken"]
    assert not told["refused"]
    assert told["status"] == "compensated"
    assert "changed my mind (by ann)" in sagas("show", "order-1").out


def test_retry_and_skip_mend_what_is_stuck(
    sagas: CommandLine, journal: Journal, coordinator: Start, home: Path
) -> None:
    (home / orders.BROKEN).touch()
    journal(order_1=orders.bad("pen"), order_2=orders.bad("cup"))
    assert _status(sagas, "order-1") == _status(sagas, "order-2") == "stuck"
    with coordinator():
        again = sagas("retry", "order-1", *WAIT)  # the undo is still broken
        assert "now stuck" in again.out
        skipped = sagas("skip", "order-2", "--reason", "fetched by hand", "--path", "1", *WAIT)
        assert "skip done for ship (1); saga order-2 is now compensated" in skipped.out
        (home / orders.BROKEN).unlink()
        assert "now compensated" in sagas("retry", "order-1", *WAIT).out
    assert "fetched by hand" in sagas("show", "order-2").out


@pytest.mark.parametrize("order", ["retry", "resume"])
def test_what_a_step_halts_is_resumed_as_it_is_retried(
    sagas: CommandLine, journal: Journal, coordinator: Start, home: Path, order: str
) -> None:
    (home / orders.BROKEN).touch()
    journal(order_1=orders.bad("pen"))
    (home / orders.BROKEN).unlink()
    with coordinator():
        done = sagas(order, "order-1", *WAIT)
    assert (done.code, done.err) == (0, "")
    assert f"{order} done for ship (1); saga order-1 is now compensated" in done.out


def test_an_order_that_its_coordinator_refuses_is_an_error(
    sagas: CommandLine, journal: Journal, coordinator: Start, home: Path
) -> None:
    (home / orders.BROKEN).touch()
    journal(order_1=orders.bad("pen"))
    with coordinator():
        done = sagas("retry", "order-1", "--path", "99", *WAIT)
    assert done.code == 1
    assert not done.out
    assert "refused" in done.err


def test_a_signal_whose_payload_does_not_fit_is_refused(
    sagas: CommandLine, journal: Journal, coordinator: Start
) -> None:
    journal(order_1=orders.asks("pen"), leave=True)
    with coordinator():
        done = sagas("signal", "order-1", "approval", "--payload", '{"no": "boolean"}', "--json", *WAIT)
    assert done.code == 1
    assert done.json["refused"]
    assert _status(sagas, "order-1") == "running"


def test_without_a_coordinator_an_order_is_kept_until_one_starts(
    sagas: CommandLine, journal: Journal, coordinator: Start
) -> None:
    journal(order_1=orders.asks("pen"), leave=True)
    done = sagas("cancel", "order-1", "--reason", "no", "--wait", "0.1")
    assert done.code == 0
    assert "no coordinator that is alive" in done.out
    assert _status(sagas, "order-1") == "running"
    with coordinator():
        wait_for(lambda: _status(sagas, "order-1") == "compensated")


def test_an_order_can_be_left_without_waiting(sagas: CommandLine, journal: Journal) -> None:
    journal(order_1=orders.asks("pen"), leave=True)
    told = sagas("signal", "order-1", "approval", "--wait", "0", "--json").json
    assert told["taken"] is False
    assert told["order"] == "signal"


def test_resume_lets_a_parked_saga_go_on(sagas: CommandLine, journal: Journal, coordinator: Start, home: Path) -> None:
    journal(order_1=orders.asks("pen"), leave=True)
    (home / orders.CHANGED).touch()
    sagas("signal", "order-1", "approval", "--payload", "true", "--wait", "0")
    with coordinator():
        wait_for(lambda: _status(sagas, "order-1") == "stuck")
        assert "refused" in sagas("resume", "order-1", *WAIT).err  # the code does not fit yet
    (home / orders.CHANGED).unlink()
    with coordinator():
        assert sagas("resume", "order-1", *WAIT).code == 0
        wait_for(lambda: _status(sagas, "order-1") == "completed")


def test_cancelling_what_is_being_undone_is_no_error_and_changes_nothing(
    sagas: CommandLine, journal: Journal, coordinator: Start, home: Path
) -> None:
    (home / orders.BROKEN).touch()
    journal(order_1=orders.bad("pen"))
    with coordinator():
        done = sagas("cancel", "order-1", "--reason", "no", *WAIT)
    assert done.code == 0
    assert "being undone already" in done.out
    assert "cancel requested" not in sagas("show", "order-1").out


@pytest.mark.parametrize(
    "order",
    [
        ("signal", "x", "approval"),
        ("cancel", "x", "--reason", "no"),
        ("retry", "x"),
        ("skip", "x", "--reason", "no"),
        ("resume", "x"),
    ],
)
class TestEveryOrder:
    def test_refuses_an_unknown_id(self, sagas: CommandLine, order: tuple[str, ...]) -> None:
        sagas("migrate")
        assert "there is no saga 'x'" in sagas.fails(*order)

    def test_refuses_a_saga_that_has_ended(
        self, sagas: CommandLine, journal: Journal, order: tuple[str, ...], home: Path
    ) -> None:
        journal(x=orders.good())
        assert "has ended (completed)" in sagas.fails(*order)
        with sqlite3.connect(home / "journal.db") as database:
            assert database.execute("SELECT count(*) FROM saga_mail").fetchone() == (0,)

    def test_refuses_an_absent_database(self, sagas: CommandLine, order: tuple[str, ...], home: Path) -> None:
        assert "there is no database" in sagas.fails(*order)
        assert not list(home.iterdir())


@pytest.mark.parametrize("order", [("retry", "x"), ("skip", "x", "--reason", "no"), ("resume", "x")])
def test_what_is_not_stuck_cannot_be_mended(sagas: CommandLine, journal: Journal, order: tuple[str, ...]) -> None:
    journal(x=orders.asks("pen"), leave=True)
    assert "not stuck" in sagas.fails(*order)


def test_a_payload_that_is_no_json_is_refused(sagas: CommandLine) -> None:
    line = sagas.fails("signal", "x", "approval", "--payload", "yes")
    assert "--payload is not JSON" in line


@pytest.mark.parametrize("name", ["", "n" * 201])
def test_what_cannot_name_a_signal_is_refused(sagas: CommandLine, name: str) -> None:
    assert "cannot name a signal" in sagas.fails("signal", "x", name)


@pytest.mark.parametrize("order", ["cancel", "skip"])
def test_a_reason_is_needed(sagas: CommandLine, order: str) -> None:
    assert "--reason is empty" in sagas.fails(order, "x", "--reason", "  ")
    assert sagas(order, "x").code == 2
