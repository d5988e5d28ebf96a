"""Plays a run: whoever asks for the saga, sends it signals, operates it, and restarts what has died."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sagas.coordinator.handles import outcome
from sagas.errors import CoordinatorClosed, SagaCompensated, SagaError, SagaStuck
from sagas.testing.faults import SIGNAL, START
from sagas.testing.simulation.answers import example_of
from sagas.testing.simulation.fleet import Endless
from sagas.testing.simulation.stage import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from sagas.core.execution import Execution
    from sagas.core.operations import SagaCall
    from sagas.testing.simulation.fleet import Fleet
    from sagas.testing.simulation.process import Process
    from sagas.testing.simulation.stage import Stage

__all__ = ["SAGA_ID", "play"]

SAGA_ID = "saga"
_MOST_MOVES = 400
_MOST_RETRIES = 3
# So many rounds of waiting somebody looks on while what is tried without end is broken, and then repairs it.
_PATIENCE = 100
_ENDS = ("completed", "compensated")
_GOES_ON = "a deploy goes on with what is open"


def play(fleet: Fleet, stage: Stage, call: SagaCall[Any], answer: Callable[[str, Execution], object]) -> None:
    """Plays a run to its end.

    Args:
        fleet: Where.
        stage: Takes down what happens.
        call: The saga.
        answer: Gives the payload of the next signal, by its name and the execution that waits for it.
    """
    player = _Player(fleet, stage, call, answer)
    try:
        for number in range(_MOST_MOVES):
            if number and number % _PATIENCE == 0:
                player.repair()
            fleet.settle()
            if not player.move():
                return
    except Endless:
        stage.problems.append(("it terminates", "something goes on and on, and no time passes"))
        return
    stage.problems.append(
        ("it terminates", f"it has not ended after {_MOST_MOVES} rounds of waiting, and {player.waits()}")
    )


class _Player:
    """See ``play``."""

    def __init__(
        self, fleet: Fleet, stage: Stage, call: SagaCall[Any], answer: Callable[[str, Execution], object]
    ) -> None:
        self._fleet = fleet
        self._stage = stage
        self._call = call
        self._answer = answer
        self._caller: Process | None = None
        self._told = False
        self._over = False
        self._nudged: tuple[object, ...] = ()
        self._fetched: tuple[int, str] | None = None
        self._withheld: set[str] = set()
        self._retries = 0
        self._operated: tuple[int, float] | None = None
        self._cancelled = False
        self._early = [x for x in stage.faults if x.what == "early"]

    def move(self) -> bool:
        """Does what has to be done next, once everybody waits; says whether there was anything."""
        fleet = self._fleet
        if fleet.orders:
            self._carry_out()
            return True
        host = fleet.host
        if host is None:
            fleet.start()
            return True
        if not self._over and (self._caller is None or not self._caller.running or self._told):
            if (self._told or self._stuck()) and (self._nudge() or self._note_order()):
                return True
            if self._stuck():
                return self._operate(host)
            self._ask(host)
            return True
        if not self._over and (self._nudge() or self._note_order() or self._signal(host)):
            return True
        if self._over:
            return self._thaw() or self._deliver(host)
        return self._wait() or self._thaw() or self._cancel(host) or self._fetch(host) or self._give_up(host)

    # --- whoever asks for the saga ------------------------------------------------------------------------------

    def _ask(self, host: Process) -> None:
        """Asks for the saga, or again for its end."""
        first, self._told = self._caller is None, False
        self._caller = host
        what = [x.what for x in self._stage.visit("start", START)] if first else ()
        for _ in range(2 if "twice" in what else 1):
            host.spawn(self._await_end(host))
        if "another" in what:
            host.spawn(self._ask_for_another(host))
        for fault in self._early:
            self._stage.fired.append(fault)
            host.spawn(self._send_early(host, fault.at.removeprefix("signal ")))
        self._early = []

    async def _await_end(self, host: Process) -> None:
        """Starts the saga and waits for its end."""
        stage = self._stage
        try:
            if self._fleet.disk.row(SAGA_ID) is None:
                await host.coordinator.start(self._call, id=SAGA_ID)
            status, value = "completed", await outcome(host.engine, self._call.saga, SAGA_ID, None)
        except CoordinatorClosed:
            self._caller = None  # and asks elsewhere
            return
        except SagaCompensated as error:
            status, value = "compensated", error
        except SagaStuck as error:
            status, value = "stuck", error
        self._told = True
        self._over = self._over or status in _ENDS
        stage.reports.append(Report(status, value, len(stage.rows)))
        stage.note(host.name, f"reports: {status}" + (f", {value!r}" if status == "completed" else f": {value}"))

    async def _ask_for_another(self, host: Process) -> None:
        """Asks for a saga with another input by the same id, which has to be refused."""
        for other in _others(self._call):
            try:
                await host.coordinator.start(other, id=SAGA_ID)
            except SagaError as error:
                self._stage.note(host.name, f"refuses {other!r}: {error}")
            else:
                self._stage.problems.append(
                    ("an id stands for one saga", f"{other!r} is taken for {self._call!r}, which has the same id")
                )

    # --- operators ----------------------------------------------------------------------------------------------

    def _stuck(self) -> bool:
        """Says whether the saga waits for an operator."""
        row = self._fleet.disk.row(SAGA_ID)
        return row is not None and row.status == "stuck"

    def _operate(self, host: Process) -> bool:
        """Repairs what is broken and has the saga try again; says whether that may help."""
        seen = (len(self._stage.rows), self._fleet.time.now)
        if seen == self._operated and self._wait():
            return True  # an operator who saw nothing come of an order waits a while before the next
        self._operated = seen
        self._retries += 1
        self._stage.broken.clear()
        self._stage.suffered.clear()
        if self._retries > _MOST_RETRIES + len(self._stage.fired):
            self._stage.problems.append(("an operator can finish it", self._hopeless()))
            return False
        self._stage.note("", "an operator repairs what is broken, and retries")
        if self._fleet.changed and "ReplayDiverged" in self._why():  # the other code cannot go on with it
            self._note_diverged()
            host.spawn(self._try(partial(host.coordinator.cancel, SAGA_ID, reason="deployed"), "cancel"))
        else:
            host.spawn(self._try(partial(host.coordinator.retry, SAGA_ID, by="operator"), "retry"))
        self._told = False
        self._caller = None
        return True

    def _hopeless(self) -> str:
        """Says why no operator can finish it."""
        return (
            "it is stuck, and stays so. An operator repaired all that was broken and had it tried again, "
            f"{self._retries - 1} times, and each time the same came of it: {self._why()}. No fault causes that any "
            "more: the function at that place raises it by itself"
        )

    def _note_diverged(self) -> None:
        """Notes that the code which was deployed cannot go on with what the code before it has begun."""
        how = f"it was begun by the code before the deploy, and the code after it is at odds with that: {self._why()}"
        if not any(law == _GOES_ON for law, _ in self._stage.problems):
            self._stage.problems.append((_GOES_ON, how))

    def repair(self) -> None:
        """Repairs what is broken, though no saga is stuck: it may be tried again for ever."""
        if self._stage.broken:
            self._stage.note("", "somebody repairs what is broken")
            self._stage.broken.clear()

    def _note_order(self) -> bool:
        """Lets time pass until the last order is durable, if the database was away just then."""
        writes = any(x.running and x.engine.journal.busy for x in self._fleet.processes)
        return writes and self._wait()

    def _why(self) -> str:
        """Says why the saga is stuck."""
        row = self._fleet.disk.row(SAGA_ID)
        return str(row.error) if row is not None else "it is not there"

    def _carry_out(self) -> None:
        """Does what was ordered from outside."""
        fleet, host = self._fleet, self._fleet.host
        orders, fleet.orders = fleet.orders, []
        for order in orders:
            if order == "cancel" and host is not None:
                host.spawn(self._try(partial(host.coordinator.cancel, SAGA_ID, reason="simulated"), "cancel"))
            elif order in ("restart", "deploy"):
                if order == "deploy":
                    fleet.deploy()
                if host is not None:
                    self._stage.note(host.name, "the process is asked to stop")
                    host.stop()
                fleet.start()

    async def _try(self, order: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
        """Gives an order; one that makes no sense by now is refused, and that is all."""
        try:
            await order()
        except SagaError as error:
            self._stage.note("", f"{what} is refused: {error}")

    # --- signals ------------------------------------------------------------------------------------------------

    def _execution(self) -> Execution | None:
        """Finds the saga in a process that runs."""
        found = [x.engine.sagas.get(SAGA_ID) for x in self._fleet.processes if x.running]
        return next((x.execution for x in found if x is not None and not x.discarded), None)

    def _signal(self, host: Process) -> bool:
        """Sends the signals that the saga waits for; says whether there was one to send."""
        execution = self._execution()
        awaited = [] if execution is None else [x for x in execution.awaited_signals() if x not in self._withheld]
        for name in awaited:
            assert execution is not None, "it waits"
            what = [x.what for x in self._stage.visit(f"signal {name}", SIGNAL)]
            if "never" in what or "overdue" in what:
                self._stage.note("", f"signal {name}: {what[0]}")
                self._withheld.add(name)
                if "overdue" in what:
                    self._withheld.add(f"until later: {name}")
                continue
            for _ in range(2 if "twice" in what else 1):
                host.spawn(self._send(host, name, execution))
        return bool(awaited)

    def _send(self, host: Process, name: str, execution: Execution) -> Coroutine[Any, Any, None]:
        """Chooses what a signal says; gives what sends it."""
        payload = self._answer(name, execution)
        self._stage.sent[name] = self._stage.sent.get(name, 0) + 1
        self._stage.note("", f"sends signal {name}: {payload!r}")
        return self._try(partial(host.coordinator.signal, SAGA_ID, name, payload), f"signal {name}")

    async def _send_early(self, host: Process, name: str) -> None:
        """Sends a signal as soon as the saga is there."""
        try:
            await host.coordinator.start(self._call, id=SAGA_ID)
        except SagaError:
            return
        execution = self._execution()
        if execution is not None:
            await self._send(host, name, execution)  # at once, or a step could be faster

    # --- time, and processes ------------------------------------------------------------------------------------

    def _nudge(self) -> bool:
        """Tells processes that there is something to look after, once for each time that there is."""
        disk, now = self._fleet.disk, self._fleet.time.now
        row = disk.row(SAGA_ID)
        if row is None:
            return False
        alone = row.ended_at is None and not disk.alive(row.owner, now)
        mail = disk.letters
        state = (len(self._stage.rows), row.owner, row.status, mail, now, tuple(x.name for x in self._fleet.processes))
        if not (alone or mail) or state == self._nudged:
            return False
        self._nudged = state
        for process in self._fleet.processes:
            if process.running:
                process.wake()
        return True

    def _wait(self) -> bool:
        """Lets time pass until something is due; says whether anything is."""
        due = self._fleet.next_timer()
        if due is None:
            return False
        self._fleet.pass_time(due)
        for note in [x for x in self._withheld if x.startswith("until later: ")]:
            self._withheld -= {note, note.removeprefix("until later: ")}
        return True

    def _thaw(self) -> bool:
        """Thaws a process; says whether one was frozen."""
        frozen = self._fleet.frozen
        if not frozen:
            return False
        self._stage.note(frozen[0].name, "the process is thawed")
        frozen[0].thaw()
        return True

    def _deliver(self, host: Process) -> bool:
        """Has a request arrive that was on its way for long; says whether there was one."""
        if not self._fleet.delayed:
            return False
        context, request = self._fleet.delayed.pop(0)
        self._stage.note("", "a request arrives that was given up long ago")
        host.spawn(_arrive(request), context)
        return True

    def _cancel(self, host: Process) -> bool:
        """Ends a saga that waits for something that never comes."""
        execution = self._execution()
        if self._cancelled or execution is None or not execution.awaited_signals():
            return False
        self._cancelled = True
        self._stage.note("", "nothing comes any more, so somebody cancels the saga")
        host.spawn(
            self._try(partial(host.coordinator.cancel, SAGA_ID, reason="what it waited for never came"), "cancel")
        )
        return True

    def _fetch(self, host: Process) -> bool:
        """Has a saga looked for that nobody drives, since it waits for a signal alone: who sends one does the same."""
        row, state = self._fleet.disk.row(SAGA_ID), (len(self._stage.rows), host.name)
        waits = row is not None and row.ended_at is None and not row.active and row.wake_at is None
        if not waits or self._stuck() or self._execution() is not None or state == self._fetched:
            return False
        self._fetched = state
        host.engine.want(SAGA_ID)
        return True

    def _give_up(self, host: Process) -> bool:
        """Notes that the saga waits for nothing that could come."""
        if self._stuck():
            return self._operate(host)
        self._stage.problems.append(("it terminates", f"nothing is left to happen, and {self.waits()}"))
        return False

    def waits(self) -> str:
        """Says what a saga waits for that does not end."""
        execution = self._execution()
        if execution is not None:
            return f"it waits for {_wants(execution)}"
        deployed = ": is there code for it after the deploy?" if self._fleet.changed else ""
        return f"no process drives it{deployed}"


async def _arrive(request: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Has a request arrive whose sender has gone, so that nobody hears what comes of it."""
    with suppress(Exception):
        await request()


def _others(call: SagaCall[Any]) -> Iterator[SagaCall[Any]]:
    """Gives a call of the same saga with another input, if one can be made up."""
    schema, hints = call.saga.arguments_schema, call.saga.parameters.hints()
    given = schema.encode(call.arguments)
    for name in call.arguments:
        try:
            values = example_of(hints.get(name, Any), f"parameter {name}")
            calls = [replace(call, arguments={**call.arguments, name: value}) for value in values]
            other = next((x for x in calls if schema.encode(x.arguments) != given), None)
        except SagaError:
            continue
        if other is not None:
            yield other
            return


def _wants(execution: Execution) -> str:
    """Says what a saga waits for."""
    commands = ", ".join(f"{type(x).__name__} {getattr(x, 'name', '')} {path}" for path, x in execution.open.items())
    timers = ", ".join(execution.timers) or "none"
    return f"{commands or 'nothing'} (timers: {timers}; signals: {', '.join(execution.awaited_signals()) or 'none'})"
