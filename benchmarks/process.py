"""Starting, asking and killing the child processes that measure."""

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
from typing import IO, Any

_TIMEOUT_SECONDS = 300.0


class ChildFailed(Exception):
    """A child process ended without an answer; the message holds the end of what it printed."""


class Child:
    """A process that measures.

    Args:
        process: It.
        errors: Where its standard error goes.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    def hear(self) -> dict[str, Any]:
        """Waits for its next reply.

        Raises:
            ChildFailed: It ended, or took five minutes, without one.
        """
        line, in_time = _next_line(self._process)
        if not line:
            self._errors.seek(0)
            raise ChildFailed(_last_words(self._errors.read(), in_time=in_time))
        reply: dict[str, Any] = json.loads(line)
        return reply

    def last_words(self) -> str | None:
        """Gives the end of what it printed, if it has ended."""
        if self._process.poll() is None:
            return None
        self._errors.seek(0)
        return _last_words(self._errors.read(), in_time=True)

    def tell(self, **order: Any) -> None:
        """Has a task that converses go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Has a task that converses go on, and waits for its next reply."""
        self.tell(**order)
        return self.hear()


@contextmanager
def conversation(task: str, request: dict[str, Any]) -> Iterator[Child]:
    """Starts a child, and kills it (by SIGKILL) when the block ends.

    Args:
        task: Which of the tasks in `benchmarks.child` to do.
        request: Its JSON-ready parameters; `started` is added, the monotonic time by now.
    """
    root = Path(__file__).parents[1]
    with tempfile.TemporaryFile("w+") as errors:
        message = json.dumps(request | {"task": task, "started": time.monotonic()})
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", message],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.PIPE,
            cwd=root,
            text=True,
        )
        try:
            yield Child(process, errors)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


@contextmanager
def child(task: str, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Starts a child, yields its reply, and kills it (by SIGKILL) when the block ends.

    Raises:
        ChildFailed: The child ended, or took five minutes, without an answer.
    """
    with conversation(task, request) as started:
        yield started.hear()


def ask(task: str, request: dict[str, Any]) -> dict[str, Any]:
    """Starts a child, waits for its reply, and returns that."""
    with child(task, request) as reply:
        return reply


def _next_line(process: subprocess.Popen[str]) -> tuple[str, bool]:
    """The child's answer, or nothing; and whether it ended by itself, not for taking too long."""
    assert process.stdout is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    alarm = threading.Timer(_TIMEOUT_SECONDS, stop)
    alarm.start()
    try:
        return process.stdout.readline(), not late.is_set()
    finally:
        alarm.cancel()


def _last_words(printed: str, *, in_time: bool) -> str:
    """The line of a traceback that names the error, or what else there is to say."""
    if not in_time:
        return f"no answer in {_TIMEOUT_SECONDS:.0f} s"
    lines = [line for line in printed.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it ended without a word"
