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
    """The steps and changes that the records of one saga note.

    Args:
        records: The whole journal.
        strict: Whether arguments must be the same too. Otherwise the recorded ones are taken, so that adding a
            field with a default to a model does not stop the sagas that are under way.

    Attributes:
        free: Whether new steps may appear now: the saga halted here, and went on with other code.
    """

    __slots__ = ("_changes", "_steps", "_strict", "free")

    def __init__(self, records: Iterable[Record], *, strict: bool = False) -> None:
        self._steps: dict[str, c.RunStep] = {}
        self._changes: set[str] = set()
        self._strict = strict
        self.free = False
        for record in records:
            for command in record.commands:
                if isinstance(command, c.RunStep):
                    self._steps.setdefault(command.path, command)
                elif isinstance(command, c.MarkVersion):
                    self._changes.add(command.change_id)

    def arguments(self, path: str, step: Step[..., Any], arguments: dict[str, object]) -> bytes:
        """Gives the arguments with which a step was called.

        Raises:
            ReplayDiverged: The journal has another step there, or none.
            PayloadError: It has none because the arguments cannot be encoded.
        """
        recorded = self._steps.get(path)
        if recorded is not None and recorded.name == step.name:
            if self._strict and step.arguments_schema.encode(arguments) != recorded.arguments:
                raise ReplayDiverged(
                    f"the body calls {step.name} with other arguments than the journal says: {arguments!r} instead of "
                    f"{recorded.arguments.decode()}",
                    path=path,
                )
            return recorded.arguments
        if recorded is not None:
            raise ReplayDiverged(
                f"the journal says step {recorded.name}, the body now calls {step.name}", path=path, advice=_ADVICE
            )
        encoded = step.arguments_schema.encode(arguments)
        if not self.free:
            raise ReplayDiverged(
                f"the body now calls step {step.name}, of which the journal knows nothing", path=path, advice=_ADVICE
            )
        return encoded

    def has_change(self, change: str) -> bool:
        """Says whether the saga ran with a change."""
        return change in self._changes or self.free

    def knows(self, command: c.Command) -> bool:
        """Says whether the journal notes a step already."""
        return not isinstance(command, (c.RunStep, c.MarkVersion, c.Complete, c.Halt)) or (
            isinstance(command, c.RunStep) and command.path in self._steps
        )
