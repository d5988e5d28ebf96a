"""What a journal says was asked for, to hold a replay against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sagas.core import commands as c
from sagas.errors import ReplayDiverged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.core.definitions import Step
    from sagas.core.records import Record

__all__ = ["Recording"]

_ADVICE = "Guard the change with `if await sagas.version(…)`, or deploy the code that fits and resume"


class Recording:
    """The steps, locks and changes that the records of one saga note.

    Args:
        records: The whole journal.
        strict: Whether arguments must be the same too. Otherwise the recorded ones are taken, so that adding a
            field with a default to a model does not stop the sagas that are under way.

    Attributes:
        free: Whether new steps and locks may appear now: the saga halted here, and went on with other code.
    """

    __slots__ = ("_changes", "_emitted", "_freed", "_locks", "_steps", "_strict", "free")

    def __init__(self, records: Iterable[Record], *, strict: bool = False) -> None:
        self._steps: dict[str, c.RunStep] = {}
        self._locks: dict[str, str] = {}
        self._freed: set[str] = set()
        self._changes: set[str] = set()
        self._emitted: set[str] = set()
        self._strict = strict
        self.free = False
        for record in records:
            for command in record.commands:
                if isinstance(command, c.RunStep):
                    self._steps.setdefault(command.path, command)
                elif isinstance(command, c.TakeLock):
                    self._locks[command.path] = command.name
                elif isinstance(command, c.FreeLock):
                    self._freed.add(command.path)
                elif isinstance(command, c.Emit):
                    self._emitted.add(command.path)
                elif isinstance(command, c.MarkVersion):
                    self._changes.add(command.change_id)

    def meet(self, record: Record) -> bool:
        """Takes note of the record that is about to be replayed: a body that fails there for good is held to nothing.

        What it asked for on its way out is not in the journal, since better code may do otherwise.

        Returns:
            Whether it fails there.
        """
        halted = any(isinstance(x, c.Halt) and not x.path for x in record.commands)
        self.free = self.free or halted
        return halted

    def arguments(self, path: str, step: Step[..., Any], arguments: dict[str, object]) -> bytes:
        """Gives the arguments with which a step was called.

        Raises:
            ReplayDiverged: The journal has another step there, or none.
            PayloadError: It has none because the arguments cannot be encoded.
        """
        recorded = self._steps.get(path)
        if recorded is not None and recorded.name == step.name:
            if self._strict and not step.arguments_schema.encodes(arguments, recorded.arguments):
                raise ReplayDiverged(
                    f"the body calls {step.name} with other arguments than the journal says: {arguments!r} instead of "
                    f"{recorded.arguments.decode()}",
                    path=path,
                )
            return recorded.arguments
        self._refuse_other(path, f"calls {step.name}")
        encoded = step.arguments_schema.encode(arguments)
        self._refuse_new(path, f"calls {step.name}")
        return encoded

    def check_lock(self, path: str, name: str) -> None:
        """Makes sure that a lock was asked for at a path.

        Raises:
            ReplayDiverged: The journal has something else there, or nothing.
        """
        if self._locks.get(path) != name:
            self._refuse_other(path, f"takes lock {name!r}")
            self._refuse_new(path, f"takes lock {name!r}")

    def _refuse_other(self, path: str, does: str) -> None:
        """Refuses what differs from the journal.

        Raises:
            ReplayDiverged: The journal has something at this path.
        """
        if path in self._steps:
            raise _diverged(path, f"the journal says step {self._steps[path].name}, the body now {does}")
        if path in self._locks:
            raise _diverged(path, f"the journal says lock {self._locks[path]!r}, the body now {does}")

    def _refuse_new(self, path: str, does: str) -> None:
        """Refuses what the journal does not have.

        Raises:
            ReplayDiverged: The saga did not go on with other code here.
        """
        if not self.free:
            raise _diverged(path, f"the body now {does}, of which the journal knows nothing")

    def has_change(self, change: str) -> bool:
        """Says whether the saga ran with a change."""
        return change in self._changes or self.free

    def knows(self, command: c.Command) -> bool:
        """Says whether the journal notes already what it has to note of a command."""
        match command:
            case c.RunStep():
                return command.path in self._steps
            case c.TakeLock():
                return command.path in self._locks
            case c.FreeLock():
                return command.path in self._freed
            case c.Emit():
                return command.path in self._emitted
            case c.MarkVersion() | c.Complete() | c.Halt():
                return False
            case _:
                return True


def _diverged(path: str, how: str) -> ReplayDiverged:
    """Names the first operation that differs, with the ways out."""
    return ReplayDiverged(how, path=path, advice=_ADVICE)
