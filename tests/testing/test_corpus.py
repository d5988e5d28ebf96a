"""The known bugs are found, each with a small story, and what is right passes: `sagas.testing` and `sagas check`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sagas import linting
from sagas.testing import CheckFailed, Fault, check, reproduce
from tests.testing.corpus.everything import FOUND, READ, RIGHT

if TYPE_CHECKING:
    import random

    from tests.testing.corpus.cases import Found, Read, Right

# What a docstring cites: a thread on GitHub, or a file there.
REPORT = re.compile(r"[\w.-]+/[\w.-]+#\d+|restatedev/examples")


# With SAGAS_TEST_EVERYTHING=1, other runs each time, and as many of the right sagas as a check plays by default.
EVERYTHING = bool(os.environ.get("SAGAS_TEST_EVERYTHING"))
SEED, FEW, SHARE = 1, 300, 0.6


def names(case: Found | Read | Right) -> str:
    return case.saga.function.__name__


def fails(case: Found, seed: int) -> CheckFailed:
    with pytest.raises(CheckFailed) as failure:
        check(case.saga, seed=seed, **case.options)
    return failure.value


def pasted(failure: CheckFailed, case: Found) -> Any:
    """Evaluates the line that a failure says to paste, as the module of the saga would."""
    assert failure.run is not None
    line = repr(failure.run.scenario)
    assert f"    {line}\n" in str(failure)
    module = vars(sys.modules[case.saga.function.__module__])
    return eval(line.removeprefix("@"), {**module, "Fault": Fault, "reproduce": reproduce})  # noqa: S307 - our own


@pytest.mark.parametrize("case", FOUND, ids=names)
def test_a_known_bug_is_found_and_told_in_a_few_faults(case: Found, rng: random.Random) -> None:
    failure = fails(case, rng.getrandbits(32) if EVERYTHING else SEED)
    assert failure.law == case.law, str(failure)
    assert failure.run is not None
    assert len(failure.run.scenario.faults) <= case.faults, str(failure)

    def play() -> None:
        check(case.saga, **case.options)

    with pytest.raises(CheckFailed) as repeated:
        pasted(failure, case)(play)()
    assert repeated.value.law == case.law


@pytest.mark.parametrize("case", READ, ids=names)
def test_a_known_bug_is_found_by_reading(case: Read) -> None:
    path = Path(case.saga.function.__code__.co_filename)
    findings = linting.check([f"{path}:{case.name}"]).findings
    assert case.rule in [x.rule for x in findings]


@pytest.mark.parametrize("case", [*FOUND, *READ], ids=names)
def test_a_known_bug_cites_its_report(case: Found | Read) -> None:
    assert REPORT.search(case.saga.function.__doc__ or "")


@pytest.mark.parametrize("case", RIGHT, ids=names)
def test_a_right_saga_passes_and_every_part_of_it_was_tried(case: Right, rng: random.Random) -> None:
    if EVERYTHING:
        report = check(case.saga, seed=rng.getrandbits(32), **case.options)
    else:
        report = check(case.saga, seed=SEED, runs=FEW, coverage=SHARE, **case.options)
    assert report.coverage.share >= (0.9 if EVERYTHING else SHARE)
    assert (report.never_called, report.never_undone) == (case.never_called, case.never_undone), str(report)
    assert not report.never_run, str(report)


@pytest.mark.parametrize("folder", ["right"])
def test_nothing_is_found_by_reading_what_is_right(folder: str) -> None:
    findings = linting.check([str(Path(__file__).parent / "corpus" / folder)]).findings
    assert not findings, "\n".join(map(str, findings))
