"""Simulated processes that died leave nothing behind."""

from __future__ import annotations

import gc

from sagas.testing import Fault, Scenario, Simulator
from sagas.testing.simulation.loop import ProcessLoop
from tests.testing import shop


def _loops() -> int:
    gc.collect()
    return sum(type(x) is ProcessLoop for x in gc.get_objects())


def test_a_process_that_was_killed_is_forgotten() -> None:
    simulator = Simulator(shop.order)
    scenario = Scenario(shop.order("lamp", 1), (Fault("crash before", at="charge"), Fault("pause after", at="ship")))
    simulator.run(scenario)
    before = _loops()
    for _ in range(10):
        simulator.run(scenario)
    assert _loops() <= before
