"""Calls the user's functions in a simulated process, and makes go wrong what is planned to."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from sagas.context import running_step
from sagas.coordinator.calling import Caller
from sagas.core.definitions import Compensator, Probe, Step
from sagas.errors import Rejected
from sagas.testing.simulation.stage import Call

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sagas.context import StepContext
    from sagas.coordinator.calling import UserFunction
    from sagas.testing.simulation.process import Process

__all__ = ["Actor", "Lost", "plain_rejection"]

# Seconds. An order from outside is given while a call takes so long.
_MEANWHILE = 0.001
_SLOW = 0.5
_LOSES = ("lost reply", "mute")
_NEVER_ANSWERS = ("hangs", "late reply")


class Lost(ConnectionError, TimeoutError):  # noqa: N818 - names what happened
    """The simulated network lost a request or a reply; whoever takes one of these for a refusal sees one."""


class Actor(Caller):
    """See the module.

    Args:
        process: Which process.
    """

    def __init__(self, process: Process) -> None:
        super().__init__(1)
        self._process = process

    async def call(self, target: UserFunction, arguments: Mapping[str, object]) -> Any:
        """See ``Caller.call``."""
        called = cast("Step[..., Any] | Compensator | Probe", target)  # a coordinator calls nothing else
        process, stage = self._process, self._process.fleet.stage
        make = running_step.get()
        assert callable(make), "the coordinator has set it"
        context = make()
        running_step.set(context)  # for the function, which would have it made again
        call, at = _note(called, context, arguments, process)
        found = stage.visit(at, process.may_freeze(stage.options_at(called)))
        process.in_flight += 1
        try:
            if not found and not stage.broken:
                noted = stage.note(process.name, f"calls {at}") if stage.look is not None else 0
                return await self._act(called, call, at, noted)
            stage.note(process.name, f"calls {at}")
            return await self._act_amid(called, call, at, [x.what for x in found])
        finally:
            process.in_flight -= 1

    async def _act(
        self, target: Step[..., Any] | Compensator | Probe, call: Call, at: str, noted: int | None = None
    ) -> Any:
        """Runs the function.

        Args:
            target: What to run.
            call: What is noted of it.
            at: Where, for the story.
            noted: How long the story was when it was called; ``None`` if its end needs a line of its own.
        """
        stage = self._process.fleet.stage
        function = target.function
        if stage.mutation is not None and isinstance(target, Compensator):
            function = stage.mutation(stage, target, call)
        try:
            result = function(**call.arguments)
            if hasattr(result, "__await__"):
                result = await result
        except BaseException as error:
            call.error = error
            if stage.look is not None and isinstance(error, Exception):
                stage.note_end(self._process.name, at, -1, error)
            raise
        call.acted += 1
        if stage.look is not None:
            stage.note_end(self._process.name, at, -1 if noted is None else noted)
        if isinstance(target, Step) and target.options.pivot:
            stage.pivoted = True
        call.result = result
        if stage.watch is not None:
            stage.watch()
        return result

    async def _act_amid(
        self, target: Step[..., Any] | Compensator | Probe, call: Call, at: str, what: list[str]
    ) -> Any:
        """Runs the function while things go wrong."""
        stage = self._process.fleet.stage
        for one in what:
            stage.note("", f"{at}: {one}")
            if one in ("down", "mute"):
                stage.broken[at] = one
        broken = stage.suffer(at)
        if broken is not None and broken not in what:
            what = [*what, broken]
        await self._before(target, call, at, what)
        result = await self._act(target, call, at)
        if "twice" in what:
            first = result
            await self._act(target, call, at)
            result = first
        await self._after(call, at, what)
        return result

    async def _before(self, target: Step[..., Any] | Compensator | Probe, call: Call, at: str, what: list[str]) -> None:
        """Makes go wrong what goes wrong before the function runs."""
        process = self._process
        for one in what:
            if one == "crash before":
                await process.die()
            elif one == "late":
                process.fleet.delayed.append((copy_context(), partial(self._act, target, call, at)))
                raise Lost(f"simulated: the connection to {at} was lost")
            elif one in ("cancel", "restart", "deploy"):
                process.fleet.order(one)
                await anyio.sleep(_MEANWHILE)
            elif one == "slow":
                await anyio.sleep(_SLOW)
        if "rejected" in what:
            call.error = process.fleet.rejection(cast("Step[..., Any]", target))
            raise call.error
        if "error" in what or "down" in what:
            call.error = Lost(f"simulated: the request to {at} was lost")
            raise call.error
        if "hangs" in what:
            await anyio.sleep_forever()

    async def _after(self, call: Call, at: str, what: list[str]) -> None:
        """Makes go wrong what goes wrong when the function has run."""
        process = self._process
        for one in what:
            if one == "crash after":
                await process.die()
            elif one in ("pause after", "long pause"):
                await process.freeze(long=one == "long pause", own=1)
        if any(x in what for x in _LOSES):
            call.error = Lost(f"simulated: the reply of {at} was lost")
            raise call.error
        if "late reply" in what:
            call.error = Lost(f"simulated: {at} never answered")
            await anyio.sleep_forever()


def _note(
    target: Step[..., Any] | Compensator | Probe,
    context: StepContext,
    arguments: Mapping[str, object],
    process: Process,
) -> tuple[Call, str]:
    """Notes a call; says where it is."""
    stage = process.fleet.stage
    step = context.step
    if isinstance(target, Step):
        role, at = "step", step
    elif isinstance(target, Compensator):
        role, at = "undo", f"undo of {step}"
    else:
        role, at = "probe", f"probe of {step}"
    call = Call(role, step, context.path, context.idempotency_key, arguments, process.name, len(stage.rows))
    stage.calls.append(call)
    return call, at


def plain_rejection(step: Step[..., Any]) -> Exception:
    """Makes what a step raises that says that nothing happened."""
    return Rejected(f"simulated: {step.name} refused")
