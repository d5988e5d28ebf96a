"""``sagas simulate`` and ``sagas graph``."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.conftest import CommandLine

SHOP = "tests.testing.shop"
GOOD = ("simulate", f"{SHOP}:order", "--world", "open_shop", "--view", "total", "--seed", "1")
BAD = ("simulate", f"{SHOP}:careless", "--world", "open_shop", "--view", "total", "--seed", "1")


def test_a_right_saga_holds_and_the_report_says_what_was_tried(sagas: CommandLine) -> None:
    done = sagas(*GOOD, "-n", "120", "--input", "amounts", "--invariant", "nothing_is_owed")
    assert done.code == 0, done
    assert not done.err
    assert "every law held in all 120 runs of order" in done.out
    assert "--seed 1" in done.out
    assert "of the faults that can happen did; runs ended compensated (" in done.out
    assert "which --json lists" in done.out


def test_a_wrong_saga_ends_at_its_first_broken_law_with_the_smallest_story(sagas: CommandLine) -> None:
    done = sagas(*BAD, "-n", "5000")
    assert done.code == 1
    assert done.out.startswith("saga careless, after 1 fault: undone is as if it had never been — is broken\n")
    assert "@reproduce(careless(amount=0), Fault(" in done.out
    assert "5000 runs" not in done.out


def test_it_goes_on_if_it_is_told_to_and_counts(sagas: CommandLine) -> None:
    done = sagas(*BAD, "-n", "100", "--keep-going", "--json")
    assert done.code == 1
    assert done.json["runs"] == 100
    (broken,) = done.json["broken"]
    assert broken["law"] == "undone is as if it had never been"
    assert broken["runs"] > 1
    assert broken["reproduce"].startswith("@reproduce(careless(amount=0), Fault(")
    assert {"time", "process", "what", "world"} == set(broken["timeline"][0])


def test_json_says_the_same_for_the_same_seed(sagas: CommandLine) -> None:
    first, again = (sagas(*GOOD, "-n", "60", "--json").json for _ in range(2))
    del first["seconds"], again["seconds"]
    assert first == again
    assert first["seed"] == 1
    assert first["broken"] == []
    assert sum(first["outcomes"].values()) == 60


def test_an_invariant_of_another_module_is_found_by_its_full_name(sagas: CommandLine) -> None:
    arguments = ("--always", f"{SHOP}:never_more_than_two", "--faults", "twice", "-n", "30")
    assert sagas(*GOOD, *arguments).code == 0


def test_only_the_faults_that_are_asked_for_happen(sagas: CommandLine) -> None:
    done = sagas(*GOOD, "-n", "40", "--faults", "crash after, lost reply", "--json")
    assert {x["what"] for x in done.json["faults"]} == {"crash after", "lost reply"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("simulate", f"{SHOP}:nothing"), "nothing in tests.testing.shop does not exist"),
        (("simulate", "no/such.py:saga"), "there is no file no/such.py"),
        (("simulate", "no.such.module:saga"), "there is no module no.such.module"),
        (("simulate", f"{SHOP}:order", "--world", "nowhere"), "nowhere does not exist in tests.testing.shop"),
        (("simulate", f"{SHOP}:order", "--world", ":x"), "--world ':x' names nothing; write MODULE:NAME"),
        (
            ("simulate", f"{SHOP}:order", "--world", "nothing_yet"),
            "--world nothing_yet is None when tests.testing.shop",
        ),
        (("simulate", f"{SHOP}:order", "--world", "shop"), "such as world=Shop or world=lambda: Shop(…)"),
        (("simulate", f"{SHOP}:order", "--faults", "boredom"), "there is no 'boredom'; there are: rejected, error"),
        (("simulate", f"{SHOP}:order", "--view", "never_more_than_two"), "view= raised "),
        (("graph", f"{SHOP}:order", "-o", "order.pdf"), "choose a --format"),
        (("graph", f"{SHOP}:order", "-n", "1", "-o", "no/such/place.svg"), "cannot be written: No such file"),
    ],
)
def test_what_cannot_be_tried_is_told_in_one_line(sagas: CommandLine, arguments: tuple[str, ...], told: str) -> None:
    done = sagas(*arguments)
    assert done.code == 2
    assert told in done.err
    assert done.err.count("\n") == 1
    assert not done.out


@pytest.mark.parametrize(
    ("name", "begins"), [("order.svg", "<svg "), ("order.mmd", "%% order: 40 "), ("order.dot", 'digraph "order" {')]
)
def test_a_graph_is_written_in_the_format_of_the_file(sagas: CommandLine, home: Path, name: str, begins: str) -> None:
    done = sagas("graph", f"{SHOP}:order", "-n", "40", "--seed", "1", "--world", "open_shop", "-o", name)
    assert done.code == 0, done
    assert (home / name).read_text(encoding="utf-8").startswith(begins)


def test_a_graph_goes_to_stdout_as_svg_if_nothing_else_is_asked_for(sagas: CommandLine) -> None:
    done = sagas("graph", f"{SHOP}:order", "-n", "20", "--seed", "1", "--world", "open_shop")
    assert ET.fromstring(done.out).tag.endswith("svg")  # noqa: S314 - our own
    mermaid = sagas("graph", f"{SHOP}:order", "-n", "20", "--seed", "1", "--world", "open_shop", "-f", "mermaid")
    assert mermaid.out.splitlines()[1] == "flowchart TD"


def test_help_and_other_commands_import_no_simulator(sagas: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [x for x in sys.modules if x.startswith("sagas.testing")]:
        monkeypatch.delitem(sys.modules, name)
    assert sagas("--help").code == 0
    assert not [x for x in sys.modules if x.startswith("sagas.testing")]


ALONE = """
from hypothesis import strategies as st
from sagas import saga, step
import beside

amounts = {"amount": st.integers(1, 9)}

@step
async def pay(amount: int) -> None: ...

@saga
async def buy(amount: int) -> None:
    await pay(amount)
"""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what is imported, and where it was found."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())


@pytest.mark.usefixtures("kept")
def test_a_saga_is_found_by_its_file_too(sagas: CommandLine, tmp_path: Path) -> None:
    """With what is beside it, as when Python runs the file."""
    (tmp_path / "kiosk").mkdir()
    (tmp_path / "kiosk" / "stand_alone.py").write_text(ALONE)
    (tmp_path / "kiosk" / "beside.py").write_text("")
    done = sagas("simulate", f"{tmp_path}/kiosk/stand_alone.py:buy", "-n", "20", "--input", "amounts", "--most", "0")
    assert done.code == 0, done
    assert "every law held in all 20 runs of buy" in done.out
    drawn = sagas("graph", f"{tmp_path}/kiosk/stand_alone.py:buy", "-n", "2", "-f", "dot")
    assert 'label="pay"' in drawn.out


def test_a_file_in_a_package_is_the_module_that_it_always_is(sagas: CommandLine) -> None:
    done = sagas("simulate", f"{Path(__file__).parents[1]}/testing/shop.py:order", "-n", "1", "--most", "0", "--json")
    assert done.code == 0, done
    assert sys.modules[SHOP].order


@pytest.mark.usefixtures("kept")
def test_a_file_whose_name_is_taken_is_refused(sagas: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("")
    done = sagas("simulate", f"{tmp_path}/json.py:buy")
    assert "would be the module json, which is" in done.err
