"""Signals in simulated runs: a saga that waits for another answer gets one in the end."""

from __future__ import annotations

import gc
import warnings

from hypothesis import strategies as st

from sagas import receive, saga
from sagas.testing import Fault, Scenario, Simulator


@saga
async def ask_two() -> list[str]:
    heard: list[str] = []
    while len(heard) < 2:
        name = await receive("name", str)
        if name not in heard:
            heard.append(name)
    return heard


def test_a_saga_that_waits_for_two_different_answers_gets_them() -> None:
    simulator = Simulator(ask_two, signals={"name": st.sampled_from(["Ada", "Grace"])})
    run = simulator.run(Scenario(ask_two()))
    assert (run.broken, run.result) == ([], ["Ada", "Grace"])


def test_a_signal_to_a_process_that_is_killed_is_no_warning() -> None:
    simulator = Simulator(ask_two, signals={"name": st.sampled_from(["Ada", "Grace"])})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for nth in range(1, 5):
            for what in ("crash before", "crash after", "restart"):
                simulator.run(Scenario(ask_two(), (Fault("twice", "signal name"), Fault(what, "commit", nth))))
        gc.collect()


def test_a_signal_that_comes_early_is_of_the_right_type_in_the_very_first_run() -> None:
    @saga
    async def ask() -> int:
        return await receive("number", int)

    run = Simulator(ask).run(Scenario(ask(), (Fault("early", at="signal number"),)))
    assert run.missed == ()
    assert (run.status, run.broken) == ("completed", [])
