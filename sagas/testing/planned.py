"""Plays one planned run, and makes sure that it went as planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from sagas.testing.checking import CheckFailed, failure_of
from sagas.testing.missing import A_PLANNED_FAULT_HAPPENS, never_happened
from sagas.testing.runs import Scenario
from sagas.testing.simulator import Simulator

if TYPE_CHECKING:
    from sagas.core.operations import SagaCall
    from sagas.testing.faults import Fault
    from sagas.testing.options import Options
    from sagas.testing.runs import Run

__all__ = ["play"]


def play(
    call: SagaCall[Any],
    *faults: Fault,
    answers: tuple[int, ...] = (),
    **options: Unpack[Options],
) -> Run:
    """Plays a simulated run with just these faults: ``play(place_order("lamp"), Fault("lost reply", at="charge"))``.

    Args:
        call: The saga and its input.
        *faults: What goes wrong.
        answers: What the signals say, as numbers: the n-th signal that is sent has the payload of the n-th number. 0
            is the first and simplest value that ``signals=``, or else the type, allows. Those beyond say the first.
        **options: ``world``, ``view``, ``invariants``, ``always``, ``signals``, ``steps``, ``deploys``, ``late`` and
            ``database``, as for ``check``.

    Raises:
        CheckFailed: A law does not hold, or a fault never happened.
        RequestError: An argument is of the wrong kind; or steps are transactional, and there is no database.
    """
    __tracebackhide__ = True
    simulator = Simulator(call.saga, **options)
    run = simulator.run(Scenario(call, faults, answers), watch=True)
    if run.broken:
        raise failure_of(simulator, run)
    if run.missed:
        raise CheckFailed(never_happened(run), run, A_PLANNED_FAULT_HAPPENS)
    return run
