"""The processes of a simulated fleet, and the disk and the time that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.testing.simulation.clock import Tokens
from sagas.testing.simulation.disk import Disk
from sagas.testing.simulation.loop import Time
from sagas.testing.simulation.process import FOREVER, Process, SimulatedCoordinator

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from contextvars import Context

    from sagas.core.definitions import Saga, Step
    from sagas.stores.port import Batch, Committed
    from sagas.telemetry import Tracing
    from sagas.testing.simulation.stage import Stage

__all__ = ["Endless", "Fleet"]

# A Tuesday at noon.
BEGINNING = 1_704_801_600.0
_MOST = 20_000
_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Endless(Exception):  # noqa: N818 - news, not an error of this library
    """Something in a process goes on and on without any time passing."""


class Fleet:
    """See the module.

    Args:
        sagas: The code that a process starts with.
        steps: Also that.
        deployed: The code that it has after a deploy.

    Attributes:
        processes: Those that are alive, in the order of their starts.
        stage: Of the run that is being played.
        rejection: Makes what a step raises when it refuses.
        orders: What is to be done from outside, once everybody waits.
        delayed: Requests that are still on their way when whoever sent them has given them up.
        tracing: Makes the spans of its coordinators; ``None`` for none.
    """

    def __init__(
        self,
        sagas: Sequence[Saga[..., Any]],
        steps: Sequence[Step[..., Any]],
        rejection: Callable[[Step[..., Any]], Exception],
        deployed: Sequence[Saga[..., Any]] = (),
    ) -> None:
        self.time = Time(BEGINNING)
        self.tracing: Tracing | None = None
        self.disk = Disk()
        self.tokens = Tokens()
        self.rejection = rejection
        self.processes: list[Process] = []
        self.orders: list[str] = []
        self.delayed: list[tuple[Context, Callable[[], Coroutine[Any, Any, object]]]] = []
        self.stage: Stage
        self._graves: list[Process] = []
        self._coordinators: dict[int, SimulatedCoordinator] = {}
        self._code = self._sagas = tuple(sagas)
        self._steps = tuple(steps)
        self._deployed = tuple(deployed)
        self._started = 0
        self._interrupted: Process | None = None
        self.long_frozen = False

    # --- runs ---------------------------------------------------------------------------------------------------

    def begin(self, stage: Stage) -> None:
        """Gets ready for a run."""
        self.stage = stage
        self.time.now = stage.began = BEGINNING
        self.tokens.begin_again()
        self.orders.clear()
        self.delayed.clear()
        self.long_frozen = False
        self._code = self._sagas

    def end(self) -> bool:
        """Cleans up after a run; says whether another one can follow, on what is left of the fleet."""
        keep = [] if self.changed else [x for x in self.processes if x.idle()][:1]
        for process in (*self._graves, *self.processes):
            if process not in keep:
                process.loop.bury()
        self._graves.clear()
        if not keep:
            return False
        self.processes[:] = keep
        self._started = 1
        keep[0].name = _NAMES[0]
        keep[0].clear()
        keep[0].loop.drain(_MOST)
        self.disk.wipe()
        return True

    def settle(self) -> None:
        """Runs everything that is ready.

        Raises:
            Endless: It does not come to rest.
        """
        for _ in range(_MOST):
            busy = [x for x in self.processes if x.running and x.loop.ready]
            if not busy:
                return
            for process in busy:
                if process.running:
                    process.loop.drain(_MOST)
                if process.loop.trouble:
                    raise _trouble(process)
                if self._interrupted is process:
                    self._interrupted, process.loop.stopped = None, not process.running
                elif process.running and process.loop.ready:
                    raise Endless
                if not process.alive:
                    self._gone(process)
        raise Endless

    # --- processes ----------------------------------------------------------------------------------------------

    @property
    def host(self) -> Process | None:
        """Gives a process that takes orders."""
        return next((x for x in self.processes if x.running and not x.stopping), None)

    @property
    def frozen(self) -> list[Process]:
        """Lists those that are frozen."""
        return [x for x in self.processes if x.frozen]

    def start(self) -> Process:
        """Starts a process."""
        name = _NAMES[self._started % len(_NAMES)]
        self._started += 1
        process = Process(self, name, self._code, self._steps)
        self.processes.append(process)
        self.stage.note(name, "the process starts")
        return process

    def coordinator_for(
        self, process: Process, sagas: Sequence[Saga[..., Any]], steps: Sequence[Step[..., Any]]
    ) -> SimulatedCoordinator:
        """Makes the coordinator of a process."""
        known = self._coordinators.get(id(sagas))
        if known is None:
            known = self._coordinators[id(sagas)] = SimulatedCoordinator(process, sagas, steps)
            return known
        return known.copied_for(process)

    @property
    def changed(self) -> bool:
        """Whether other code was deployed."""
        return self._code is not self._sagas

    def deploy(self) -> None:
        """Gives every process that starts from now on the other code."""
        self._code = self._deployed

    def died(self, process: Process) -> None:
        """Notes that a process was killed, which its operating system shows to everybody at once."""
        self.disk.release(process.engine.owner)
        self.stage.note(process.name, "the process is killed")

    def froze(self, process: Process, *, long: bool) -> None:
        """Notes that a process was frozen, for so long that its lease is over."""
        self.disk.release(process.engine.owner)
        self.stage.note(process.name, "the process is frozen, and its lease runs out")
        self.long_frozen = long

    def _gone(self, process: Process) -> None:
        """Forgets a process that has ended."""
        self.processes.remove(process)
        self._graves.append(process)
        if process.main.done():
            self.stage.note(process.name, "the process ends")
            process.main.result()

    # --- what happens -------------------------------------------------------------------------------------------

    def order(self, what: str) -> None:
        """Has something done from outside."""
        self.orders.append(what)

    def committed(self, process: Process, batch: Batch, done: Committed) -> None:
        """Notes what has become durable."""
        stage = self.stage
        lost = done.taken | done.fenced
        for row in batch.rows:
            if row.saga_id not in lost and row.seq == len(stage.rows):
                stage.rows.append(row)
                stage.writers.append(process.name)
                if stage.look is not None:
                    stage.note(process.name, f"writes {row.kind} {row.path}".rstrip())
                if row.kind == "SagaTakenOver" and not self.long_frozen:
                    self._thaw_others(process)
        if done.fenced and stage.look is not None:
            stage.note(process.name, "is fenced: another process has gone on with the saga")
        if stage.watch is not None:
            stage.watch()

    def _thaw_others(self, process: Process) -> None:
        """Thaws whoever was frozen until another process took over, so that both believe that the saga is theirs."""
        for other in self.frozen:
            if other is not process:
                self.stage.note(other.name, "the process is thawed")
                other.thaw()
                # Whoever took over has to wait for its turn, so that the other one acts on what it knew before.
                self._interrupted, process.loop.stopped = process, True

    def next_timer(self) -> float | None:
        """Says when something is due next."""
        times = [x.loop.next_timer() for x in self.processes if x.running]
        soon = [x for x in times if x is not None and x < BEGINNING + FOREVER / 2]
        return min(soon, default=None)

    def pass_time(self, until: float) -> None:
        """Lets time pass."""
        self.time.now = max(self.time.now, until)
        for process in self.processes:
            if process.running:
                process.loop.fire_due()


def _trouble(process: Process) -> BaseException:
    """Gives what went wrong in a process where nobody waited for it."""
    context = process.loop.trouble[0]
    error = context.get("exception")
    return error if isinstance(error, BaseException) else RuntimeError(str(context.get("message")))
