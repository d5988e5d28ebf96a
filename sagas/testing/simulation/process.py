"""A simulated process: an event loop with a coordinator, which can be killed, frozen, and asked to stop."""

from __future__ import annotations

import math
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

from sagas.coordinator.coordinator import Coordinator
from sagas.coordinator.engine import Engine
from sagas.coordinator.watching import Watching
from sagas.testing.simulation.acting import Actor
from sagas.testing.simulation.clock import ProcessClock
from sagas.testing.simulation.loop import ProcessLoop, give_way
from sagas.testing.simulation.writing import DiskCalls

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from contextvars import Context
    from types import TracebackType

    from sagas.coordinator.sweeper import Sweeper
    from sagas.core.definitions import Saga, Step
    from sagas.testing.simulation.fleet import Fleet

__all__ = ["FOREVER", "Process", "SimulatedCoordinator"]

# Nothing in a simulation waits for a lease or a poll: whoever dies is known to be dead, and whoever has something to
# look after is told. So both are longer than any saga, and virtual time jumps over days without stopping for them.
FOREVER = 1e10
# Whoever waits for a saga that another process drives looks after pauses that double, without end but for this.
_RARELY = 1e8


class Process:
    """See the module.

    Args:
        fleet: Which it is part of.
        name: For people.
        sagas: The code that it has.
        steps: Also that.

    Attributes:
        alive: Whether it has not died or ended.
        frozen: Whether it is stopped and may be continued.
        in_flight: How many functions of users are being called in it.
        fresh: Whether nothing has happened to it that could matter to another run.
    """

    def __init__(
        self, fleet: Fleet, name: str, sagas: Sequence[Saga[..., Any]], steps: Sequence[Step[..., Any]]
    ) -> None:
        self.fleet = fleet
        self.name = name
        self.loop = ProcessLoop(fleet.time)  # type: ignore[abstract]  # what it does not have, it refuses
        self.clock = ProcessClock(fleet.time, self.loop, fleet.tokens)
        self.calls = DiskCalls(self)
        self.coordinator = fleet.coordinator_for(self, sagas, steps)
        self.alive = True
        self.frozen = False
        self.fresh = True
        self.in_flight = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self._stop = self.loop.create_future()
        self.main = self.loop.create_task(self._main())

    async def _main(self) -> None:
        """Runs the coordinator until it is asked to stop."""
        async with self.coordinator:
            await self._stop
        self.alive = False

    @property
    def running(self) -> bool:
        """Whether it gets processor time."""
        return self.alive and not self.frozen

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.done()

    @property
    def engine(self) -> Engine:
        """Gives what drives its sagas."""
        return self.coordinator.engine

    def spawn(self, work: Coroutine[Any, Any, object], context: Context | None = None) -> None:
        """Runs something in it."""
        self.tasks.append(self.loop.create_task(work, context=context))

    def wake(self) -> None:
        """Has it look for sagas and mail, as an announcement would."""
        self.coordinator.sweeper.look()
        self.engine.timers.look()

    async def die(self) -> None:
        """Is killed, by what runs in it; never returns."""
        self.fresh = self.alive = False
        self.loop.stopped = True
        self.fleet.died(self)
        await self.loop.create_future()

    def may_freeze(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """Leaves out of what can go wrong that it is frozen, while that would have a step act too late.

        Nobody but the other side can fend that off, so it happens only if it is asked for.
        """
        return _unfrozen(options) if self.in_flight and not self.fleet.stage.late else options

    async def freeze(self, *, long: bool = False, own: int = 0) -> None:
        """Is frozen, by what runs in it, and taken for dead; returns when it is thawed.

        Args:
            long: Whether it is thawed only when all is over.
            own: How many of the calls under way are the one that freezes it, which has acted.
        """
        if self.in_flight > own and not self.fleet.stage.late:
            return  # see ``may_freeze``; this began only after it had been decided
        self.fresh = False
        self.frozen = self.loop.stopped = True
        self.fleet.froze(self, long=long)
        await give_way()

    def thaw(self) -> None:
        """Goes on, with every timeout of its own long past, and its lease too."""
        self.frozen = self.loop.stopped = False
        self.loop.ahead += 2 * FOREVER
        self.loop.fire_due()
        self.spawn(self.coordinator.sweeper.beat())

    def stop(self) -> None:
        """Is asked to end as a deploy asks it to."""
        self.fresh = False
        if not self._stop.done():
            self._stop.set_result(None)

    def idle(self) -> bool:
        """Whether nothing of a saga is left in it, so that it can serve another run."""
        engine = self.engine
        return self.fresh and self.running and not (engine.sagas or engine.journal.busy or engine.pool.running)

    def clear(self) -> None:
        """Forgets what the last run has left: a run has to go the same way whatever was played before it."""
        self.clock.ahead = 0.0
        self.engine.timers.clear()
        self.engine.pool.dismiss()
        self.tasks.clear()


@cache
def _unfrozen(options: tuple[str, ...]) -> tuple[str, ...]:
    """Leaves out what freezes a process."""
    return tuple(x for x in options if x not in ("pause before", "pause after", "long pause"))


class SimulatedCoordinator(Coordinator):
    """The real one, told where its time, its threads and its users' functions are."""

    sweeper: Sweeper

    def __init__(self, process: Process, sagas: Sequence[Saga[..., Any]], steps: Sequence[Step[..., Any]]) -> None:
        super().__init__(
            process.fleet.disk, sagas=sagas, steps=steps, clock=process.clock, name=process.name, lease=FOREVER,
            poll=FOREVER, max_running=None,
        )  # fmt: skip
        self._process = process

    def copied_for(self, process: Process) -> SimulatedCoordinator:
        """Makes one for another process with the same code, without looking for the steps around it again."""
        other = copy(self)
        vars(other).update(
            _process=process, _clock=process.clock, _name=process.name, _engine=None, _stack=None, _orders=None
        )
        return other

    @property
    def engine(self) -> Engine:
        """Gives what drives its sagas."""
        return self._running()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """See ``Coordinator``; one that was killed leaves nothing in order, but no body goes on when it is closed."""
        if self._process.alive:
            return await super().__aexit__(kind, error, trace)
        for runtime in [*self.engine.sagas.values()]:
            runtime.discard()
        return None

    def _make_engine(self) -> Engine:
        """See ``Coordinator``."""
        engine = Engine(
            self._store, self._registry, self._clock, codec=None, tracing=self._process.fleet.tracing, threads=1,
            keep_waiting=100, max_running=None, limit_turn=1.0, calls=self._process.calls,
        )  # fmt: skip
        engine.owner = self._process.fleet.tokens.owner()
        engine.journal.has_sessions = self._process.fleet.disk.database is not None
        engine.timers.longest_wait = math.inf
        engine.watching = Watching(self._store, poll=_RARELY)
        engine.attempting.caller = Actor(self._process)
        return engine

    def _tasks(self, engine: Engine, sweeper: Sweeper) -> Iterable[Callable[[], Coroutine[Any, Any, None]]]:
        """See ``Coordinator``.

        What only warns is left out, and so is the heartbeat until it can matter: when a process is thawed.
        """
        self.sweeper = sweeper
        yield from (engine.journal.run, engine.pool.run, engine.timers.run, sweeper.run)
        if any(x.options.limit or (x.undo and x.undo.limit) for x in self._registry.steps.values()):
            yield engine.limits.run
