"""The laws bite: each of these deliberate mistakes in the core (or in the host) breaks one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from sagas.core import driver, execution, recording, replay, rollback
from sagas.core import events as e
from sagas.core import operations as o
from sagas.core.fibers import Fiber, Group
from tests.core import host as hosts
from tests.core.host import Story, stories
from tests.core.laws import check

Patch = pytest.MonkeyPatch


def undo_order_flipped(patch: Patch) -> None:
    def ready(self: Any) -> list[str]:
        if self.path is not None:
            return [self.path]
        left = [self.children[index] for index in sorted(self.children) if self.children[index].left]
        return [path for child in (left if self.side_by_side else left[:1]) for path in child.ready()]

    patch.setattr(rollback._Node, "ready", ready)


def doubt_taken_for_rejection(patch: Patch) -> None:
    def ended(self: execution.Execution, event: e.StepInDoubt) -> None:
        self._step_ended(e.StepRejected(event.path, event.error, event.attempts))

    patch.setitem(execution._REACTIONS, e.StepInDoubt, ended)


def replay_not_checked(patch: Patch) -> None:
    def arguments(self: recording.Recording, path: str, step: Any, arguments: dict[str, object]) -> bytes:
        return step.arguments_schema.encode(arguments)  # type: ignore[no-any-return]  # of any step

    patch.setattr(recording.Recording, "arguments", arguments)
    patch.setattr(replay, "_check", lambda *_: None)


def dispatched_before_durable(patch: Patch) -> None:
    def commit(self: hosts.Host, event: e.Event, at: float, given: list[Any]) -> None:
        self._dispatch(given)
        self._write(event, at, given)

    patch.setattr(hosts.Host, "commit", commit)


def fencing_dropped(patch: Patch) -> None:
    patch.setattr(hosts.Journal, "_fence", lambda *_: None)


def pivot_ignored(patch: Patch) -> None:
    patch.setattr(execution.Execution, "_pivot", lambda *_: None)


def siblings_not_stopped(patch: Patch) -> None:
    def decide(self: driver.Driver, group: Group) -> None:
        group.decided = True
        group.more = []

    patch.setattr(driver.Driver, "_decide", decide)


def scope_not_undone(patch: Patch) -> None:
    def leave(self: driver.Driver, fiber: Fiber, operation: o.LeaveScope) -> None:
        fiber.leave_scope()

    patch.setitem(driver._BEGINNINGS, o.LeaveScope, leave)


def stopped_scope_not_undone(patch: Patch) -> None:
    patch.setattr(Fiber, "unfinished", None)


def losers_not_undone(patch: Patch) -> None:
    patch.setattr(execution.Execution, "_unwind_losers", lambda *_: False)


def signal_received_twice(patch: Patch) -> None:
    begin = driver.Driver._begin_receive

    def receive(self: driver.Driver, fiber: Fiber, operation: o.Receive[object]) -> object:
        queue = self._signals.get(operation.name) if self._signals else None
        if queue:
            queue.append(queue[0])
        return begin(self, fiber, operation)

    patch.setitem(driver._BEGINNINGS, o.Receive, receive)


def undo_forgotten(patch: Patch) -> None:
    def unwind(self: Any, entries: Any, fiber: Any, value: object, error: Any) -> bool:
        return original(self, [x for x in entries if x.path[-1] != "2"], fiber, value, error)

    original: Callable[..., bool] = execution.Execution._unwind_entries
    patch.setattr(execution.Execution, "_unwind_entries", unwind)


MUTANTS = {
    undo_order_flipped: {"undo in reverse causal order"},
    doubt_taken_for_rejection: {"every step that may have acted is undone"},
    replay_not_checked: {"a changed body is refused"},
    dispatched_before_durable: {"nothing is begun before it is durable"},
    fencing_dropped: {"an old owner is fenced"},
    pivot_ignored: {"nothing before a pivot is undone", "a pivoted saga goes forward"},
    siblings_not_stopped: {"no new step in the siblings of a failure"},
    scope_not_undone: {"a failed scope is undone"},
    stopped_scope_not_undone: {"a scope is done or undone"},
    losers_not_undone: {"the losers of a race are undone"},
    signal_received_twice: {"a signal is received once"},
    undo_forgotten: {"every step that may have acted is undone"},
}


def hunt(examples: int = 250) -> str | None:
    """Gives the name of a law that random sagas break now; the same sagas in every run."""

    @seed(20261123)
    @settings(
        max_examples=examples,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @given(story=stories())
    def attempt(story: Story) -> None:
        check(story)

    try:
        attempt()
    except Exception as error:  # noqa: BLE001 - a mutant may break anything
        return getattr(error, "law", type(error).__name__)
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """By some law, in a bounded search."""
    mutant(monkeypatch)
    law = hunt()
    print(f"{mutant.__name__}: {law}")
    assert law is not None


def test_without_a_mutant_nothing_is_caught() -> None:
    """The same search finds nothing wrong with the core as it is."""
    assert hunt(60) is None
