"""Starting, reading and killing the child processes that measure."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_TIMEOUT_SECONDS = 600.0


class ChildFailed(Exception):
    """A child process ended without an answer; the message holds the end of what it printed."""


@contextmanager
def child(task: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Starts a child, yields its reply, and kills it (by SIGKILL) when the block ends.

    Args:
        task: Which of `benchmarks.tasks` to do.
        request: Its JSON-ready parameters; `started` is added, the monotonic time by now.

    Raises:
        ChildFailed: The child ended, or took ten minutes, without an answer.
    """
    root = Path(__file__).parents[1]
    with tempfile.TemporaryFile("w+") as errors:
        message = json.dumps(request | {"task": task, "started": time.monotonic()})
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", message],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            cwd=root,
            text=True,
        )
        try:
            line = _first_line(process)
            if not line:
                errors.seek(0)
                raise ChildFailed(_last_words(errors.read(), process.poll()))
            yield json.loads(line)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def ask(task: str, request: dict[str, Any]) -> dict[str, Any]:
    """Starts a child, waits for its reply, and returns that."""
    with child(task, request) as reply:
        return reply


def _first_line(process: subprocess.Popen[str]) -> str:
    """The child's answer, or nothing if it died or was killed for taking too long."""
    assert process.stdout is not None
    alarm = threading.Timer(_TIMEOUT_SECONDS, process.kill)
    alarm.start()
    try:
        line = process.stdout.readline()
        if not line:
            process.wait()
        return line
    finally:
        alarm.cancel()


def _last_words(printed: str, code: int | None) -> str:
    lines = [line for line in printed.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit status {code}"
