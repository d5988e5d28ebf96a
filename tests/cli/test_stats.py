"""``stats``: figures from the journal alone."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sagas import PayloadContext
from tests.cli import orders
from tests.cli.conftest import CommandLine


def test_it_says_how_many_how_long_and_how_often_undone(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(one=orders.good(), two=orders.good(pieces=3), three=orders.bad("pen"), four=orders.doubtful("pen"))
    headline, standing, _, *rest = sagas("stats").out.splitlines()
    assert headline == "4 sagas started in the last 1 h 0 min (0.00111/s); 4 of them ended (0.00111/s)"
    assert standing == "open now, of all: none; 0 wait for a coordinator"
    lines = {line.split("  ")[0]: line.split() for line in rest}
    assert lines["SAGA"][:6] == ["SAGA", "STARTED", "COMPLETED", "COMPENSATED", "STUCK", "OPEN"]
    assert lines["bad"][:6] == ["bad", "1", "0", "1", "(100.0", "%)"]
    assert lines["good"][:6] == ["good", "2", "2", "(100.0", "%)", "0"]
    assert lines["STEP"] == ["STEP", "ATTEMPTS", "FAILED", "RETRIES", "UNDONE", "P50", "P95", "P99"]
    assert lines["doubtful flaky"][2:7] == ["3", "3", "(100.0", "%)", "2"]
    assert lines["good ship"][2:5] == ["4", "0", "0"]
    assert lines["doubtful ship, undo"][3:5] == ["1", "0"]
    assert rest[-1] == "nothing to compare with: no saga started in the time before"


def test_json_has_everything_and_nothing_else(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(one=orders.good(), two=orders.bad("pen"))
    found = sagas("stats", "--json").json
    assert [(x["name"], x["completed"], x["compensated"], x["undo_rate"]) for x in found["sagas"]] == [
        ("bad", 0, 1, 1.0),
        ("good", 1, 0, 0.0),
    ]
    sell = next(x for x in found["steps"] if x["step"] == "sell")
    assert (sell["saga"], sell["attempts"], sell["failure_rate"]) == ("bad", 1, 1.0)
    assert set(sell["durations"]) == {"count", "p50", "p95", "p99", "longest"}
    assert found["started_per_second"] == pytest.approx(2 / 3600)
    assert (found["read"], found["complete"], found["unusual"]) == (2, True, [])


def test_one_saga_and_a_shorter_time_can_be_asked_for(
    sagas: CommandLine, journal: Callable[..., None], home: Path
) -> None:
    journal(one=orders.good(), two=orders.bad("pen"), old=orders.good())
    assert [x["name"] for x in sagas("stats", "--json", "--saga", "bad").json["sagas"]] == ["bad"]
    with sqlite3.connect(home / "journal.db") as database:
        database.execute("UPDATE saga SET created_at = created_at - 7200 WHERE id <> 'two'")
    assert sagas("stats", "--json").json["read"] == 1
    assert sagas("stats", "--json", "--since", "3h").json["read"] == 3
    assert sagas("stats", "--json", "--since", "99999w").json["read"] == 3
    none = sagas("stats", "--saga", "nope", "--since", "3h")
    assert none.err == (
        "sagas: no saga 'nope' started in the last 3h; those that did are bad, good; --since 7d looks further back\n"
    )
    assert "is no age" in sagas.fails("stats", "--since", "soon")
    assert "since=0" in sagas.fails("stats", "--since", "0s")


def test_an_unusual_step_is_named_with_the_numbers(
    sagas: CommandLine, journal: Callable[..., None], home: Path
) -> None:
    """Made slower behind everybody's back: what counts is what the journal says."""
    journal(**{f"s{number}": orders.good(pieces=10) for number in range(8)})
    with sqlite3.connect(home / "journal.db") as database:
        database.execute("UPDATE saga SET created_at = created_at - 7200 WHERE id < 's5'")
        rows = database.execute("SELECT saga_id, seq, data FROM saga_journal WHERE kind = 'StepSucceeded'").fetchall()
        for saga_id, seq, data in rows:
            fields = json.loads(data)
            fields["attempts"][0][1] = 2.0 if saga_id >= "s5" else 0.2
            where = (json.dumps(fields).encode(), saga_id, seq)
            database.execute("UPDATE saga_journal SET data = ? WHERE saga_id = ? AND seq = ?", where)
    assert re.fullmatch(
        r"unusual: good ship is slower: 95 % took up to (1\.9\d|2\.00) s, before (19\d|200) ms; "
        r"100\.0 % of 30 attempts took longer than that, before 0\.0 % of 50",
        sagas("stats").out.splitlines()[-1],
    )


def test_what_was_not_read_is_said(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(one=orders.good(), two=orders.good(), three=orders.good())
    done = sagas("stats", "--limit", "2")
    assert done.code == 0
    assert done.out.startswith("2 sagas started")
    assert done.err == "sagas: there are more than the 2 newest sagas that were read; --limit 4 reads more\n"


class Turned:
    """Writes every payload backwards."""

    def encode(self, value: bytes, context: PayloadContext) -> bytes:
        return value[::-1]

    decode = encode


turned = Turned()


def test_a_journal_behind_a_codec_needs_it(sagas: CommandLine, journal: Callable[..., None], home: Path) -> None:
    journal(one=orders.good())
    with sqlite3.connect(home / "journal.db") as database:
        for saga_id, seq, data in database.execute("SELECT saga_id, seq, data FROM saga_journal").fetchall():
            where = (bytes(data)[::-1], saga_id, seq)
            database.execute("UPDATE saga_journal SET data = ? WHERE saga_id = ? AND seq = ?", where)
    done = sagas("stats", "--json")
    assert (done.json["steps"], done.json["unreadable"]) == ([], 1)
    assert "the steps of 1 sagas are missing" in done.err
    assert "--codec" in done.err
    done = sagas("stats", "--json", "--codec", "tests.cli.test_stats:turned")
    assert [x["step"] for x in done.json["steps"]] == ["ship"]
    assert done.err == ""


def test_an_empty_journal_is_no_error(sagas: CommandLine) -> None:
    assert sagas("migrate").code == 0
    assert sagas("stats").out.startswith("0 sagas started in the last 1 h 0 min (0/s)")
    assert "there is no database" in sagas.fails("stats", store="sqlite:///nix.db")
