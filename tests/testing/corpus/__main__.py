"""Plays many runs of the right sagas, and tells every false alarm: ``python -m tests.testing.corpus --runs 100000``."""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING

from sagas.testing import CheckFailed, check
from tests.testing.corpus.everything import RIGHT

if TYPE_CHECKING:
    from tests.testing.corpus.cases import Right


def main() -> int:
    """Plays, and gives 1 if there was a false alarm."""
    arguments = _parser().parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    cases = [x for x in RIGHT if not arguments.only or x.saga.name in arguments.only]
    _say(f"seed {seed}: {arguments.runs} runs of {len(cases)} right sagas")
    began = time.perf_counter()
    played = [_play(case, arguments.runs // len(cases), seed) for case in cases]
    runs, alarms = sum(played), sum(not x for x in played)
    _say(f"seed {seed}: {runs} runs, {runs / (time.perf_counter() - began):.0f}/s, {alarms} false alarms")
    return 1 if alarms else 0


def _play(case: Right, runs: int, seed: int) -> int:
    """Plays runs of a saga; gives how many, or 0 after a false alarm."""
    began = time.perf_counter()
    try:
        report = check(case.saga, runs=runs, seed=seed, **case.options)
    except CheckFailed as failure:
        _say(f"{case.saga.name}: A FALSE ALARM, with seed {seed}\n{failure}")
        return 0
    count = report.coverage.runs
    _say(f"{case.saga.name}: {count} runs, {count / (time.perf_counter() - began):.0f}/s")
    return count


def _say(text: str) -> None:
    """Prints at once, since the whole takes long."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    """Makes the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.testing.corpus", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="how many in all, about")
    parser.add_argument("--seed", type=int, help="for the draws; a new one by default")
    parser.add_argument("--only", action="append", metavar="SAGA", help="only this saga; may be given several times")
    return parser


if __name__ == "__main__":
    sys.exit(main())
