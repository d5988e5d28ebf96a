"""Which systems are measured in which order: all of them in turn, in each round, while all are open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from benchmarks.model import CONCURRENCIES
from benchmarks.process import Child, ChildFailed, conversation
from benchmarks.remote.model import STEPS, Barrier, Remote, System
from benchmarks.remote.servers import server

__all__ = ["barriers", "remotes"]

# Until each write-ahead log has been filled and begun anew: a sync takes longer while its file grows.
_WARM_UP = {"clients": 64, "seconds": 2.0}


def remotes(way: str, directory: Path, *, rounds: int, seconds: float, say: Callable[[str], None]) -> Iterator[Remote]:
    """Measures one way.

    Args:
        way: See ``Remote``.
        directory: For databases.
        rounds: How often each system is measured, in turn with the others.
        seconds: How long a window starts new sagas.
        say: Shows what is being measured.

    Raises:
        ChildFailed: A process ended.
    """
    with ExitStack() as stack:
        url = stack.enter_context(server(way))
        askers = {system: stack.enter_context(_opened(way, url, system, directory)) for system in System}
        for asker in askers.values():
            asker.ask(**_WARM_UP)
        for number in range(rounds):
            for clients in CONCURRENCIES:
                for system in _in_turn(number):
                    say(f"{way}, {system} at {clients}: round {number + 1} of {rounds}")
                    found = askers[system].ask(clients=clients, seconds=seconds)
                    yield Remote(way=way, system=system, concurrency=clients, round=number, **found)


def _in_turn(number: int) -> list[System]:
    """Begins with another system each round."""
    systems = list(System)
    turn = number % len(systems)
    return systems[turn:] + systems[:turn]


@contextmanager
def _opened(way: str, url: str, system: System, directory: Path) -> Iterator[Child]:
    """Starts the two processes of a system; gives the one that asks."""
    name = system.name.lower()
    request = {"way": way, "system": system, "prefix": f"bench-{name}"}
    if way == "sql":
        url = f"sqlite:///{directory / name}-queue.db"
    there, here = str(directory / f"{way}-{name}-worker.db"), str(directory / f"{way}-{name}-coordinator.db")
    with conversation("remote:answer", request | {"url": url, "database": there}) as answering:
        at = answering.hear()["at"]
        with conversation("remote:ask", request | {"at": at, "database": here}) as asking:
            asking.hear()
            try:
                yield asking
            except ChildFailed as error:
                if (said := answering.last_words()) is None:
                    raise
                raise ChildFailed(f"{error}; who answers ({system}) had ended before: {said}") from error


def barriers(directory: Path, *, rounds: int, seconds: float, say: Callable[[str], None]) -> Iterator[Barrier]:
    """Measures what the barrier costs; see ``remotes``."""
    with conversation("remote:barrier", {"database": str(directory / "barrier.db")}) as worker:
        worker.hear()
        for step, with_inbox in product(STEPS, (True, False)):
            worker.ask(step=step, with_inbox=with_inbox, **_WARM_UP)
        for number, clients, step in product(range(rounds), CONCURRENCIES, STEPS):
            say(f"the barrier, {step} steps at {clients}: round {number + 1} of {rounds}")
            found = {
                order: worker.ask(step=step, with_inbox=order, clients=clients, seconds=seconds)["per_second"]
                for order in (True, False)
            }
            yield Barrier(step, clients, number, found[True], found[False])
