"""What is found, for people, scripts and code hosts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sagas.linting import RULES, Checked, check
from sagas.linting.reports import as_json, as_lines, as_sarif
from tests.cli.conftest import Done
from tests.linting.snippets import HEADER

WRONG = """
import time
@step
async def pack(sku: str) -> None:
    await bank.pack(sku)
@saga
async def order(sku: str) -> None:
    await pack(sku)
    await charge(str(time.time()))
"""
RIGHT = "@saga\nasync def order(sku: str) -> None:\n    await charge(sku)\n"
WARNS = WRONG.replace("str(time.time())", "sku")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {"wrong": WRONG, "right": RIGHT, "warns": WARNS}.items():
        (tmp_path / f"{name}.py").write_text(HEADER + text, encoding="utf-8")
    (tmp_path / "no python.py").write_text("def f(:\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def sagas(here: Path) -> Callable[..., Done]:
    from typer.testing import CliRunner

    from sagas.cli.app import app

    def run(*arguments: str) -> Done:
        done = CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "60"}, prog_name="sagas")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


def line_of(text: str) -> int:
    lines = (HEADER + WRONG).split("\n")
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_people_read_where_which_rule_why_and_what_to_do(sagas: Callable[..., Done]) -> None:
    done = sagas("wrong.py")
    assert done.code == 1
    lines = done.out.split("\n")
    assert lines[0] == f"wrong.py:{line_of('def pack')}:1  warning  uncompensated-step"
    assert lines[1].startswith("  step pack has no compensator: in saga order, charge may fail after it")
    assert lines[2].startswith("  Declare its compensator")
    assert lines[4] == f"wrong.py:{line_of('time.time')}:22  error  wall-clock"
    assert lines[-2] == "✗ 1 file: 1 error and 1 warning"
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("right.py",), 0),
        (("right",), 0),
        (("warns.py",), 0),
        (("warns.py", "--strict"), 1),
        (("right.py", "--strict"), 0),
        (("wrong.py",), 1),
        (("right.py", "wrong"), 1),
        (("wrong:pack",), 0),
        (("no python.py",), 1),
        (("--rules",), 0),
        (("--rules", "wrong.py"), 0),
    ],
)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_the_status_says_whether_something_was_found(
    sagas: Callable[..., Done], arguments: tuple[str, ...], code: int, form: tuple[str, ...]
) -> None:
    done = sagas(*arguments, *form)
    assert (done.code, done.err) == (code, "")
    if form:
        json.loads(done.out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which code? Name modules, files or directories"),
        (("absent",), "there is no module absent"),
        (("absent.py",), "there is no file absent.py"),
        (("right:absent",), "absent does not exist in right.py"),
        (("right.py", "--json", "--sarif"), "choose one"),
        (("right.py", "--codec", "a:b"), "--codec is for a journal"),
    ],
)
def test_what_cannot_be_checked_exits_with_2(sagas: Callable[..., Done], arguments: tuple[str, ...], says: str) -> None:
    done = sagas(*arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.count("\n") == 1


def test_rules_are_listed(sagas: Callable[..., Done]) -> None:
    out = sagas("--rules").out
    listed = sagas("--rules", "--json").json
    for rule, each in zip(RULES.values(), listed, strict=True):
        assert rule.id in out
        assert rule.reason in out
        assert rule.remedy in out
        assert each == {"id": rule.id, "severity": rule.severity.value, "reason": rule.reason, "remedy": rule.remedy}


def test_a_name_of_a_file_cannot_steer_the_terminal(sagas: Callable[..., Done], here: Path) -> None:
    (here / "a\x1b[31mb.py").write_text("def f(:\n", encoding="utf-8")
    assert "\x1b" not in sagas(".").out


def test_scripts_get_everything_by_name(sagas: Callable[..., Done]) -> None:
    """Fields may be added to this; none is renamed or removed."""
    report = sagas("wrong.py", "right.py", "--json").json
    assert {key: report[key] for key in ("files", "errors", "warnings")} == {"files": 2, "errors": 1, "warnings": 1}
    clock = report["findings"][1]
    assert {key: clock[key] for key in clock if key not in ("reason", "remedy")} == {
        "path": "wrong.py", "line": line_of("time.time"), "column": 22, "end_line": line_of("time.time"),
        "end_column": 33, "rule": "wall-clock", "severity": "error",
    }  # fmt: skip
    assert clock["remedy"] == RULES["wall-clock"].remedy
    assert "saga order calls time.time" in clock["reason"]


def checked(here: Path) -> Checked:
    return check([str(here)])


def test_code_hosts_get_what_sarif_requires(sagas: Callable[..., Done], here: Path) -> None:
    """Every field that SARIF 2.1.0 requires is there, with the type and the range that its schema gives."""
    done = sagas(".", "--sarif")
    assert done.code == 1
    log: Any = done.json
    assert log == json.loads(json.dumps(as_sarif(checked(here))))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"]
    assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    ids = [rule["id"] for rule in driver["rules"]]
    assert ids == list(RULES)
    for rule in driver["rules"]:
        assert all(rule[part]["text"] for part in ("shortDescription", "fullDescription", "help"))
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert len(run["results"]) == len(checked(here).findings) == 4
    for result in run["results"]:
        _check_result(result, ids)


def _check_result(result: Any, ids: list[str]) -> None:
    assert result["message"]["text"]
    assert result["level"] in ("none", "note", "warning", "error")
    assert ids[result["ruleIndex"]] == result["ruleId"]
    (location,) = result["locations"]
    place = location["physicalLocation"]
    uri = place["artifactLocation"]["uri"]
    assert " " not in uri
    assert not uri.startswith("/")
    region = place["region"]
    assert all(isinstance(number, int) and number >= 1 for number in region.values())
    assert (region["startLine"], region["startColumn"]) < (region["endLine"], region["endColumn"])


def test_paths_outside_of_the_current_directory_are_files_with_their_whole_uri(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    log: Any = as_sarif(check([str(here / "wrong.py")]))
    uris = {
        result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in log["runs"][0]["results"]
    }
    assert uris == {(here / "wrong.py").resolve().as_uri()}


def test_reports_of_nothing_say_so(here: Path) -> None:
    clean = check([str(here / "right.py")])
    assert ["".join(text for text, _ in parts) for parts in as_lines(clean)] == ["✓ 1 file: nothing found"]
    assert as_json(clean) == {"files": 1, "errors": 0, "warnings": 0, "findings": []}
