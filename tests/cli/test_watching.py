"""``top``, ``show --graph``, and who and why on the command line."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from sagas import Coordinator
from tests.cli import orders
from tests.cli.conftest import ROOT, CommandLine, Done, environment

Journal = Callable[..., None]

WAIT = ("--wait", "20")
_PATIENCE = 20.0
# Makes standard input the process's own terminal, so that Ctrl-C reaches it.
_ON_A_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from sagas.cli import main
main()
"""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def busy(sagas: CommandLine, journal: Journal, home: Path) -> CommandLine:
    """A journal with a saga that waits, two that are stuck by the same, one that completed, and one that is undone."""
    journal(waits_1=orders.asks("pen"), leave=True)
    journal(done_1=orders.good(), undone_1=orders.bad("cup"))
    (home / orders.BROKEN).touch()
    journal(stuck_1=orders.bad("pen"), stuck_2=orders.bad("mug"))
    return sagas


def test_top_shows_what_runs_what_waits_what_is_stuck_and_how_fast(busy: CommandLine) -> None:
    done = busy("top", "--once")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith("sagas top  sqlite:///")
    assert lines[0].endswith("no coordinators alive")
    assert lines[1] == "running 1   compensating 0   stuck 2   completed 1   compensated 1"
    rows = {" ".join(line.split()[:2]): line.split() for line in lines}
    assert rows["SAGA RUNNING"][1:] == [
        "RUNNING", "COMPENSATING", "STUCK", "STARTED/MIN", "COMPLETED/MIN", "COMPENSATED/MIN",
    ]  # fmt: skip
    assert rows["bad 0"] == ["bad", "0", "0", "2", "0.6", "0", "0.2"]
    assert rows["asks 1"] == ["asks", "1", "0", "0", "0.2", "0", "0"]
    assert rows["2 bad"] == ["2", "bad", "ship", "ConnectionError:", "the", "depot", "does", "not", "answer", "stuck-2"]
    assert rows["waits-1 asks"][:5] == ["waits-1", "asks", "1", "running,", "waiting"]
    assert rows["waits-1 asks"][-4:] == ["waits", "for", "a", "coordinator"]
    assert [line.split()[0] for line in lines if line.startswith(("stuck-", "waits-"))] == [
        "stuck-2", "stuck-1", "waits-1",
    ]  # fmt: skip


def test_top_says_whether_a_saga_waits_for_a_lock_or_a_signal(sagas: CommandLine, url: str) -> None:
    async def play() -> str:
        async with Coordinator(url, sagas=[orders.guards]) as coordinator:
            for saga_id in ("first", "second"):
                await coordinator.start(orders.guards("sku-1"), id=saga_id)
                while not (await coordinator.get(saga_id)).waiting:  # noqa: ASYNC110 - only the journal tells
                    await anyio.sleep(0.01)
            while not (await coordinator.get("first")).signals:  # noqa: ASYNC110 - as above
                await anyio.sleep(0.01)
            done: Done = await anyio.to_thread.run_sync(sagas, "top", "--once")
            return done.out

    rows = {line.split()[0]: line for line in anyio.run(play).splitlines() if line}
    assert rows["second"].endswith("waits for lock sku-1")
    assert rows["first"].endswith("waits for a signal")
    assert sagas("top", "--json").json["locks"] == {"second": "sku-1"}


def test_top_gives_json_for_scripts(busy: CommandLine) -> None:
    told = busy("top", "--json").json
    assert told["counts"]["statuses"]["stuck"] == {"number": 2, "how": "exact"}
    (group,) = told["stuck"]["groups"]
    assert (group["step"], len(group["sagas"]), told["stuck"]["complete"]) == ("ship", 2, True)
    assert {x["id"] for x in told["open"]} == {"waits-1", "stuck-1", "stuck-2"}


def test_top_of_an_empty_journal_is_no_error(sagas: CommandLine) -> None:
    assert sagas("migrate").code == 0
    assert "running 0" in sagas("top").out


@pytest.mark.parametrize("keys", [b"xq", b"\x03"], ids=["q", "ctrl-c"])
def test_top_shows_what_changes_until_somebody_quits(sagas: CommandLine, journal: Journal, keys: bytes) -> None:
    """On a terminal, which it leaves as it was."""
    journal(first=orders.good())
    here, there = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_A_TERMINAL, "top", "--every", "0.1", "--store", sagas.url], stdin=there,
        stdout=there, stderr=subprocess.PIPE, env={**environment(), "TERM": "xterm", "COLUMNS": "150", "LINES": "40"},
        start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    os.close(there)
    try:
        _read_until(here, "completed 1")
        journal(second=orders.good())
        _read_until(here, "completed 2")
        os.write(here, keys)
        _read_until(here, "\x1b[?1049l")  # back from the screen of its own
        assert process.wait(_PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        os.close(here)
        if process.stderr is not None:
            process.stderr.close()


def _read_until(terminal: int, text: str) -> None:
    seen, until = "", time.monotonic() + _PATIENCE
    while text not in seen:
        ready, _, _ = select.select([terminal], [], [], max(until - time.monotonic(), 0))
        assert ready, f"{text!r} did not come: {seen[-500:]!r}"
        seen = _COLOURS.sub("", seen + os.read(terminal, 65_536).decode(errors="replace"))


# --- a saga, drawn ---------------------------------------------------------------------------------------------------


def test_show_draws_the_steps_their_branches_and_where_the_saga_stands(busy: CommandLine, journal: Journal) -> None:
    journal(wide=orders.good("pen", 3))
    assert "├─✓ ship (1:0)" in busy("show", "wide", "--graph").out
    lines = busy("show", "stuck-1", "--graph").out.splitlines()
    assert lines[0].startswith("stuck-1  bad, version 1, stuck")
    (ship,) = [line for line in lines if "ship (1)" in line and "✓" in line]
    assert "↩ undo failed" in ship
    assert ship.endswith("◀ now")
    (sell,) = [line for line in lines if "✗ sell (2)" in line]
    assert "rejected" in sell
    assert busy("show", "undone-1", "--graph").out.splitlines()[-1].split()[:2] == ["■", "compensated:"]


def test_a_terminal_without_unicode_gets_ascii(busy: CommandLine) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sagas", "show", "stuck-1", "--graph", "--store", busy.url],
        env={**environment(), "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True,
    )  # fmt: skip
    assert b"<- undo failed" in done.stdout
    assert b"<== now" in done.stdout
    assert done.stdout.isascii()


def test_show_leaves_out_what_is_secret(sagas: CommandLine, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal(first=orders.good("4111"))
    assert "4111" in sagas("show", "first").out
    assert '{"item":"***","pieces":1}' in sagas("show", "first", "--secret", "card, it*m").out
    monkeypatch.setenv("SAGAS_SECRET_FIELDS", "item,*.result")
    assert "4111" not in sagas("show", "first", "--graph").out
    steps = sagas("show", "first", "--json").json["steps"]
    assert [(x["arguments"], x["result"]) for x in steps] == [({"item": "***"}, "***")]


# --- who, and why ----------------------------------------------------------------------------------------------------


def test_orders_say_who_and_why_and_apply_only_to_what_was_seen(
    busy: CommandLine, coordinator: Callable[[], Any], home: Path
) -> None:
    seen = busy("show", "stuck-1", "--json").json["revision"]
    assert "has moved on" in busy.fails("retry", "stuck-1", "--expected", str(seen - 1))
    (home / orders.BROKEN).unlink()
    with coordinator():
        done = busy("retry", "stuck-1", "--by", "ana", "--reason", "repaired", "--expected", str(seen), *WAIT)
        assert "now compensated" in done.out
        told = busy("signal", "waits-1", "approval", "--payload", "true", "--by", "bob", "--reason", "by phone", *WAIT)
        assert "now completed" in told.out
    assert "repaired (by ana)" in busy("show", "stuck-1").out
    (decision,) = busy("show", "waits-1", "--json").json["decisions"]
    assert (decision["what"], decision["by"], decision["reason"]) == ("signalled approval", "bob", "by phone")


def test_a_list_can_be_narrowed_by_what_went_wrong(busy: CommandLine) -> None:
    def ids(*options: str) -> list[str]:
        return [row["id"] for row in busy("list", "--json", *options).json]

    assert ids("--step", "ship") == ["stuck-2", "stuck-1"]
    assert ids("--error", "DEPOT", "--limit", "1") == ["stuck-2"]
    assert ids("--error", "cup") == ["undone-1"]
    assert ids("--error", "nothing") == []
    assert ids("--status", "open") == ["stuck-2", "stuck-1", "waits-1"]
    assert ids("--status", "open", "--limit", "1", "--before", "stuck-2") == ["stuck-1"]
    assert ids("--status", "open", "--name", "asks") == ["waits-1"]
    assert ids("--status", "ended") == ["undone-1", "done-1"]
