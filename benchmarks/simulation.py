"""How fast sagas are simulated: five steps in a row, each of which writes to a world, with every law checked."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from hypothesis import strategies as st

from sagas import current_step, saga, step
from sagas.testing import Run, Scenario, Simulator, check
from sagas.testing.heap import set_aside
from sagas.testing.random_runs import RandomRuns
from sagas.testing.scenarios import further

__all__ = ["KINDS", "rates", "seconds_of_check"]

_SEED = 1


class Ledger:
    """A world: what was booked, by idempotency key."""

    def __init__(self) -> None:
        self.booked: dict[str, int] = {}
        self.balance = 0


_ledger = Ledger()


def new_ledger() -> Ledger:
    """Makes the world of a run."""
    global _ledger  # noqa: PLW0603 - as the fakes of a test suite are
    _ledger = Ledger()
    return _ledger


def balance(ledger: Ledger) -> int:
    """Gives what counts of a world."""
    return ledger.balance


def nothing_is_lost(ledger: Ledger) -> bool:
    """Is an invariant, as users have."""
    return ledger.balance == -sum(ledger.booked.values())


@step
async def book(amount: int) -> int:
    """Is each of the five steps."""
    key = current_step().idempotency_key
    if key not in _ledger.booked:
        _ledger.booked[key] = amount
        _ledger.balance -= amount
    return amount


@book.compensator
async def unbook(amount: int) -> None:  # noqa: ARG001 - what is undone is known by its key
    """Undoes one."""
    _ledger.balance += _ledger.booked.get(current_step().undoes or "", 0)
    _ledger.booked[current_step().undoes or ""] = 0


@saga
async def five_steps(amount: int) -> int:
    """Calls five steps in a row."""
    total = 0
    for number in range(5):
        total += await book(amount + number)
    return total


def _simulator() -> Simulator:
    return Simulator(five_steps, world=new_ledger, view=balance, invariants=[nothing_is_lost])


def _without_faults(simulator: Simulator) -> Iterator[Run]:
    for amount in itertools.count():
        yield simulator.run(Scenario(five_steps(amount % 100)))


def _one_fault_each(simulator: Simulator) -> Iterator[Run]:
    faults = [fault for _, fault in further(simulator.run(Scenario(five_steps(1))))]
    for fault in itertools.cycle(faults):
        yield simulator.run(Scenario(five_steps(1), (fault,)))


def _chains(simulator: Simulator) -> Iterator[Run]:
    yield from RandomRuns(simulator, [five_steps(amount) for amount in range(25)], _SEED)


KINDS: dict[str, Callable[[Simulator], Iterator[Run]]] = {
    "nothing goes wrong": _without_faults,
    "one fault, at each place in turn": _one_fault_each,
    "chains of up to 4 faults": _chains,
}


def rates(seconds: float) -> dict[str, float]:
    """Measures runs a second, by kind.

    Args:
        seconds: How long each kind is played; as much is played before to warm up, at most half a second.

    Raises:
        AssertionError: A law was broken.
    """
    found: dict[str, float] = {}
    for kind, play in KINDS.items():
        runs = play(_simulator())
        with set_aside():  # as `check` and `sagas simulate` do
            _count(runs, min(seconds, 0.5))
            began = time.perf_counter()
            count = _count(runs, seconds)
            found[kind] = count / (time.perf_counter() - began)
    return found


def _count(runs: Iterator[Run], seconds: float) -> int:
    """Plays runs for some time, and counts them."""
    until = time.perf_counter() + seconds
    for count, run in enumerate(runs, 1):
        assert not run.broken, run.broken
        if time.perf_counter() >= until:
            return count
    return 0


def seconds_of_check() -> float:
    """Measures a check with its default budget."""
    began = time.perf_counter()
    check(
        five_steps, inputs={"amount": st.integers(1, 100)}, world=new_ledger, view=balance,
        invariants=[nothing_is_lost], seed=_SEED,
    )  # fmt: skip
    return time.perf_counter() - began
