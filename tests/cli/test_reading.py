"""``list`` and ``show``: from the journal alone."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from sagas import Coordinator
from sagas.cli.rendering import duration
from tests.cli import orders
from tests.cli.conftest import CommandLine


def test_a_list_has_a_line_a_saga_newest_first(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(first=orders.good(), second=orders.bad("pen"))
    header, *lines = sagas("list").out.splitlines()
    assert header.split() == ["ID", "SAGA", "STATUS", "STARTED", "TOOK", "WHY"]
    assert [line.split()[:4] for line in lines] == [
        ["second", "bad", "1", "compensated"],
        ["first", "good", "1", "completed"],
    ]
    assert lines[0].endswith("SoldOut: pen")


def test_a_list_can_be_narrowed_and_turned_over(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(first=orders.good(), second=orders.bad("pen"), third=orders.good())

    def ids(*options: str) -> list[str]:
        return [row["id"] for row in sagas("list", "--json", *options).json]

    assert ids() == ["third", "second", "first"]
    assert ids("--status", "completed") == ["third", "first"]
    assert ids("--name", "bad") == ["second"]
    assert ids("--limit", "2") == ["third", "second"]
    assert ids("--before", "second") == ["first"]


def test_a_list_that_is_cut_off_says_how_to_see_more(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(first=orders.good(), second=orders.good())
    assert "--before second" in sagas("list", "--limit", "1").err


def test_an_empty_journal_is_no_error(sagas: CommandLine) -> None:
    assert sagas("migrate").code == 0
    assert sagas("list").out == "no sagas\n"
    assert sagas("list", "--json").json == []


def test_show_tells_every_step_attempt_undo_duration_and_the_cause(
    sagas: CommandLine, journal: Callable[..., None]
) -> None:
    journal(order_1=orders.doubtful("pen"))
    done = sagas("show", "order-1")
    assert done.code == 0
    story = done.out
    assert "order-1  doubtful, version 1, compensated in" in story
    assert '{"item":"pen"}' in story
    assert "cause" in story
    assert "StepInDoubt" in story
    lines = [line.split(maxsplit=2)[2] for line in story.splitlines() if line.startswith("  +")]
    whats = ["saga started", "step succeeded", "step in doubt", "undo succeeded", "undo succeeded", "saga compensated"]
    assert [line[2:].startswith(what) for line, what in zip(lines, whats, strict=True)] == [True] * len(whats)
    assert "ship (1)" in lines[1]
    assert " ms" in lines[1]
    assert "flaky (2)" in lines[2]
    assert story.count("TimeoutError: no answer") >= 3
    assert [f"attempt {n}" in story for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert "flaky (2)" in lines[3]
    assert "ship (1)" in lines[4]


def test_show_tells_what_is_under_way(sagas: CommandLine, journal: Callable[..., None], home: Path) -> None:
    (home / orders.BROKEN).touch()
    journal(order_1=orders.bad("pen"))
    story = sagas("show", "order-1").out
    assert "stuck" in story
    now = next(line for line in story.splitlines() if line.split()[:1] == ["now"])
    assert "undo failed" in now
    assert "ConnectionError: the depot does not answer" in now


def test_show_as_json_holds_the_whole_view(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(order_1=orders.bad("pen"))
    view = sagas("show", "order-1", "--json").json
    assert view["id"] == "order-1"
    assert view["status"] == "compensated"
    assert view["cause"] == "SoldOut: pen"
    assert view["input"] == {"item": "pen"}
    assert [(step["name"], step["state"]) for step in view["steps"]] == [("ship", "undone"), ("sell", "rejected")]
    assert [line["what"] for line in view["timeline"]][-1] == "saga compensated"


def test_show_tells_the_locks_that_a_saga_holds_and_waits_for(sagas: CommandLine, url: str) -> None:
    async def play() -> None:
        async with Coordinator(url, sagas=[orders.guards]) as coordinator:
            await coordinator.start(orders.guards("sku-1"), id="first")
            while not any(lock.held for lock in (await coordinator.get("first")).locks):  # noqa: ASYNC110 - only the journal tells
                await anyio.sleep(0.01)
            await coordinator.start(orders.guards("sku-1"), id="second")

    anyio.run(play)
    first, second = sagas("show", "first").out, sagas("show", "second").out
    assert "locks    sku-1" in first
    assert "✓ lock granted" in first
    assert "waiting for a lock" not in first
    assert "locks  " not in second
    assert "● waiting for a lock  sku-1 (1)" in second
    (lock,) = sagas("show", "--json", "second").json["locks"]
    assert (lock["name"], lock["path"], lock["held"]) == ("sku-1", "1", False)


def test_show_tells_the_signal_that_a_saga_waits_for(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(leave=True, order_1=orders.asks("pen"))
    (line,) = [line for line in sagas("show", "order-1").out.splitlines() if "waiting for a signal" in line]
    assert "● waiting for a signal  approval (2)" in line
    assert line.endswith(", to carry bool")
    assert sagas("show", "order-1", "--graph").out.splitlines()[-1].endswith("waits for signal approval ◀ now")
    (signal,) = sagas("show", "--json", "order-1").json["signals"]
    assert (signal["name"], signal["path"], signal["type"], signal["until"]) == ("approval", "2", "bool", None)


def test_reading_needs_no_code_of_the_saga(
    sagas: CommandLine, journal: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal(order_1=orders.good())
    monkeypatch.setitem(sys.modules, "tests.cli.orders", None)
    assert sagas("show", "order-1").code == 0
    assert sagas("list").code == 0


def test_reading_changes_nothing_in_the_database(sagas: CommandLine, journal: Callable[..., None], home: Path) -> None:
    journal(order_1=orders.good())
    with sqlite3.connect(home / "journal.db") as database:
        before = list(database.iterdump())
    sagas("show", "order-1")
    sagas("list")
    with sqlite3.connect(home / "journal.db") as database:
        assert list(database.iterdump()) == before
    assert not [path for path in home.iterdir() if "lease" in path.name]


def test_reading_waits_for_no_writer(sagas: CommandLine, journal: Callable[..., None], home: Path) -> None:
    journal(order_1=orders.good())
    writer = sqlite3.connect(home / "journal.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    try:
        assert sagas("show", "order-1").code == 0
    finally:
        writer.close()


def test_a_saga_that_nobody_drives_says_what_it_waits_for(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(leave=True, order_1=orders.asks("pen"))
    assert sagas("list").out.splitlines()[1].endswith("waits for a coordinator")
    assert "waits    for a coordinator" in sagas("show", "order-1").out
    assert sagas("list", "--json").json[0]["waits_for"] == "a coordinator"

    async def look() -> None:
        async with Coordinator(sagas.url, sagas=[orders.good]):
            assert sagas("list").out.splitlines()[1].endswith("waits for code of asks version 1")
            assert "waits    for code of asks version 1" in sagas("show", "order-1").out
        async with Coordinator(sagas.url, sagas=[orders.asks]):
            assert "waits for" not in sagas("list").out

    anyio.run(look)


def test_the_coordinators_that_are_alive_are_listed(sagas: CommandLine) -> None:
    sagas("migrate")
    assert sagas("coordinators").out == "no coordinator is alive\n"

    async def look() -> None:
        async with Coordinator(sagas.url, sagas=[orders.good, orders.bad], name="shop-1") as coordinator:
            (own,) = await coordinator.coordinators()
            header, line = sagas("coordinators").out.splitlines()
            assert header.split("  ")[0] == "ID"
            assert line.split()[:2] == [own.id, "shop-1"]
            assert line.endswith("bad@1, good@1")
            (told,) = sagas("coordinators", "--json").json
            assert (told["name"], told["code"]) == ("shop-1", ["bad@1", "good@1"])

    anyio.run(look)
    assert sagas("coordinators", "--json").json == []


@pytest.mark.parametrize("command", [("list",), ("show", "x"), ("cancel", "x", "--reason", "no"), ("coordinators",)])
def test_an_absent_database_is_named_and_not_created(sagas: CommandLine, home: Path, command: tuple[str, ...]) -> None:
    line = sagas.fails(*command)
    assert str(home / "journal.db") in line
    assert "sagas migrate" in line
    assert not list(home.iterdir())


def test_a_file_that_is_no_database_is_named(sagas: CommandLine, home: Path) -> None:
    (home / "journal.db").write_bytes(b"certainly no database" * 100)
    line = sagas.fails("list")
    assert "journal.db" in line
    assert "not a database" in line


def test_a_directory_is_no_database(sagas: CommandLine, home: Path) -> None:
    (home / "journal.db").mkdir()
    assert "cannot be read" in sagas.fails("list")


def test_a_database_without_a_journal_is_named_and_left_alone(sagas: CommandLine, home: Path) -> None:
    with sqlite3.connect(home / "journal.db") as database:
        database.execute("CREATE TABLE somebody_elses (id INTEGER)")
    before = (home / "journal.db").read_bytes()
    assert "holds no journal" in sagas.fails("list")
    assert (home / "journal.db").read_bytes() == before


def test_a_journal_of_a_newer_version_says_so(sagas: CommandLine, home: Path) -> None:
    sagas("migrate")
    with sqlite3.connect(home / "journal.db") as database:
        database.execute("UPDATE saga_schema SET version_num = '9999'")
        database.execute("UPDATE saga_migration SET version_num = '9999'")
    assert "9999" in sagas.fails("list")


def test_an_unknown_id_says_where_to_look(sagas: CommandLine) -> None:
    sagas("migrate")
    line = sagas.fails("show", "nobody")
    assert "'nobody'" in line
    assert "sagas list" in line
    assert "'nobody'" in sagas.fails("list", "--before", "nobody")


@pytest.mark.parametrize(
    "tampering",
    [
        "DELETE FROM saga_journal WHERE seq = (SELECT max(seq) FROM saga_journal)",
        "DELETE FROM saga_journal WHERE seq = 1",
        "DELETE FROM saga_journal",
        "UPDATE saga_journal SET at = at + 1 WHERE seq = 1",
        "UPDATE saga_journal SET data = x'00' WHERE seq = 1",
    ],
)
def test_a_journal_that_was_tampered_with_says_so(
    sagas: CommandLine, journal: Callable[..., None], home: Path, tampering: str
) -> None:
    journal(order_1=orders.bad("pen"))
    with sqlite3.connect(home / "journal.db") as database:
        assert database.execute(tampering).rowcount
    assert "order-1" in sagas.fails("show", "order-1")


class Backwards:
    """A codec, as one that encrypts."""

    def encode(self, value: bytes, context: object) -> bytes:
        return value[::-1]

    def decode(self, value: bytes, context: object) -> bytes:
        return value[::-1]


def test_a_journal_behind_a_codec_can_be_listed_and_show_says_what_to_do(sagas: CommandLine) -> None:
    async def play() -> None:
        async with Coordinator(sagas.url, sagas=[orders.good], codec=Backwards()) as coordinator:
            await coordinator.run(orders.good(), id="order-1")

    anyio.run(play)
    assert sagas("list", "--json").json[0]["status"] == "completed"
    line = sagas.fails("show", "order-1")
    assert "codec" in line
    assert "coordinator.get" in line


@pytest.mark.parametrize("store", ["postgres://x", "orders.db", "sqlite:///", "sqlite:///x.db?synchronous=SOMETIMES"])
def test_a_url_that_names_no_store_is_refused(sagas: CommandLine, store: str) -> None:
    assert sagas.fails("list", store=store)


def test_memory_is_refused_where_another_process_would_have_to_see_it(sagas: CommandLine) -> None:
    assert "no file" in sagas.fails("list", store="memory:")
    assert sagas.fails("migrate", store="memory:")


def test_without_a_store_the_two_ways_to_name_one_are_told(sagas: CommandLine) -> None:
    line = sagas.fails("list", store="")
    assert "--store" in line
    assert "SAGAS_STORE" in line


def test_an_option_goes_before_the_environment(sagas: CommandLine, home: Path) -> None:
    assert sagas("migrate", "--store", "sqlite:///other.db").code == 0
    assert (home / "other.db").exists()
    assert not (home / "journal.db").exists()


def test_an_unknown_status_lists_the_known_ones(sagas: CommandLine) -> None:
    done = sagas("list", "--status", "fine")
    assert done.code == 2
    assert "compensating" in done.err


def test_migrate_tells_the_version_and_can_be_run_again(sagas: CommandLine) -> None:
    for _ in range(2):
        assert sagas("migrate").code == 0
    told = sagas("migrate", "--json").json
    assert told["store"] == sagas.url
    assert told["version"]


def test_migrate_refuses_a_directory_that_is_not_there(sagas: CommandLine) -> None:
    assert "no directory" in sagas.fails("migrate", store="sqlite:///nowhere/journal.db")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.000001, "<0.1 ms"), (0.0003, "0.3 ms"),
        (0.0032, "3.2 ms"), (0.35, "350 ms"), (2.5, "2.50 s"), (200, "3 min 20 s"),
        (7500, "2 h 5 min"), (4 * 86_400 + 3 * 3600, "4 d 3 h"),
    ],
)  # fmt: skip
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_json_is_all_there_is_on_stdout(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(order_1=orders.good())
    for command in (("list",), ("show", "order-1"), ("migrate",)):
        done = sagas(*command, "--json")
        json.loads(done.out)
        assert not done.err
