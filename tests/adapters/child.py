"""A consumer in a process of its own, to be killed: ``python -m tests.adapters.child URL COUNT``.

It takes so many messages, prints their bodies, and holds them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio import to_thread

from sagas.transport import open_queue
from tests.docs.pages import ROOT

__all__ = ["holding"]


@asynccontextmanager
async def holding(url: str, count: int) -> AsyncGenerator[set[bytes]]:
    """Has another process hold messages of a queue; it is killed in the end."""
    with subprocess.Popen(  # noqa: ASYNC220 - starting it is quick
        [sys.executable, "-m", __name__, url, str(count)], cwd=ROOT, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "adapters")])},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield {(await to_thread.run_sync(process.stdout.readline)).strip() for _ in range(count)}
        finally:
            process.kill()


async def _hold(url: str, count: int) -> None:
    queue = open_queue(url)
    while count:
        for delivery in await queue.receive(count, wait=60):
            print(delivery.message.body.decode(), flush=True)  # noqa: T201 - that is how it tells
            count -= 1
    await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_hold, sys.argv[1], int(sys.argv[2]))
