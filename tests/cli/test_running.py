"""``run``: a saga named on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine

GOOD = "tests.cli.orders:good"
BAD = "tests.cli.orders:bad"


def test_run_runs_a_saga_to_its_end_and_tells_its_story(sagas: CommandLine) -> None:
    done = sagas("run", GOOD, "--input", '{"item": "pen", "pieces": 2}', "--id", "order-1")
    assert done.code == 0
    assert '["parcel with pen","parcel with pen"]' in done.out
    assert "saga completed" in done.out
    assert sagas("show", "order-1").out == done.out


def test_run_fills_in_the_defaults_of_the_saga(sagas: CommandLine) -> None:
    assert sagas("run", GOOD, "--json").json["result"] == ["parcel with book"]


def test_run_as_json_gives_the_whole_view(sagas: CommandLine) -> None:
    view = sagas("run", GOOD, "--json", "--id", "order-1").json
    assert view["id"] == "order-1"
    assert view["status"] == "completed"


def test_a_saga_that_is_compensated_exits_with_1_and_says_why(sagas: CommandLine) -> None:
    done = sagas("run", BAD, "--input", '{"item": "pen"}', "--json")
    assert done.code == 1
    assert done.json["status"] == "compensated"
    assert "was compensated" in done.err
    assert "SoldOut" in done.err
    assert done.err.count("\n") == 1


def test_the_same_id_and_input_are_the_same_saga(sagas: CommandLine) -> None:
    first = sagas("run", GOOD, "--id", "order-1")
    assert sagas("run", GOOD, "--id", "order-1").out == first.out
    assert len(sagas("list", "--json").json) == 1


def test_the_same_id_with_another_input_is_refused(sagas: CommandLine) -> None:
    sagas("run", GOOD, "--id", "order-1")
    line = sagas.fails("run", GOOD, "--input", '{"item": "pen"}', "--id", "order-1")
    assert "order-1" in line
    assert "another input" in line


def test_sagas_are_found_in_the_current_directory(sagas: CommandLine, home: Path) -> None:
    (home / "my_sagas_of_today.py").write_text(
        "from sagas import saga\n@saga\nasync def answer() -> int:\n    return 42\n"
    )
    assert sagas("run", "my_sagas_of_today:answer", "--json").json["result"] == 42


def test_a_saga_s_own_name_means_its_newest_version(sagas: CommandLine, home: Path) -> None:
    versions = "".join(
        f"@saga(name='answer', version='{version}')\nasync def answer_{version}() -> int:\n    return {version}\n"
        for version in (9, 10, 8)
    )
    (home / "several_versions.py").write_text(f"from sagas import saga\n{versions}")
    assert sagas("run", "several_versions:answer", "--json").json["result"] == 10
    assert sagas("run", "several_versions:answer_9", "--json").json["result"] == 9


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("nothing", "MODULE:SAGA"),
        (":good", "MODULE:SAGA"),
        ("tests.cli.orders:", "MODULE:SAGA"),
        ("no_such_module:good", "there is no module no_such_module"),
        ("tests.cli.nowhere:good", "there is no module tests.cli.nowhere"),
        ("tests.cli.orders:nobody", "does not exist; its sagas are asks, bad, doubtful, good, guards, loud"),
        ("tests.cli.orders:ship", "is no saga; its sagas are"),
        ("json:loads", "it has no sagas"),
    ],
)
def test_what_names_no_saga_is_told_apart(sagas: CommandLine, home: Path, where: str, says: str) -> None:
    assert says in sagas.fails("run", where)
    assert not (home / "journal.db").exists()


@pytest.mark.parametrize("code", ["1 / 0", "import a_module_that_is_missing", "syntax error"])
def test_a_module_that_cannot_be_imported_says_why(sagas: CommandLine, home: Path, code: str) -> None:
    (home / f"broken_{abs(hash(code))}.py").write_text(code)
    assert "cannot be imported" in sagas.fails("run", f"broken_{abs(hash(code))}:x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "--input is not JSON"),
        ("", "--input is not JSON"),
        ('{"item": NaN}', "--input is not JSON"),
        ('"pen"', 'by name: {"item": …}'),
        ("{}", "lacks item"),
        ('{"item": "pen", "colour": "red"}', "has unknown colour"),
        ('{"item": 3}', "item in --input does not fit its type"),
    ],
)
def test_an_input_that_does_not_fit_says_what_is_wrong(sagas: CommandLine, home: Path, text: str, says: str) -> None:
    assert says in sagas.fails("run", BAD, "--input", text)
    assert not (home / "journal.db").exists()


def test_an_id_that_names_nothing_is_refused(sagas: CommandLine) -> None:
    assert "cannot name a saga" in sagas.fails("run", GOOD, "--id", "")


def test_an_unusable_store_is_one_line(sagas: CommandLine, home: Path) -> None:
    (home / "journal.db").write_bytes(b"certainly no database" * 100)
    assert "not a database" in sagas.fails("run", GOOD)
    assert "no directory" in sagas.fails("run", GOOD, store="sqlite:///nowhere/x.db")


def test_what_a_saga_says_cannot_steer_the_terminal(sagas: CommandLine) -> None:
    run = sagas("run", "tests.cli.orders:loud", "--id", "order-1")
    for text in (run.out, run.err, sagas("show", "order-1").out, sagas("list").out):
        assert "red" in text
        assert "\x1b" not in text
        assert "\x07" not in text
