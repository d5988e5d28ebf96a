"""Comments silence findings; those that silence nothing are found themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagas.linting import RULES, Severity, check
from tests.linting.snippets import found_in

BODY = """
import time
@saga{saga}
async def order(sku: str) -> None:{head}
    print(
        time.time(),{inside}
    ){end}
    await charge(sku)
"""
PLACES = ("head", "inside", "end")
CLOCK = "  # sagas: ignore[wall-clock]"


def rules(text: str, directory: Path) -> list[str]:
    return [finding.rule for finding in found_in(text, directory)[1]]


def body(**comments: str) -> str:
    return BODY.format(**{name: comments.get(name, "") for name in ("saga", *PLACES)})


@pytest.mark.parametrize("place", ["saga", *PLACES])
@pytest.mark.parametrize(
    "comment",
    [
        "  # sagas: ignore[wall-clock]",
        "  # sagas: ignore",
        "  #sagas:ignore[ wall-clock ]",
        "  # sagas: ignore[wall-clock] - the clock is only printed",
    ],
)
def test_a_comment_silences_its_statement_or_its_function(place: str, comment: str, tmp_path: Path) -> None:
    assert rules(body(), tmp_path) == ["wall-clock"]
    assert rules(body(**{place: comment}), tmp_path) == []


def test_several_rules_are_silenced_at_once(tmp_path: Path) -> None:
    text = """
    import time, random
    @saga
    async def order(sku: str) -> None:
        await charge(f"{time.time()} {random.random()}")  # sagas: ignore[wall-clock, randomness]
    """
    assert rules(text, tmp_path) == []
    assert rules(text.replace(", randomness]", "]"), tmp_path) == ["randomness"]


def test_a_comment_reaches_no_further(tmp_path: Path) -> None:
    text = """
    import time
    @saga
    async def order(sku: str) -> None:
        time.time()  # sagas: ignore[wall-clock]
        time.time()
        if time.time():
            await charge(sku)
    @saga
    async def other(sku: str) -> None:
        if time.time():  # sagas: ignore[wall-clock]
            await charge(str(time.time()))
    """
    assert rules(text, tmp_path) == ["wall-clock"] * 3


def test_a_comment_on_a_case_is_not_for_all_cases(tmp_path: Path) -> None:
    text = """
    import time
    @saga
    async def order(sku: str) -> None:
        match sku:
            case "a":  # sagas: ignore[wall-clock]
                time.time()
            case _:
                await charge(sku)
    """
    assert rules(text, tmp_path) == ["unused-ignore", "wall-clock"]


def test_a_text_that_looks_like_a_comment_is_none(tmp_path: Path) -> None:
    assert rules(body(inside=' "# sagas: ignore[wall-clock]",'), tmp_path) == ["wall-clock"]


@pytest.mark.parametrize("comment", ["# sagas: ignored", "# sagas: ignore-me", "# see sagas: ignore[wall-clock]"])
def test_only_the_comment_itself_silences(comment: str, tmp_path: Path) -> None:
    assert "wall-clock" in rules(body(inside=f"  {comment}"), tmp_path) or comment == "# sagas: ignore-me"


def test_a_step_says_on_its_own_lines_that_it_leaves_nothing_to_undo(tmp_path: Path) -> None:
    text = """
    @step{}
    async def ping(sku: str) -> None:{}
        await bank.ping(sku)
    @saga
    async def order(sku: str) -> None:
        await ping(sku)
        await charge(sku)
    """
    comment = "  # sagas: ignore[uncompensated-step]"
    assert rules(text.format("", ""), tmp_path) == ["uncompensated-step"]
    assert rules(text.format(comment, ""), tmp_path) == rules(text.format("", comment), tmp_path) == []


@pytest.mark.parametrize(
    ("comment", "says"),
    [
        ("  # sagas: ignore[randomness]", "randomness is not found here"),
        ("  # sagas: ignore[wall-clock, randomness]", "randomness is not found here"),
        ("  # sagas: ignore[wall-clok]", "there is no rule wall-clok; `sagas check --rules` lists all"),
        ("  # sagas: ignore[]", "nothing is not found here"),
    ],
)
def test_a_comment_that_silences_nothing_is_a_warning(comment: str, says: str, tmp_path: Path) -> None:
    _, findings = found_in(body(end=comment), tmp_path)
    unused = [finding for finding in findings if finding.rule == "unused-ignore"]
    assert [finding.severity for finding in unused] == [Severity.WARNING]
    assert says in unused[0].reason


def test_a_bare_comment_that_silences_nothing_is_a_warning(tmp_path: Path) -> None:
    text = "@saga\nasync def order(sku: str) -> None:\n    await charge(sku)  # sagas: ignore\n"
    (unused,) = found_in(text, tmp_path)[1]
    assert (unused.rule, unused.reason) == ("unused-ignore", "this comment silences nothing: nothing is found here")


def test_a_comment_for_what_only_other_files_can_tell_is_not_called_unused(tmp_path: Path) -> None:
    """A pre-commit hook hands over only the files that changed."""
    steps = """
    import time
    async def helper() -> None:
        time.time()  # sagas: ignore[wall-clock]
    @step
    async def ping(sku: str) -> None:  # sagas: ignore[uncompensated-step]
        await bank.ping(sku)
    """
    assert rules(steps, tmp_path) == []


def test_a_comment_in_a_file_that_is_only_used_is_heeded_but_not_judged(tmp_path: Path) -> None:
    (tmp_path / "clocks.py").write_text(
        "import time\ndef a():\n    time.time()  # sagas: ignore[wall-clock]\n    return 1  # sagas: ignore\n",
        encoding="utf-8",
    )
    text = """
    from clocks import a
    @saga
    async def order(sku: str) -> None:
        a()
        await charge(sku)
    """
    assert rules(text, tmp_path) == []
    assert [finding.rule for finding in check([str(tmp_path)], roots=[tmp_path]).findings] == ["unused-ignore"]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_can_be_named(rule: str, tmp_path: Path) -> None:
    text = body(end=f"  # sagas: ignore[{rule}]")
    assert not any("there is no rule" in finding.reason for finding in found_in(text, tmp_path)[1])
