"""The entry point of a child process: one JSON request as argument, one JSON line as answer."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TextIO

from benchmarks.tasks import TASKS


def main(argument: str) -> None:
    """Does what the request says and prints the reply; `{"hold": true}` then waits to be killed."""
    answers = _private_stdout()
    asyncio.run(_serve(json.loads(argument), answers))


async def _serve(request: dict[str, object], answers: TextIO) -> None:
    reply = await TASKS[str(request["task"])](request)
    answers.write(json.dumps(reply) + "\n")
    answers.flush()
    if reply.get("hold"):
        await asyncio.Event().wait()
    # Threads of the system measured may still run; there is nothing left to wait for.
    os._exit(0)


def _private_stdout() -> TextIO:
    """Keeps standard output for the answer: what a system prints there goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


if __name__ == "__main__":
    main(sys.argv[1])
