"""The story of a run can be read: it fits the terminal, names things, and shows what has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest

from sagas import Rejected, Retry, saga, step
from sagas.testing import CheckFailed, Fault, Scenario, Simulator, play
from sagas.testing.simulation.stage import Entry
from sagas.testing.stories import snapshot, table
from tests.testing import shop


@dataclass
class World:
    stock: int
    charged: dict[str, int]


class Pair(NamedTuple):
    left: int
    right: int


@pytest.mark.parametrize(
    ("world", "parts"),
    [
        (None, {}),
        (7, {"": "7"}),
        ({"a": 1, "b": {"c": 2}}, {"a": "1", "b['c']": "2"}),
        ({"b": {}}, {"b": "{}"}),
        (World(1, {"key": 5}), {"stock": "1", "charged['key']": "5"}),
        (Pair(1, 2), {"left": "1", "right": "2"}),
        ((1, [2]), {"[0]": "1", "[1]": "[2]"}),
        ([1, 2], {"": "[1, 2]"}),
        ({}, {"": "{}"}),
    ],
)
def test_a_snapshot_names_the_parts_of_a_world(world: object, parts: dict[str, str]) -> None:
    assert snapshot(world) == parts


def _told(*worlds: object, what: str = "calls reserve", width: int = 100) -> list[str]:
    lines = table([Entry(0.5 * n, "A", what, snapshot(world)) for n, world in enumerate(worlds)], {}, width)
    return lines[2:]


def test_the_world_is_shown_at_first_and_then_what_has_changed() -> None:
    first, same, more, less = _told(World(1, {}), World(1, {}), World(1, {"k": 2}), World(1, {}))
    assert first.endswith("stock = 1, charged = {}")
    assert same.endswith("calls reserve")
    assert more.endswith("calls reserve  charged['k'] = 2")
    assert less.endswith("calls reserve  charged = {}")


def test_what_is_gone_is_told() -> None:
    _, after = _told({"a": {"x": 1, "y": 2}}, {"a": {"x": 1}})
    assert after.endswith("a['y'] is gone")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_longer_than_the_terminal_is_wide(width: int) -> None:
    long = "reports: compensated: " + "because of this and that " * 10
    lines = _told({"a": "x" * 200}, {"a": "y" * 200}, what=long, width=width)
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()).count("because") == 20


def test_times_of_days_can_be_read() -> None:
    lines = table([Entry(x, "A", "-", {}) for x in (1.5, 7_200, 180_061)], {}, 80)[2:]
    assert [line.split("  A")[0].strip() for line in lines] == ["1.500", "02:00:00", "2d 02:01:01"]


def test_the_story_explains_the_faults_and_names_the_steps_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGAS_COLUMNS", "150")
    with pytest.raises(CheckFailed) as failure:
        play(shop.careless(1), Fault("rejected", at="ship"), world=shop.open_shop, view=shop.total)
    text = str(failure.value)
    assert text.startswith("saga careless, after 1 fault: undone is as if it had never been — is broken\n")
    assert "fault: Fault('rejected', at='ship'): it is refused before anything happens" in text
    assert "writes StepSucceeded of charge_for_ever (1)" in text
    assert text.endswith("    @reproduce(careless(amount=1), Fault('rejected', at='ship'))")


def test_a_planned_run_tells_its_story_also_if_all_is_well() -> None:
    run = play(shop.order("lamp", 1), world=shop.open_shop)
    assert "reserved['" in run.timeline(width=160)
    assert "reports: completed" in run.timeline()


def test_a_call_shows_the_world_after_it_and_what_it_raised() -> None:
    @step
    async def charge_all(amount: int) -> None:
        shop.shop.charged["all"] = amount

    @step
    async def send() -> None:
        raise KeyError("no address")

    @saga
    async def sell(amount: int) -> None:
        await charge_all(amount)
        await send()

    run = Simulator(sell, world=shop.open_shop, view=shop.total).run(Scenario(sell(5)), watch=True)
    lines = run.timeline(width=140).splitlines()
    assert any("calls charge_all" in line and "[5]" in line for line in lines)
    assert any("send raises KeyError: 'no address'" in line for line in lines)


def test_what_a_fault_comes_between_has_a_line_for_its_end() -> None:
    run = play(shop.order("lamp", 5), Fault("lost reply", at="charge"), world=shop.open_shop, view=shop.total)
    lines = run.timeline(width=140).splitlines()
    assert any("charge has run" in line and "charged = [5]" in line for line in lines)


def test_what_is_stuck_in_the_same_way_again_and_again_is_folded() -> None:
    again = [Entry(x, "A", what, {"": "1"}) for x in range(13) for what in ("calls pay", "pay raises KeyError: 1")]
    lines = table([Entry(0, "A", "the process starts", {"": "1"}), *again, Entry(14, "A", "ends", {})], {}, 80)[2:]
    assert len(lines) == 5
    assert "… 12 more times these 2 lines …" in lines[3]
    alone = table([Entry(x, "A", "calls pay", {}) for x in range(13)], {}, 80)[2:]
    assert [line.split("  ")[-1] for line in alone] == ["calls pay", "… 12 more like this …"]


def test_what_is_repeated_within_what_is_repeated_is_folded_too() -> None:
    tries = ["calls pay", "pay raises"] * 4 + ["writes UndoFailed", "an operator retries"]
    lines = table([Entry(x, "A", what, {}) for x, what in enumerate(tries * 5)], {}, 80)[2:]
    assert [line.split("  ")[-1] for line in lines] == [
        "calls pay", "pay raises", "… 3 more times these 2 lines …", "writes UndoFailed", "an operator retries",
        "… 4 more times these 5 lines …",
    ]  # fmt: skip


def test_what_nobody_can_finish_is_told_in_a_sentence() -> None:
    @step
    async def hold() -> None: ...

    @hold.compensator(retry=Retry(attempts=1))
    async def let_go() -> None:
        raise KeyError("lost")

    @step
    async def refuse() -> None:
        raise Rejected("no")

    @saga
    async def hopeless() -> None:
        await hold()
        await refuse()

    with pytest.raises(CheckFailed, match="an operator can finish it") as failure:
        play(hopeless())
    told = " ".join(str(failure.value).split())
    assert "An operator repaired all that was broken and had it tried again, 3 times" in told
    assert "the same came of it: hold (1): KeyError: 'lost'." in told


def test_the_middle_of_a_long_story_is_left_out() -> None:
    lines = _told(*range(500))
    assert len(lines) == 81
    assert "… 420 more lines …" in lines[60]
    assert lines[-1].endswith("499")
