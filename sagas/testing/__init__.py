"""Proves that sagas recover: simulated runs in which everything goes wrong that can."""

from sagas.testing.assertions import assert_commutes, assert_idempotent, assert_probes, assert_undoes
from sagas.testing.checking import CheckFailed, Report, check
from sagas.testing.faults import Fault
from sagas.testing.mutants import Mutant, Mutants
from sagas.testing.mutating import assert_undos_tested, mutate
from sagas.testing.planned import play
from sagas.testing.reproducing import reproduce
from sagas.testing.runs import Broken, Run, Scenario
from sagas.testing.simulator import Simulator
from sagas.testing.strategies import runs
from sagas.testing.virtual_clock import VirtualClock

__all__ = [
    "Broken",
    "CheckFailed",
    "Fault",
    "Mutant",
    "Mutants",
    "Report",
    "Run",
    "Scenario",
    "Simulator",
    "VirtualClock",
    "assert_commutes",
    "assert_idempotent",
    "assert_probes",
    "assert_undoes",
    "assert_undos_tested",
    "check",
    "mutate",
    "play",
    "reproduce",
    "runs",
]
