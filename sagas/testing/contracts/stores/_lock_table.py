"""The rules of locks among sagas, as small as they can be written down: what every store has to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["LockTable"]


@dataclass
class LockTable:
    """Who stands in line for which lock: the first in a line holds it.

    Attributes:
        lines: By name: the sagas in line, each with the path that names its ticket.
        refused: Tickets that were not taken, as (saga, path).
    """

    lines: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    refused: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def take(self, saga: str, name: str, path: str) -> None:
        """Puts a saga into a line; if that closed a circle of waiters, it is refused."""
        line = self.lines.setdefault(name, {})
        if saga in line:
            return
        line[saga] = path
        if saga in self._reachable(saga):
            self._leave(saga, name)
            self.refused.add((saga, path))

    def free(self, saga: str, name: str, path: str) -> None:
        """Takes a ticket out of its line."""
        if self.lines.get(name, {}).get(saga) == path:
            self._leave(saga, name)

    def end(self, saga: str) -> None:
        """Takes a saga out of every line."""
        for name in list(self.lines):
            if saga in self.lines[name]:
                self._leave(saga, name)

    def holder(self, name: str) -> str | None:
        """The first in a line."""
        return next(iter(self.lines.get(name, {})), None)

    def held(self) -> set[tuple[str, str, str]]:
        """Every lock that is held, as (name, saga, path)."""
        return {(name, *next(iter(line.items()))) for name, line in self.lines.items() if line}

    def _leave(self, saga: str, name: str) -> None:
        del self.lines[name][saga]
        if not self.lines[name]:
            del self.lines[name]

    def _ahead(self, saga: str) -> Iterator[str]:
        """Everybody before a saga in a line."""
        for line in self.lines.values():
            if saga in line:
                yield from list(line)[: list(line).index(saga)]

    def _reachable(self, saga: str) -> set[str]:
        """Everybody whom a saga waits for, directly or not."""
        found: set[str] = set()
        todo = list(self._ahead(saga))
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self._ahead(one)
        return found
