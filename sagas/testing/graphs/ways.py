"""What led to what in one run: forward from step to step, and back from undo to undo.

The order is that of the paths, and not that of the records: what runs side by side fans out and joins.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sagas.core.paths import follows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sagas.testing.graphs.signals import Received
    from sagas.testing.history import History

__all__ = ["START", "Stop", "Way", "Ways"]


class Stop(NamedTuple):
    """Something that happened to a step, or to the saga.

    Attributes:
        kind: See ``collect.Node``.
        name: Of the step.
        place: Its path.
    """

    kind: str
    name: str = ""
    place: str = ""


class Way(NamedTuple):
    """That one thing led to another.

    Attributes:
        source: What led to it.
        target: What it led to.
        kind: See ``collect.Edge``.
    """

    source: Stop
    target: Stop
    kind: str


START = Stop("start")


class Ways:
    """See the module.

    Args:
        history: Of one run.
        signals: Those that its body waited for, and got.
    """

    def __init__(self, history: History, signals: Iterable[Received] = ()) -> None:
        self._history = history
        self._signals: dict[str, str] = {}
        self._gone: set[str] = set()  # signals that came after what was undone since then
        self._outcome: dict[str, str] = {}
        self._doubted: set[str] = set()
        self._order: dict[str, int] = {}
        self._undone: dict[str, int] = {}
        self._cause: list[Way] = []
        self._forward: list[Way] = []
        self._back: list[Way] = []
        waiting = deque(signals)
        for number, moment in enumerate(history.moments):
            while waiting and waiting[0].seq <= moment.seq:
                self._receive(waiting.popleft(), number)
            if moment.what == "asked":
                self._ask(moment.path, number)
            elif moment.what in ("acted", "rejected", "doubt"):
                self._settle(moment.path, moment.what)
            elif moment.what == "undo" and moment.path not in self._undone:
                self._undo(moment.path, number)

        for signal in waiting:
            self._receive(signal, len(history.moments))

    def forward(self) -> Iterator[Way]:
        """Lists the ways from step to step, and to what is in doubt."""
        yield from self._forward

    def back(self) -> Iterator[Way]:
        """Lists the ways that undo took."""
        yield from self._back

    def halts(self, paths: Iterable[str]) -> Iterator[Way]:
        """Lists the ways to where an operator was needed."""
        for path in paths:
            if path in self._undone:
                source = self._stop("undo", path)
            elif path in self._order:
                source = self._stop("doubt", path) if path in self._doubted else self._own(path)
            else:  # the body itself, which is where its last steps had led to
                yield from (
                    Way(x.source, Stop("stuck"), "stuck") for x in self._leads(self._last(self._left()), "stuck")
                )
                continue
            yield Way(source, Stop("stuck"), "stuck")

    def ends(self, status: str) -> Iterator[Way]:
        """Lists the ways to the end."""
        target = Stop(status)
        if status == "compensated":
            first = self._first(self._undone)
            yield from (Way(self._stop("undo", path), target, "undo") for path in first)
            if not first:
                yield from (x._replace(target=target) for x in self._why())
            return
        yield from (x._replace(target=target) for x in self._leads(self._last(self._left()), "next"))

    # --- reading ------------------------------------------------------------------------------------------------

    def _ask(self, path: str, number: int) -> None:
        """Notes that a step is called, and what led to that."""
        if path in self._order:
            return
        self._cause = []  # whatever failed before was caught
        before = [x for x in self._left() if follows(path, x)]
        target = self._own(path)
        self._forward += [x._replace(target=target) for x in self._leads(self._last(before), "next")]
        self._order[path] = number

    def _receive(self, signal: Received, number: int) -> None:
        """Notes that a signal came, as a step that has acted."""
        self._signals[signal.path] = f"signal {signal.name}"
        self._ask(signal.path, number)
        self._outcome[signal.path] = "acted"

    def _settle(self, path: str, what: str) -> None:
        """Notes how a step ended."""
        if path not in self._order:
            return
        self._outcome[path] = what
        step, doubt = self._stop("step", path), self._stop("doubt", path)
        if what == "doubt":
            self._doubted.add(path)
            self._forward.append(Way(step, doubt, "doubt"))
            self._cause = self._cause or [Way(doubt, doubt, "undo")]
        elif what == "rejected":
            self._cause = self._cause or [Way(step, step, "failed")]

    def _undo(self, path: str, number: int) -> None:
        """Notes that a step is undone, and what led to that."""
        target = self._stop("undo", path)
        after = self._first([x for x in self._undone if follows(x, path)])
        if self._outcome.get(path) == "doubt" and not after:
            self._back.append(Way(self._stop("doubt", path), target, "undo"))
        elif after:
            self._back += [Way(self._stop("undo", x), target, "undo") for x in after]
        else:
            self._back += [x._replace(target=target) for x in self._why(path)]
        self._undone[path] = number
        self._gone |= {x for x in self._signals if follows(x, path)}

    def _why(self, path: str = "") -> list[Way]:
        """Gives the ways from what went wrong; from the last steps, if it was none of them: a cancel, or a timeout."""
        last = self._last([x for x in self._order if x not in self._undone])
        return self._cause or self._leads([path] if path in last else last, "undo")

    def _leads(self, paths: Iterable[str], kind: str) -> list[Way]:
        """Gives the ways from where steps stand now."""
        ways: list[Way] = []
        for path in paths:
            outcome = self._outcome.get(path, "acted")
            if path in self._undone:
                found = Way(self._stop("undo", path), START, kind)
            elif outcome == "doubt":
                found = Way(self._stop("doubt", path), START, kind)
            else:
                found = Way(self._own(path), START, "failed" if outcome == "rejected" else kind)
            ways.append(found)
        return ways or [Way(START, START, kind)]

    def _left(self) -> list[str]:
        """Lists all steps, and those signals before which nothing was undone since."""
        return [x for x in self._order if x not in self._gone]

    def _last(self, paths: Iterable[str]) -> list[str]:
        """Lists the steps that none of the others follows; of those that are undone, where their undo has ended."""
        all_of_them = list(paths)
        undone = [x for x in all_of_them if x in self._undone]
        end = self._first(undone)
        left = [x for x in all_of_them if x not in self._undone] + end
        return _extreme(left, lambda one, other: follows(other, one))

    @staticmethod
    def _first(paths: Iterable[str]) -> list[str]:
        """Lists the steps that follow none of the others."""
        return _extreme(list(paths), follows)

    def _own(self, path: str) -> Stop:
        """Names a step, or a signal, as such."""
        name = self._signals.get(path)
        return self._stop("step", path) if name is None else Stop("signal", name, path)

    def _stop(self, kind: str, path: str) -> Stop:
        """Names what happened to a step."""
        return Stop(kind, self._history.asked[path].name, path)


def _extreme(paths: list[str], beaten: Callable[[str, str], bool]) -> list[str]:
    """Lists those that none of the others beats."""
    return [x for x in paths if not any(beaten(x, other) for other in paths if other != x)]
