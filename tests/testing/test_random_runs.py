"""Random runs are the same for the same seed, go wrong as planned, and leave out what is known."""

from __future__ import annotations

from itertools import islice

from sagas.testing import Fault, Run, Simulator
from sagas.testing.random_runs import RandomRuns
from tests.testing import shop

CALLS = [shop.order("lamp", amount) for amount in range(1, 4)]


def _some(seed: int, count: int = 150, **options: object) -> list[Run]:
    simulator = Simulator(shop.order, world=shop.open_shop, view=shop.total)
    return list(islice(RandomRuns(simulator, CALLS, seed, **options), count))  # type: ignore[arg-type]


def test_the_same_seed_draws_the_same_runs() -> None:
    first, again, other = ([run.scenario for run in _some(seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_fault_of_a_chain_happens() -> None:
    runs = _some(1)
    assert all(run.missed == () for run in runs)
    assert {len(run.scenario.faults) for run in runs} == {0, 1, 2, 3, 4}
    assert all(run.broken == [] for run in runs)


def test_a_run_without_faults_is_played_once_for_each_input() -> None:
    plain = [run.scenario for run in _some(1) if not run.scenario.faults]
    assert len(plain) == len(set(map(repr, plain))) == len(CALLS)


def test_only_the_kinds_that_are_asked_for_happen() -> None:
    runs = _some(1, kinds=["crash after"])
    assert {fault.what for run in runs for fault in run.fired} == {"crash after"}


def test_without_faults_the_same_is_played_again_and_again() -> None:
    assert {run.scenario.faults for run in _some(1, 20, most=0)} == {()}


def test_signals_say_different_things() -> None:
    simulator = Simulator(shop.ask)
    runs = list(islice(RandomRuns(simulator, [shop.ask("lamp")], 1), 60))
    assert {run.result for run in runs if run.status == "completed"} == {True, False}


def test_a_fault_that_breaks_a_law_ends_its_chain() -> None:
    simulator = Simulator(shop.careless, world=shop.open_shop, view=shop.total)
    runs = list(islice(RandomRuns(simulator, [shop.careless(1)], 1), 100))
    broken = [run for run in runs if run.broken]
    assert broken
    longer = [run for run in runs if len(run.scenario.faults) > 1]
    assert not any(
        run.scenario.faults[: len(bad.scenario.faults)] == bad.scenario.faults for bad in broken for run in longer
        if run is not bad and len(run.scenario.faults) > len(bad.scenario.faults)
    )  # fmt: skip
    assert any(fault == Fault("rejected", at="ship") for run in broken for fault in run.fired)
