"""A run is the same whatever was played before it."""

from __future__ import annotations

from sagas import saga, step
from sagas.testing import Fault, Scenario, Simulator


def test_a_run_has_the_same_keys_whether_its_process_is_new_or_not() -> None:
    @step
    async def act() -> None: ...

    @saga
    async def acting() -> None:
        await act()

    simulator = Simulator(acting)
    scenarios = [
        Scenario(acting()),
        Scenario(acting()),
        Scenario(acting(), (Fault("crash after", at="act"),)),
        Scenario(acting()),
    ]
    keys = [{x.key for x in simulator.run(scenario).calls} for scenario in scenarios]
    assert keys == [keys[0]] * len(scenarios)
