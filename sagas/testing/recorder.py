"""What is remembered of the runs of an unbroken saga, and the place in which it is broken."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from sagas.testing.contents import contents_of
from sagas.testing.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sagas.core.definitions import Compensator, Saga
    from sagas.testing.breaking import Breakage
    from sagas.testing.contents import Contents
    from sagas.testing.options import Options
    from sagas.testing.runs import Run, Scenario
    from sagas.testing.simulation.stage import Call, Stage

__all__ = ["Camera", "Played", "Recorder", "Switch", "Undone"]

_SAMPLES = 10


class Camera:
    """Takes a picture of the world at the end of each run, as an invariant that always holds.

    Args:
        contents: See ``mutate``.
    """

    def __init__(self, contents: Callable[[Any], Any] | None) -> None:
        self._contents = contents
        self.on = False
        self.picture: Contents | None = None

    def __call__(self, world: Any) -> None:
        """See ``Simulator``: an invariant."""
        if self.on:
            self.picture = contents_of(self._contents(world) if self._contents is not None else world)


class Switch:
    """Holds the breakage that is tried now."""

    def __init__(self) -> None:
        self.breakage: Breakage | None = None

    def __call__(self, stage: Stage, target: Compensator, call: Call) -> Callable[..., Any]:
        """See ``Simulator``: the mutation."""
        return target.function if self.breakage is None else self.breakage(stage, target, call)


class Undone(NamedTuple):
    """A step that was undone in a run.

    Attributes:
        step: Its name.
        path: Its place.
        state: What was known of it: whether it had a result, and whether it had acted.
    """

    step: str
    path: str
    state: tuple[bool, bool]


class Played(NamedTuple):
    """A run of the unbroken saga.

    Attributes:
        scenario: What it was played from.
        undone: What was undone in it, in order.
    """

    scenario: Scenario
    undone: tuple[Undone, ...]


class Recorder(Simulator):
    """Remembers in which of its runs what was undone, and with which arguments."""

    def __init__(
        self, saga: Saga[..., Any], *, mutation: Callable[..., Any] | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(saga, mutation=mutation, **options)
        self.played: list[Played] = []
        self.samples: dict[str, list[Mapping[str, object]]] = defaultdict(list)
        self.called: set[str] = set()

    def run(self, scenario: Scenario, *, watch: bool = False) -> Run:
        """See ``Simulator``."""
        run = super().run(scenario, watch=watch)
        if not run.broken:
            self.played.append(Played(scenario, tuple(_undone_in(run))))
        for call in run.calls:
            self.called.add(call.step)
            if call.role == "undo" and len(self.samples[call.step]) < _SAMPLES:
                self.samples[call.step].append(call.arguments)
        return run


def _undone_in(run: Run) -> Iterator[Undone]:
    """Lists what was undone in a run."""
    known = {getattr(x.event, "path", "") for x in run.records if type(x.event).__name__ == "StepSucceeded"}
    acted = {x.path for x in run.calls if x.role == "step" and x.acted}
    paths: set[str] = set()
    for call in run.calls:
        if call.role == "undo" and call.path not in paths:
            paths.add(call.path)
            yield Undone(call.step, call.path, (call.path in known, call.path in acted))
