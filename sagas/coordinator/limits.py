"""The limits that hold for the attempts of a coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

from sagas.coordinator.gates import ProcessGate
from sagas.coordinator.store_gate import StoreGate
from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sagas.coordinator.clock import Clock
    from sagas.coordinator.gates import Gate
    from sagas.coordinator.runtime import Runtime
    from sagas.coordinator.store_gate import Counter
    from sagas.core.definitions import Step
    from sagas.core.limits import Limit

__all__ = ["Limits", "check_limits"]


class Limits:
    """Makes gates as they are needed, and looks after them.

    Args:
        clock: Time and chance.
        counter: Where the permits of limits across processes come from.
        turn: See ``StoreGate``.
    """

    def __init__(self, clock: Clock, counter: Counter, turn: float) -> None:
        self._clock = clock
        self._counter = counter
        self._turn = turn
        self._gates: dict[str, Gate] = {}
        self._new: list[Gate] = []
        self._wanted = anyio.Event()
        self._closed = False

    def gate(self, own: str, limit: Limit) -> Gate:
        """Gives the gate of a limit; ``own`` names it if it has no name."""
        name = limit.name or own
        found = self._gates.get(name)
        return self._make(name, limit) if found is None else found

    def _make(self, name: str, limit: Limit) -> Gate:
        """Makes a gate."""
        gate: Gate
        if limit.across == "store":
            gate = StoreGate(name, limit, self._clock, self._counter, self._turn)
        else:
            gate = ProcessGate(limit, self._clock)
        self._gates[name] = gate
        self._new.append(gate)
        self._wanted.set()
        if self._closed:
            gate.close()
        return gate

    async def run(self) -> None:
        """Looks after the gates, for ever.

        Here and nowhere else, so that no gate's task inherits the context variables of a step.
        """
        async with anyio.create_task_group() as group:
            while True:
                while self._new:
                    group.start_soon(self._new.pop().run)
                await self._wanted.wait()
                self._wanted = anyio.Event()

    async def enter(self, gate: Gate, runtime: Runtime, path: str | None, within: float | None) -> bool:
        """Waits until an attempt may begin.

        Args:
            gate: Of its limit.
            runtime: Its saga, by whose rank it waits, and which may stop it.
            path: Of a step that the saga may no longer want attempted; ``None`` for an undo.
            within: Seconds, at most.

        Returns:
            Whether it may. ``gate.leave`` has to follow then.
        """
        if gate.enter():
            return True
        ticket = gate.join(runtime.rank)
        tickets = runtime.tickets = runtime.tickets or {}
        tickets[ticket] = path
        try:
            return await gate.wait(ticket, within)
        finally:
            del tickets[ticket]

    def hear(self, messages: Sequence[str] | None) -> None:
        """Takes what others announce: that they have given back permits of a limit."""
        for message in messages or ():
            kind, _, name = message.partition(":")
            gate = self._gates.get(name)
            if kind == "limit" and isinstance(gate, StoreGate):
                gate.heard()

    async def recount(self) -> None:
        """Called after this process's lease had lapsed: others may have taken its permits."""
        gates = {name: gate for name, gate in self._gates.items() if isinstance(gate, StoreGate)}
        if gates:
            counter = self._counter
            kept = await counter.in_thread(counter.store.keep_permits, counter.owner, self._clock.now())
            for name, gate in gates.items():
                gate.recounted(kept.get(name, 0))

    def close(self) -> None:
        """Turns away whoever waits."""
        self._closed = True
        for gate in self._gates.values():
            gate.close()


def check_limits(steps: Iterable[Step[..., Any]]) -> None:
    """Refuses limits of the same name that differ.

    Raises:
        DeclarationError: See above.
    """
    known: dict[str, tuple[Limit, str]] = {}
    for limit, where in _limits_of(steps):
        if limit.name is None:
            continue
        other, there = known.setdefault(limit.name, (limit, where))
        if other != limit:
            raise DeclarationError(
                f"{there} and {where} share the limit {limit.name!r}, but one says {other} and the other {limit}; "
                "make one Limit and give it to both"
            )


def _limits_of(steps: Iterable[Step[..., Any]]) -> Iterator[tuple[Limit, str]]:
    """Lists the limits of steps and compensators, and whose they are."""
    for step in steps:
        if step.options.limit is not None:
            yield step.options.limit, step.where
        if step.undo is not None and step.undo.limit is not None:
            yield step.undo.limit, step.undo.parameters.where
