"""Real coordinators for tests: several may share a store, and a clock that the test sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.coordinator import Coordinator
from sagas.coordinator.codeless import CodeWatch
from sagas.testing.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType
    from typing import Self

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.engine import Engine
    from sagas.coordinator.sweeper import Sweeper
    from sagas.stores import Store

__all__ = ["Hosted", "Hosting"]

# Seconds. A clock that is set ahead by days must not make anybody believe that a coordinator is dead.
_LONG_LEASE = 1e9


class Hosting:
    """Makes coordinators on one store: ``async with coordinator(sagas=[place_order]) as c: …``.

    Args:
        store: As for ``Coordinator``.
        clock: What they live by; real time if ``None``.
    """

    def __init__(self, store: str | Store, clock: VirtualClock | None = None) -> None:
        self.store = store
        self._clock = clock

    def __call__(self, **options: Any) -> Coordinator:
        """Makes one; the options are those of ``Coordinator``, without the store."""
        clock = options.pop("clock", self._clock)
        if not isinstance(clock, VirtualClock):
            return Coordinator(self.store, clock=clock, **options)
        return Hosted(self.store, clock=clock, **{"lease": _LONG_LEASE, **options})


class Hosted(Coordinator):
    """A coordinator that looks at once when its clock is set.

    Args:
        store: As for ``Coordinator``.
        clock: What it lives by.
        **options: As for ``Coordinator``.
    """

    def __init__(self, store: str | Store, *, clock: VirtualClock, **options: Any) -> None:
        super().__init__(store, clock=clock, **options)
        self._virtual = clock
        self._pauses = _Pauses(clock)
        self._looked: Sweeper

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._virtual.attach(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._virtual.detach(self)
        return await super().__aexit__(kind, error, trace)

    def look(self) -> None:
        """See ``Sleeper``."""
        engine = self._running()
        engine.timers.look()
        self._looked.look()

    def due(self) -> float | None:
        """See ``Sleeper``."""
        return self._running().timers.due

    def busy(self) -> str:
        """See ``Sleeper``."""
        engine = self._running()
        due, calls = engine.timers.due, engine.pool.running - self._pauses.count
        doing = {
            f"{calls} steps run": calls > 0,
            "the journal is written": engine.journal.busy,
            "timers fire": due is not None and due <= self._virtual.now(),
            "sagas are loaded": bool(engine.overdue or engine.wanted),
        }
        return ", ".join(what for what, so in doing.items() if so)

    def _make_engine(self) -> Engine:
        """See ``Coordinator``."""
        engine = super()._make_engine()
        engine.attempting.clock = self._pauses
        return engine

    def _tasks(self, engine: Engine, sweeper: Sweeper) -> Iterable[Callable[[], Coroutine[Any, Any, None]]]:
        """See ``Coordinator``: nobody reads the warnings that follow a look every few seconds."""
        self._looked = sweeper
        for task in super()._tasks(engine, sweeper):
            if not isinstance(getattr(task, "__self__", None), CodeWatch):
                yield task


class _Pauses:
    """The same clock, which counts those who sleep by it.

    Args:
        clock: The clock.
    """

    def __init__(self, clock: Clock) -> None:
        self.now = clock.now
        self.steady = clock.steady
        self.chance = clock.chance
        self.token = clock.token
        self._clock = clock
        self.count = 0

    async def sleep(self, seconds: float) -> None:
        """See ``Clock.sleep``."""
        self.count += 1
        try:
            await self._clock.sleep(seconds)
        finally:
            self.count -= 1
