"""What a measurement needs of a system that runs sagas."""

from __future__ import annotations

from typing import Any, Protocol

from benchmarks.model import Case


class Runner(Protocol):
    """A running system on one SQLite file."""

    completed_query: str
    """SQL that counts the completed sagas in the system's database."""

    async def run(self, case: Case, saga_id: str) -> None:
        """Runs one five-step saga to its end, checking that it is the end that `case` names."""

    async def start(self, saga_id: str) -> None:
        """Starts a five-step saga that will complete, without waiting for it."""

    async def park(self, saga_id: str) -> None:
        """Starts a saga that does one step and then waits for a signal that nobody sends."""

    async def parked(self) -> int:
        """How many of those wait by now."""

    async def facts(self) -> dict[str, Any]:
        """Whatever else a reader of the numbers ought to know."""
