"""``check``: code is tried on a journal before it is deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from sagas import Coordinator
from tests.cli import orders
from tests.cli.conftest import CommandLine, Done
from tests.cli.deployed import Reversed

FITS = "tests.cli.orders"
NEW = "tests.cli.deployed"


@pytest.fixture
def check(sagas: CommandLine, url: str) -> Callable[..., Done]:
    """Checks code against the journal."""

    def run(*arguments: str) -> Done:
        return sagas("check", "--journal", url, *arguments)

    return run


@pytest.fixture
def three(journal: Callable[..., None]) -> None:
    """Leaves three sagas open, beside one that has ended."""
    journal(ended=orders.good("pen"))
    journal(leave=True, first=orders.asks("pen"), second=orders.asks("ink"), third=orders.asks("nib"))


@pytest.mark.usefixtures("three")
def test_code_that_fits_exits_with_0(check: Callable[..., Done]) -> None:
    done = check(FITS)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("✓ 3 open sagas in sqlite:")
    assert "all would go on with this code, or be undone by it" in done.out


@pytest.mark.usefixtures("three")
def test_code_that_does_not_fit_exits_with_1_and_says_where_why_and_what_to_do(check: Callable[..., Done]) -> None:
    done = check(f"{NEW}:weighs_first")
    assert done.code == 1
    assert done.out.startswith("✗ 3 open sagas in sqlite:")
    assert done.out.split("\n")[2:6] == [
        "asks version 1: 3 would not go on at operation 1",
        "  the journal says step ship, the body now calls weigh",
        "  Guard the change with `if await sagas.version(…)`, or deploy the code that fits and resume.",
        "  third, second, first",
    ]


@pytest.mark.usefixtures("three")
def test_sagas_without_code_exit_with_1(check: Callable[..., Done]) -> None:
    """A version that continues theirs is code for them; a list in a module is taken by its name."""
    done = check(f"{FITS}:good")
    assert done.code == 1
    assert "asks version 1: 3 would wait for code" in done.out
    assert check(f"{NEW}:asks_since").code == 0
    assert check(f"{NEW}:BOTH").code == 0
    assert check(f"{FITS}:good", f"{NEW}:asks_since").code == 0


@pytest.mark.usefixtures("three")
def test_other_arguments_are_told_and_exit_with_1_only_if_strict(check: Callable[..., Done]) -> None:
    done = check(f"{NEW}:ships_the_whole_lot")
    assert done.code == 0
    assert "asks version 1: 3 would go on, but at operation 1" in done.out
    assert check(f"{NEW}:ships_the_whole_lot", "--strict").code == 1


@pytest.mark.usefixtures("three")
def test_everything_is_there_as_json(check: Callable[..., Done]) -> None:
    fits = check(FITS, "--json").json
    assert fits["checked"] == {"asks@1": 3}
    assert fits["findings"] == fits["groups"] == fits["notes"] == fits["waiting"] == []
    done = check(f"{NEW}:weighs_first", "--json")
    assert done.code == 1
    assert [finding["id"] for finding in done.json["findings"]] == ["third", "second", "first"]
    (group,) = done.json["groups"]
    assert set(group) == {"ids", "name", "version", "when", "operation", "reason", "remedy"}
    assert group["ids"] == ["third", "second", "first"]
    assert group["when"] == "forward"


def test_a_few_ids_stand_for_many(check: Callable[..., Done], journal: Callable[..., None]) -> None:
    journal(leave=True, **{f"s{number}": orders.asks("pen") for number in range(7)})
    assert "  s6, s5, s4, s3, s2 and 2 more\n" in check(f"{NEW}:weighs_first").out


def test_a_parked_saga_is_told_apart_and_whether_the_code_mends_it(
    check: Callable[..., Done], journal: Callable[..., None], url: str, home: Path
) -> None:
    """It waits for code already, so it is no reason not to deploy."""
    journal(leave=True, first=orders.asks("pen"))
    (home / orders.CHANGED).touch()

    async def park() -> None:
        async with Coordinator(url, sagas=[orders.asks], poll=0.01) as coordinator:
            await coordinator.signal("first", "approval", True)
            while (await coordinator.get("first")).status != "stuck":  # noqa: ASYNC110 - only the journal tells
                await anyio.sleep(0.01)

    anyio.run(park)
    worse = check(FITS)
    assert worse.code == 0
    assert "1 waiting for better code still cannot go on with this code" in worse.out
    assert "operation 1: the journal says step ship, the body now calls flaky" in worse.out
    assert [waiting["mended"] for waiting in check(FITS, "--json").json["waiting"]] == [False]
    (home / orders.CHANGED).unlink()
    assert "1 waiting for better code can go on with this code: resume them\n  first\n" in check(FITS).out


def test_a_journal_behind_a_codec_needs_it(check: Callable[..., Done], url: str) -> None:
    async def leave() -> None:
        async with Coordinator(url, sagas=[orders.asks], codec=Reversed()) as coordinator:
            await coordinator.start(orders.asks("pen"), id="first")

    anyio.run(leave)
    blind = check(FITS)
    assert blind.code == 1
    assert "asks version 1: 1 cannot be read" in blind.out
    assert "If its coordinators have a codec, check with it too" in blind.out
    assert check(FITS, "--codec", f"{NEW}:Reversed").code == 0


@pytest.mark.usefixtures("three")
def test_checking_writes_nothing(check: Callable[..., Done], home: Path) -> None:
    """Not a byte, and no lease: it may be pointed at what serves customers."""
    before = hashlib.sha256((home / "journal.db").read_bytes()).digest()
    check(FITS)
    check(f"{NEW}:weighs_first")
    assert hashlib.sha256((home / "journal.db").read_bytes()).digest() == before


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which code? Name the modules"),
        ((":asks",), "names no code; write MODULE, or MODULE:NAME"),
        (("no_such_module",), "there is no module no_such_module"),
        (("json",), "there is no saga in json"),
        ((f"{NEW}:NEITHER",), "there is no saga in tests.cli.deployed:NEITHER"),
        ((f"{FITS}:nobody",), "nobody does not exist in tests.cli.orders"),
        ((f"{NEW}:weighs_first", f"{NEW}:ships_the_whole_lot"), "two sagas are named 'asks' version '1'"),
        ((FITS, "--codec", "nothing"), "'nothing' names no codec; write MODULE:NAME"),
        ((FITS, "--codec", f"{NEW}:NEITHER"), "is no codec"),
    ],
)
def test_what_cannot_be_tried_exits_with_2(check: Callable[..., Done], arguments: tuple[str, ...], says: str) -> None:
    """So that a deployment can tell a refusal from a mistake in its own script."""
    done = check(*arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--journal", "sqlite:///absent.db"), "there is no database"),
        (("--journal", "memory:"), "use --journal sqlite:///FILE"),
        (("--journal", "memory:", "--sarif"), "--sarif is for findings in files"),
        (("--codec", f"{NEW}:Reversed"), "--codec is for a journal"),
    ],
)
def test_a_journal_that_is_not_there_exits_with_2(sagas: CommandLine, arguments: tuple[str, ...], says: str) -> None:
    done = sagas("check", FITS, *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err


def test_an_empty_journal_fits_any_code(check: Callable[..., Done], journal: Callable[..., None]) -> None:
    journal()
    assert check(FITS).out.startswith("✓ 0 open sagas in ")
