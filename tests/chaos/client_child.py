"""The client that is killed: starts sagas side by side, and reports each that is durable.

``python -m tests.chaos.client_child URL LIFE COUNT [before|after COMMIT]``

With the last two it ends itself right before or right after one of its commits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import anyio

from sagas import Client, saga, step
from sagas.stores import store_for

__all__ = ["KILLED", "doubled"]

KILLED = 9


@step
async def double(number: int) -> int:
    """Acts."""
    return 2 * number


@saga
async def doubled(number: int) -> int:
    """One step."""
    return await double(number)


def _dying(commit: Callable[[Any], Any], when: str, at: int) -> Callable[[Any], Any]:
    """Ends the process around a commit."""
    commits = 0

    def counted(batch: Any) -> Any:
        nonlocal commits
        commits += 1
        if commits == at and when == "before":
            os._exit(KILLED)
        done = commit(batch)
        if commits == at:
            os._exit(KILLED)
        return done

    return counted


async def _main(url: str, life: str, count: int, when: str, at: int) -> None:
    store: Any = store_for(url)
    if when:
        store.commit = _dying(store.commit, when, at)
    async with Client(store) as client:

        async def start(number: int) -> None:
            handle = await client.start(doubled(number), id=f"{life}-{number}")
            os.write(1, f"{handle.id}\n".encode())  # in one piece, also if the next instruction never comes

        os.write(1, b"ready\n")
        for first in range(0, count, 20):
            async with anyio.create_task_group() as group:
                for number in range(first, min(first + 20, count)):
                    group.start_soon(start, number)


if __name__ == "__main__":
    first, second, third, *rest = sys.argv[1:]
    anyio.run(_main, first, second, int(third), "".join(rest[:1]), int("".join(rest[1:]) or 0))
