"""Drawings of one saga, whatever it did."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from sagas import Decision, Happening, LockView, SagaView, SignalView
from sagas.drawing import STYLE, as_gantt, as_graph, as_text
from tests.drawing.views import START, at_every_record, golden, simulated, step, view

SVG = "{http://www.w3.org/2000/svg}"
NOW = START + timedelta(minutes=5)
EVIL = "<script>alert(1)</script>\"'&\x00\x1b[31m\ud800]]>\n\u202e"


def rects(root: ET.Element, kind: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and lower edges."""
    found = [x for x in root.iter(f"{SVG}rect") if kind in (x.get("class") or "").split()]
    places = [tuple(float(x.get(name) or 0) for name in ("x", "y", "width", "height")) for x in found]
    return [(x, y, x + width, y + height) for x, y, width, height in places]


def texts(root: ET.Element) -> list[str]:
    return ["".join(x.itertext()) for x in root.iter(f"{SVG}text")]


def titles(root: ET.Element) -> list[str]:
    return ["".join(x.itertext()) for x in root.iter(f"{SVG}title")]


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check_graph(saga: SagaView) -> ET.Element:
    """It can be read, is told to who cannot see it, and nothing in it hides anything else."""
    root = ET.fromstring(as_graph(saga))  # noqa: S314 - our own
    assert (root.get("role"), bool(root.get("aria-label"))) == ("img", True)
    assert root.find(f"{SVG}title") is not None
    assert root.find(f"{SVG}desc") is not None
    boxes = rects(root, "box")
    assert not [(a, b) for n, a in enumerate(boxes) for b in boxes[:n] if overlap(a, b)]
    _, _, width, height = (float(x) for x in (root.get("viewBox") or "").split())
    group = next(x for x in root if x.tag == f"{SVG}g")
    shift = float(re.findall(r"[\d.]+", group.get("transform") or "")[0])
    assert all(a + shift >= 0 and b >= 0 and c + shift <= width and d <= height for a, b, c, d in boxes)
    return root


def check_gantt(saga: SagaView) -> ET.Element:
    """Every bar is within the drawing, and every step has a line."""
    root = ET.fromstring(as_gantt(saga, now=NOW))  # noqa: S314 - our own
    _, _, width, height = (float(x) for x in (root.get("viewBox") or "").split())
    assert all(0 <= a <= c <= width and 0 <= b <= d <= height for a, b, c, d in rects(root, "bar"))
    return root


def check_text(saga: SagaView) -> list[str]:
    """It has one line a step, without anything that moves a terminal; and can do with ASCII."""
    lines = [str(line) for line in as_text(saga)]
    assert all(line.isprintable() for line in lines)
    assert all(str(line).isascii() for line in as_text(saga, unicode=False))
    return lines


def runs() -> Iterator[SagaView]:
    for _, records in (*golden(), *simulated(30)):
        yield from at_every_record(records)


def test_whatever_a_saga_did_can_be_drawn_at_every_moment() -> None:
    """Of all golden journals, and of simulated runs in which all kinds of things go wrong."""
    seen: set[str] = set()
    for saga in runs():
        seen |= {x.state for x in saga.steps} | {saga.status}
        named = titles(check_graph(saga))
        lines = check_text(saga)
        check_gantt(saga)
        for one in saga.steps:
            assert any(title.startswith(f"{one.name} ({one.path})") for title in named)
            assert any(f"{one.name} ({one.path})" in line for line in lines)
            undone = one.undo_started_at is not None
            assert any(title.startswith(f"undo {one.name} ({one.path})") for title in named) == undone
    assert seen >= {"succeeded", "rejected", "in doubt", "undone", "undoing", "completed", "compensated", "stuck"}


def test_branches_stand_side_by_side_and_what_follows_below() -> None:
    saga = view(
        step("1", "first"), step("2:0", "left"), step("2:1.1", "right"), step("2:1.2", "more"), step("3", "last")
    )
    root = check_graph(saga)
    places = {title.split(" ")[0]: box for title, box in zip(_box_titles(root), rects(root, "box"), strict=True)}
    assert places["left"][1] == places["right"][1]
    assert places["left"][2] < places["right"][0]
    assert places["first"][3] < places["left"][1]
    assert places["right"][3] < places["more"][1]
    assert places["more"][3] < places["last"][1]
    assert [str(x) for x in as_text(saga)][1:] == [
        "✓ first (1)        succeeded, 1.00 s",
        "├─✓ left (2:0)     succeeded, 1.00 s",
        "└─✓ right (2:1.1)  succeeded, 1.00 s",
        "  ✓ more (2:1.2)   succeeded, 1.00 s",
        "✓ last (3)         succeeded, 1.00 s",
        "● running ◀ now",
    ]


def _box_titles(root: ET.Element) -> list[str]:
    """Titles of boxes, in the order of the boxes."""
    groups = [x for x in root.iter(f"{SVG}g") if x.find(f"{SVG}rect") is not None]
    return ["".join(x.itertext()) for group in groups if (x := group.find(f"{SVG}title")) is not None]


def test_undos_stand_beside_their_steps_linked_and_lead_back_up() -> None:
    saga = view(
        step("1", "first", "undone", undo_started_at=NOW),
        step("2:0", "left", "undone", undo_started_at=NOW),
        step("2:1", "right", "undo failed", undo_started_at=NOW, error="no"),
        step("3", "last", "rejected", error="ValueError: no"),
        status="stuck",
    )
    root = check_graph(saga)
    places = dict(
        zip((x.partition(":")[0].rpartition(" ")[0] for x in _box_titles(root)), rects(root, "box"), strict=True)
    )
    assert places["undo left"][1] == places["left"][1]
    assert places["left"][2] < places["undo left"][0] < places["right"][0]
    edges = [x.get("class") for x in root.iter(f"{SVG}path")]
    assert (edges.count("edge back"), edges.count("edge undoes")) == (2, 3)
    (now,) = [x for x in root.iter(f"{SVG}g") if "now" in (x.get("class") or "").split()]
    assert "undo right (2:1): undo failed" in "".join(now.itertext())
    assert sum("◀ now" in str(line) for line in as_text(saga)) == 1
    assert sum("<== now" in str(line) for line in as_text(saga, unicode=False)) == 1


@pytest.mark.parametrize("where", ["a row", "side by side", "deep"])
def test_of_very_many_steps_those_are_drawn_that_tell_something(where: str) -> None:
    """And the drawing stays a drawing."""
    path = {"a row": "{}", "side by side": "1:{}", "deep": "1:{}.1:0"}[where]
    steps = [step(path.format(number)) for number in range(1, 3_000)]
    steps[1_500] = step(path.format(1_501), "strange", "in doubt")
    steps.append(step(path.format(3_000), "now", "scheduled"))
    saga = view(*steps)
    root = check_graph(saga)
    named = titles(root)
    assert [x for x in named if x.startswith("strange")]
    assert [x for x in named if x.startswith("now")]
    assert len(rects(root, "box")) < 70
    assert len(check_text(saga)) < 70
    assert len(as_gantt(saga, now=NOW)) < 200_000
    assert len(as_graph(saga)) < 200_000


def test_what_steps_are_called_and_raise_is_written_and_not_obeyed() -> None:
    """Names, ids and errors are other people's."""
    bad = replace(step("1", EVIL, "rejected", error=EVIL).attempts[0], error=EVIL)
    decision = Decision(what="skipped", by=EVIL, reason=EVIL, at=START, seq=1)
    line = Happening(
        seq=1, at=START, what="signal received", path="", step=EVIL, seconds=None, attempts=(), detail=EVIL
    )
    saga = view(
        step("1", EVIL, "rejected", error=EVIL, attempts=(bad,), decision=decision),
        step("2", EVIL, "undo failed", undo_started_at=START, undo_attempts=(bad,)),
        id=EVIL, name=EVIL, version=EVIL, cause=EVIL, error=EVIL, status="stuck", timeline=(line,),
    )  # fmt: skip
    check_text(saga)
    for root in (check_graph(saga), check_gantt(saga)):
        assert not [x for x in root.iter() if "script" in x.tag]
        assert any("<script>alert(1)</script>" in title for title in titles(root))
    check_text(replace(saga, steps=()))
    check_graph(replace(saga, steps=()))
    assert "<script" not in as_graph(saga, anchor='"><script>')


def test_drawings_leave_their_colours_to_a_page_that_has_them() -> None:
    """As a strict policy for content wants it: no style, no script, and nothing from elsewhere."""
    saga = view(step("1"))
    for drawn in (as_graph(saga, style=False), as_gantt(saga, now=NOW, style=False)):
        assert "<style" not in drawn
        assert "style=" not in drawn
        assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    known = set(re.findall(r"\.([a-z-]+)", STYLE))
    for drawn in (as_graph(saga), as_gantt(saga, now=NOW)):
        used = {name for names in re.findall(r'class="([^"]*)"', drawn) for name in names.split()}
        assert used <= known | {"saga-graph", "saga-gantt", "plain"}


def test_steps_are_links_where_a_page_has_places_for_them() -> None:
    root = ET.fromstring(as_graph(view(step("2:1.1")), anchor="step-"))  # noqa: S314 - our own
    assert [x.get("href") for x in root.iter(f"{SVG}a")] == ["#step-2:1.1"]


def test_a_timeline_shows_attempts_waits_and_undos_where_they_were() -> None:
    first = step("1").attempts[0]
    again = replace(first, started_at=START + timedelta(seconds=5), error="OSError: no")
    undo = replace(first, started_at=START + timedelta(seconds=8))
    saga = view(
        step(
            "1", "act", "undone", attempts=(again, first), undo_attempts=(undo,),
            undo_started_at=START + timedelta(seconds=7),
        ),
        ended_at=START + timedelta(seconds=10), status="compensated",
    )  # fmt: skip
    root = check_gantt(saga)
    bars = [x for x in root.iter(f"{SVG}rect") if "bar" in (x.get("class") or "").split()]
    told = sorted((float(x.get("x") or 0), x.get("class"), "".join(x.itertext())) for x in bars)
    assert [(kind, text) for _, kind, text in told] == [
        ("bar wait", "waited 1.00 s"),
        ("bar good", "attempt 2: returned, 1.00 s (+1.00 s)"),
        ("bar wait", "waited 3.00 s"),
        ("bar bad", "attempt 1: OSError: no, 1.00 s (+5.00 s)"),
        ("bar wait", "waited 1.00 s"),
        ("bar undo", "undo attempt 1: returned, 1.00 s (+8.00 s)"),
    ]
    assert "start" in texts(root)
    assert "+10.00 s" in texts(root)


def test_what_goes_on_lasts_until_now() -> None:
    saga = view(step("1", "slow", "scheduled", attempts=()))
    assert "scheduled, for 5 min 0 s now" in titles(check_gantt(saga))
    assert "● slow (1)  scheduled ◀ now" in check_text(saga)


def test_a_timeline_shows_that_a_saga_still_stands_and_since_when() -> None:
    halt = Happening(
        seq=1, at=START + timedelta(seconds=2), what="saga stuck", path="1", step="act", seconds=None, attempts=(),
        detail="",
    )  # fmt: skip
    lock = LockView(name="shelf", path="2", held=False, since=START + timedelta(minutes=1))
    signal = SignalView(name="approval", path="3", since=START + timedelta(minutes=2))
    for saga, stands in (
        (view(step("1"), status="stuck", timeline=(halt,)), "stuck, for 4 min 58 s now"),
        (view(step("1"), waiting=True, locks=(lock,)), "waits for lock shelf, for 4 min 0 s now"),
        (view(step("1"), waiting=True, signals=(signal,)), "waits for signal approval, for 3 min 0 s now"),
        (view(waiting=True), "waits, for 5 min 0 s now"),
    ):
        if saga.locks or saga.signals:
            what = stands.removeprefix("waits ").partition(",")[0]
            assert what in texts(check_graph(saga))
            assert f"● waits {what} ◀ now" in check_text(saga)
        root = check_gantt(saga)
        (bar,) = [x for x in rects(root, "wait") if x[0] > 0 and x[1] > 0][-1:]
        assert bar[2] == max(right for _, _, right, _ in rects(root, "bar")), "it lasts until now"
        assert stands in titles(root)
        assert "now" in texts(root)
        (told,) = [x.text for x in root.iter(f"{SVG}desc")]
        assert told is not None
        assert told.endswith(f"It has not ended, 5 min 0 s after its start; {stands}")
    ended = check_gantt(view(step("1"), status="completed", ended_at=START + timedelta(seconds=3)))
    assert "now" not in texts(ended)
    assert next(x.text or "" for x in ended.iter(f"{SVG}desc")).endswith("It took 3.00 s")
