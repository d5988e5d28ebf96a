"""The entry point of a child process: one JSON request as argument, JSON lines as answers.

A task that is an asynchronous generator converses: it goes on when the parent has sent a JSON line, which is the
value of its `yield`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Any, TextIO

_TASKS = {"sqlite": "benchmarks.tasks", "postgres": "benchmarks.postgres.tasks", "remote": "benchmarks.remote.tasks"}


def main(argument: str) -> None:
    """Does what the request says and prints the reply; `{"hold": true}` then waits to be killed."""
    answers = _private_stdout()
    asyncio.run(_serve(json.loads(argument), answers))


async def _serve(request: dict[str, Any], answers: TextIO) -> None:
    doing = _task(str(request["task"]))(request)
    if isinstance(doing, AsyncGenerator):
        await _converse(doing, answers)
    else:
        reply = await doing
        _say(answers, reply)
        if reply.get("hold"):
            await asyncio.Event().wait()
    # Threads of the system measured may still run; there is nothing left to wait for.
    os._exit(0)


def _task(name: str) -> Callable[[dict[str, Any]], Any]:
    """Finds a task by its name: `memory`, or `postgres:serve`."""
    database, _, task = name.rpartition(":")
    tasks: dict[str, Callable[[dict[str, Any]], Any]] = importlib.import_module(_TASKS[database or "sqlite"]).TASKS
    return tasks[task]


async def _converse(talk: AsyncGenerator[dict[str, Any], Any], answers: TextIO) -> None:
    """Prints what the task yields, and sends it what the parent says."""
    order: Any = None
    while True:
        try:
            _say(answers, await talk.asend(order))
        except StopAsyncIteration:
            return
        line = await asyncio.to_thread(sys.stdin.readline)
        if not line:
            return
        order = json.loads(line)


def _say(answers: TextIO, reply: dict[str, Any]) -> None:
    answers.write(json.dumps(reply) + "\n")
    answers.flush()


def _private_stdout() -> TextIO:
    """Keeps standard output for the answer: what a system prints there goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


if __name__ == "__main__":
    main(sys.argv[1])
