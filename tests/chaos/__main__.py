"""``python -m tests.chaos --kills 200 --seed 7``: the crash test for as long as you like."""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from tests.chaos.killing import run


def main() -> None:
    """Runs it, and prints what to repeat it with."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill a coordinator, again and again.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--orders", type=int, default=40, help="new sagas for each process")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed: {options.seed}", flush=True)  # noqa: T201 - a program's output
    with tempfile.TemporaryDirectory() as directory:
        story = run(Path(directory), kills=options.kills, seed=options.seed, orders_a_life=options.orders)
    print(f"{story.kills} processes were killed; {story.totals}")  # noqa: T201


if __name__ == "__main__":
    main()
