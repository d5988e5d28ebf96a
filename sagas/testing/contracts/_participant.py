"""A participant for contracts of transports: steps, and a note of whatever they did."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from sagas.context import StepContext, current_step
from sagas.core.decorators import step
from sagas.core.definitions import NotApplied, Step
from sagas.errors import Rejected

__all__ = ["OutOfStock", "Participant"]

# Seconds after which a step that is held lets itself go, so that a failed test ends.
_PATIENCE = 30.0


class OutOfStock(Rejected):
    """A business error with data in it."""

    def __init__(self, item: str, left: int) -> None:
        super().__init__(item, left)
        self.item = item
        self.left = left


@dataclass(slots=True)
class Participant:
    """Performs steps, and remembers.

    Attributes:
        acted: Idempotency keys of actions that acted, in order.
        undone: Of compensations that ran: the key that was undone, and the result that was handed over.
        log: Of both, what came after what: keys, the undone ones with ``-`` before them.
        contexts: Of every function that was called.
        held: Whether the step ``hold`` has begun.
        release: Lets it go on.
        stumbles: How often the compensators fail before they work.
        steps: To be served.
    """

    acted: list[str] = field(default_factory=list[str])
    undone: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    log: list[str] = field(default_factory=list[str])
    contexts: list[StepContext] = field(default_factory=list[StepContext])
    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    stumbles: int = 0
    steps: tuple[Step[..., Any], ...] = ()

    def __post_init__(self) -> None:
        """Declares the steps."""
        self.steps = (*_good(self), *_bad(self))

    def act(self) -> str:
        """Notes an action; gives another text each time, so that a repeat shows."""
        context = current_step()
        self.contexts.append(context)
        self.acted.append(context.idempotency_key)
        self.log.append(context.idempotency_key)
        return f"ticket {len(self.acted)}"

    def undo(self, result: str | None) -> None:
        """Notes a compensation."""
        context = current_step()
        self.contexts.append(context)
        if self.stumbles:
            self.stumbles -= 1
            raise OSError("the shelf is locked")
        self.undone.append((context.undoes or "", result))
        self.log.append(f"-{context.undoes}")


def _good(world: Participant) -> tuple[Step[..., Any], ...]:
    """Declares steps that succeed."""

    @step(name="reserve")
    async def reserve(item: str, quantity: int = 1) -> str:  # noqa: ARG001 - what it would be reserved
        return world.act()

    @reserve.compensator
    async def release(item: str, result: str | None) -> None:  # noqa: ARG001 - what was reserved
        world.undo(result)

    @step(name="hold")
    def hold(item: str) -> str:  # noqa: ARG001 - as above
        world.held.set()
        world.release.wait(_PATIENCE)
        return world.act()

    @hold.compensator
    def let_go(result: str | None) -> None:
        world.undo(result)

    @step(name="echo")
    async def echo(text: str, data: bytes) -> tuple[str, bytes]:
        world.act()
        return text, data

    return reserve, hold, echo


def _bad(world: Participant) -> tuple[Step[..., Any], ...]:
    """Declares steps that fail."""

    @step(name="decline")
    async def decline(item: str) -> str:
        world.contexts.append(current_step())
        raise OutOfStock(item, 3)

    @decline.compensator
    async def undecline(result: str | None) -> None:
        world.undo(result)

    @step(name="break_off")
    async def break_off(item: str) -> str:
        world.act()
        raise RuntimeError(f"lost the connection after {item}")

    @break_off.compensator
    async def mend(result: str | None) -> None:
        world.undo(result)

    @break_off.probe
    async def find(item: str) -> str | NotApplied:
        key = current_step().idempotency_key
        return f"found {item}" if key in world.acted else NotApplied()

    @step(name="lose")
    async def lose(item: str) -> str:
        world.act()
        raise RuntimeError(f"lost the connection after {item}")

    @lose.compensator
    async def unlose(result: str | None) -> None:
        world.undo(result)

    @step(name="refuse", atomic=True)
    def refuse(item: str) -> str:
        world.contexts.append(current_step())
        raise ValueError(f"{item} is not to be had")

    return decline, break_off, lose, refuse
