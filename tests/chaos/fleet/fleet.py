"""The processes as the driver holds them: starting, ending and pausing them, orders to them and their answers."""

from __future__ import annotations

import json
import os
import random
import selectors
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.fleet.member import NO_DATABASE, Settings

__all__ = ["Fleet", "Process"]

_LONGEST = 30.0  # seconds that a process may take to leave

Order = dict[str, Any]


@dataclass(eq=False)
class Process:
    """One coordinator.

    Attributes:
        slot: Which of those that run side by side.
        popen: The process.
        errors: The file of its standard error.
        ready: Whether it takes orders.
        paused: Whether it got SIGSTOP.
        leaving: Whether it got SIGTERM.
        orders: Those it has not answered, by number.
    """

    slot: int
    popen: subprocess.Popen[bytes]
    errors: Path
    ready: bool = False
    paused: bool = False
    leaving: bool = False
    orders: dict[int, Order] = field(default_factory=dict)
    rest: bytes = b""

    @property
    def able(self) -> bool:
        """Whether an order to it makes sense."""
        return self.ready and not self.paused and not self.leaving


class Fleet:
    """All processes.

    Args:
        directory: For their files.
        journal: URL.
        business: URL.
        seed: Of the business' fates.
        lease: Seconds.
        rng: For what each process is like.
    """

    def __init__(
        self, directory: Path, *, journal: str, business: str, seed: int, lease: float, rng: random.Random
    ) -> None:
        self._base = Settings(0, 0, seed, "asyncio", lease, str(directory), journal, business)
        self._directory = directory
        self._rng = rng
        self._selector = selectors.DefaultSelector()
        self._number = 0
        self._lives = 0
        self.processes: dict[int, Process] = {}
        self.unsent: list[Order] = []
        self.answered: list[tuple[Order, dict[str, Any]]] = []

    def start(self, slot: int) -> None:
        """Starts a process in a slot that has none."""
        self._lives += 1
        backend = self._rng.choice(("asyncio", "uvloop", "trio"))
        settings = self._base._replace(slot=slot, life=self._lives, backend=backend)
        errors = self._directory / f"{slot}-{self._lives}.log"
        with errors.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.fleet.member", json.dumps(settings._asdict())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
            )  # fmt: skip
        assert popen.stdout is not None
        self.processes[slot] = process = Process(slot, popen, errors)
        self._selector.register(popen.stdout, selectors.EVENT_READ, process)

    def order(self, order: Order) -> None:
        """Hands an order to some process, or keeps it until there is one that can take it."""
        able = [process for process in self.processes.values() if process.able]
        if not able:
            self.unsent.append(order)
            return
        self._number += 1
        process = self._rng.choice(able)
        process.orders[self._number] = order
        assert process.popen.stdin is not None
        try:
            process.popen.stdin.write(json.dumps({**order, "n": self._number}).encode() + b"\n")
        except BrokenPipeError:
            return  # it is dead; when that is noticed, the order goes to another one

    def listen(self, seconds: float) -> None:
        """Takes in what the processes say, for at most so long."""
        for key, _ in self._selector.select(max(seconds, 0.0)):
            process: Process = key.data
            assert process.popen.stdout is not None
            chunk = os.read(process.popen.stdout.fileno(), 1 << 16)
            if not chunk:
                self._bury(process)
            *lines, process.rest = (process.rest + chunk).split(b"\n")
            for line in lines:
                self._hear(process, json.loads(line))
        if self.unsent and any(process.able for process in self.processes.values()):
            unsent, self.unsent = self.unsent, []
            for order in unsent:
                self.order(order)

    def _hear(self, process: Process, said: dict[str, Any]) -> None:
        if "ready" in said:
            process.ready = True
            return
        order = process.orders.pop(said["n"])
        if "failed" in said:
            self.unsent.append(order)
        else:
            self.answered.append((order, said))

    def _bury(self, process: Process) -> None:
        """Takes leave of a process that has ended, and gives its orders to others.

        Raises:
            AssertionError: It did not die of a signal of ours, or of a database that was away.
        """
        assert process.popen.stdout is not None
        self._selector.unregister(process.popen.stdout)
        status = process.popen.wait()
        for pipe in (process.popen.stdin, process.popen.stdout):
            if pipe is not None:
                pipe.close()
        if self.processes.get(process.slot) is process:
            del self.processes[process.slot]
        self.unsent += process.orders.values()
        good = {-signal.SIGKILL, NO_DATABASE} | ({0} if process.leaving else set())
        assert status in good, f"a process ended with {status}:\n{process.errors.read_text()[-6000:]}"

    def signal(self, process: Process, number: signal.Signals) -> None:
        """Sends a process a signal, and notes what that makes of it."""
        process.popen.send_signal(number)
        process.paused = number is signal.SIGSTOP or (process.paused and number is not signal.SIGCONT)
        process.leaving = process.leaving or number is signal.SIGTERM
        process.ready = process.ready and number is not signal.SIGKILL

    @property
    def unanswered(self) -> int:
        """How many orders nobody has carried out yet."""
        return len(self.unsent) + sum(len(process.orders) for process in self.processes.values())

    def kill_all(self) -> None:
        """Ends every process at once, paused ones too."""
        for process in list(self.processes.values()):
            process.popen.kill()
            process.popen.communicate()
