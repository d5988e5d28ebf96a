"""Crash tests for as long as you like.

``python -m tests.chaos --kills 200 --seed 7``: one coordinator at a time on SQLite.
``python -m tests.chaos --postgres --seconds 600 --seed 7 --processes 4``: many on PostgreSQL, where all else fails too.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from tests.chaos import killing
from tests.chaos.fleet import driver


def main() -> None:
    """Runs it, and prints what to repeat it with. What the processes leave is kept if a law was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill coordinators, again and again.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--orders", type=int, default=40, help="new sagas for each process")
    parser.add_argument("--postgres", action="store_true", help="many processes on one PostgreSQL")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long things fail")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--open", type=int, default=200, help="about how many sagas are open")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed: {options.seed}", flush=True)  # noqa: T201 - a program's output
    directory = Path(tempfile.mkdtemp(prefix="sagas-chaos-"))
    print(_run(directory, options))  # noqa: T201
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()


def _run(directory: Path, options: argparse.Namespace) -> str:
    print(f"what the processes leave: {directory}", flush=True)  # noqa: T201
    if options.postgres:
        wishes = driver.Options(
            seed=options.seed, seconds=options.seconds, processes=options.processes, open_sagas=options.open
        )
        return str(driver.run(directory, wishes))
    story = killing.run(directory, kills=options.kills, seed=options.seed, orders_a_life=options.orders)
    return f"{story.kills} processes were killed; {story.totals}"


if __name__ == "__main__":
    main()
