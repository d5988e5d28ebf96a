"""Runs the commands of sagas: attempts steps and compensators, and tells their sagas how they went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.coordinator.host import Host
from sagas.coordinator.local_invocation import LocalStep, LocalUndo
from sagas.coordinator.remote_invocation import RemoteStep, RemoteUndo
from sagas.core.attempts import Act, Done, Pause, StepAttempts, UndoAttempts
from sagas.core.commands import RunStep, RunUndo

if TYPE_CHECKING:
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.invocation import Invocation
    from sagas.coordinator.journal import Journal
    from sagas.coordinator.limits import Limits
    from sagas.coordinator.routing import Routes
    from sagas.coordinator.runtime import Runtime

__all__ = ["Attempting", "Job"]

Job = tuple["Runtime", RunStep | RunUndo]


class Attempting(Host):
    """Runs the commands of sagas, one job a task.

    Args:
        clock: See ``Host``.
        journal: See ``Host``.
        threads: See ``Host``.
        limits: See ``Host``.
        routes: To the steps that are performed elsewhere.
    """

    def __init__(self, clock: Clock, journal: Journal, threads: int, limits: Limits, *, routes: Routes) -> None:
        super().__init__(clock, journal, threads, limits)
        self.routes = routes

    async def run(self, job: Job) -> None:
        """Attempts a step or an undo until it has an outcome, and feeds the outcome to its saga."""
        runtime, command = job
        runtime.busy += 1
        try:
            if not runtime.discarded:
                await self._attempt(self._invocation(runtime, command), runtime)
        except Exception as error:
            # This saga waits for an operator; the others, and the task that runs their steps, go on.
            runtime.give_up(error)
        finally:
            runtime.busy -= 1

    def _invocation(self, runtime: Runtime, command: RunStep | RunUndo) -> Invocation[Any, Any]:
        """Finds out where a command is performed, and makes what attempts it there."""
        route = self.routes.find(command.name)
        if isinstance(command, RunStep):
            if route is None:
                return LocalStep(self, runtime, command, StepAttempts(command))
            return RemoteStep(self, runtime, command, StepAttempts(command, remote=True), route)
        if route is None:
            return LocalUndo(self, runtime, command, UndoAttempts(command))
        return RemoteUndo(self, runtime, command, UndoAttempts(command), route)

    async def _attempt(self, invocation: Invocation[Any, Any], runtime: Runtime) -> None:
        """Makes attempts until there is an outcome, and feeds that to the saga."""
        try:
            action = invocation.begin()
            while not isinstance(action, Done):
                if isinstance(action, Pause):
                    await self.clock.sleep(action.seconds)
                    action = action.then
                # A process that was paused may hold its sagas no longer; nothing acts before that is known.
                while self.lapsed:
                    await self.lease_renewed.wait()
                if runtime.discarded or (self.closing and invocation.made):
                    return  # whoever goes on finds the command in the journal
                after = await (invocation.act() if isinstance(action, Act) else invocation.ask())
                if after is None:
                    return
                action = after
            if not runtime.discarded and not invocation.fed:
                runtime.feed(action.event, held=invocation.take_held())
        finally:
            invocation.give_up()
