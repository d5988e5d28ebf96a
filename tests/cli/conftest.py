"""A directory with a journal, the command line in this process, and a coordinator in another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from sagas import Coordinator, SagaNotCompleted
from tests.cli import orders

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs ``sagas`` in this process; ``--store`` is given through the environment."""

    url: str

    def __call__(self, *arguments: str, store: str | None = None) -> Done:
        from sagas.cli.app import app

        done = CliRunner().invoke(
            app, list(arguments), env={"SAGAS_STORE": self.url if store is None else store, "COLUMNS": "200"},
            prog_name="sagas",
        )  # fmt: skip
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Done(done.exit_code, done.stdout, done.stderr)

    def fails(self, *arguments: str, store: str | None = None) -> str:
        """Runs a command that has to fail as every bad input does; gives its one line."""
        done = self(*arguments, store=store)
        assert done.code == 1, done
        assert not done.out
        assert done.err.startswith("sagas: ")
        assert done.err.count("\n") == 1
        assert "Traceback" not in done.err
        return done.err.strip()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def url(home: Path) -> str:
    return f"sqlite:///{(home / 'journal.db').as_posix()}"


@pytest.fixture
def sagas(url: str) -> CommandLine:
    return CommandLine(url)


@pytest.fixture
def journal(url: str) -> Callable[..., None]:
    """Runs calls of sagas to their ends, or leaves them open, by id; then no coordinator is left."""

    async def play(calls: dict[str, Any], leave: bool) -> None:
        async with Coordinator(url, sagas=[orders.good, orders.bad, orders.doubtful, orders.asks]) as coordinator:
            for saga_id, call in calls.items():
                handle = await coordinator.start(call, id=saga_id)
                if leave:
                    while not (await coordinator.get(saga_id)).waiting:  # noqa: ASYNC110 - only the journal tells
                        await anyio.sleep(0.01)
                    continue
                with suppress(SagaNotCompleted):
                    await handle.result()

    def write(*, leave: bool = False, **calls: Any) -> None:
        anyio.run(play, {key.replace("_", "-"): call for key, call in calls.items()}, leave)

    return write


def environment() -> dict[str, str]:
    """Lets a child process find the library and the tests."""
    paths = [str(ROOT), str(ROOT / "adapters"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def coordinator(url: str, home: Path) -> Callable[[], Any]:
    """Starts a coordinator as a process of its own, which is killed after the block."""

    @contextmanager
    def start() -> Generator[subprocess.Popen[bytes]]:
        process = subprocess.Popen([sys.executable, "-m", "tests.cli.orders", url], cwd=home, env=environment())
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    return start


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
