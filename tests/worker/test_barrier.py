"""The barrier alone, without a database: what comes in, in any order, breaks no law; and each law can be broken."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sagas.transport import StepReply
from sagas.worker import barrier
from tests.worker.barrier_laws import explore

_EVERYTHING = os.environ.get("SAGAS_TEST_EVERYTHING") == "1"

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]


def test_whatever_comes_in_breaks_no_law() -> None:
    assert explore(7 if _EVERYTHING else 5) is None


# --- each a barrier that is wrong in one way ------------------------------------------------------------------------


def _changes_admission(patch: Patch, change: Callable[[Any, Any, Any], Any]) -> None:
    original = barrier.admit

    def admit(request: Any, memory: Any, **options: Any) -> Any:
        return change(request, memory, original(request, memory, **options))

    patch.setattr(barrier, "admit", admit)


def _changes_memory(patch: Patch, change: Callable[[Any, Any], Any]) -> None:
    original = barrier.admit
    patch.setattr(barrier, "admit", lambda request, memory, **options: original(
        request, change(request, memory), **options
    ))  # fmt: skip


def _changes_settlement(patch: Patch, change: Callable[[Any, Any, Any], Any]) -> None:
    original = barrier.settle

    def settle(request: Any, reply: Any, *, doubt: bool) -> Any:
        return change(request, reply, original(request, reply, doubt=doubt))

    patch.setattr(barrier, "settle", settle)


def undo_without_an_action_forgets_it(patch: Patch) -> None:
    _changes_admission(patch, lambda request, memory, found: replace(
        found, entries=tuple(x for x in found.entries if x.kind == request.kind)
    ))  # fmt: skip


def undo_of_nothing_is_performed(patch: Patch) -> None:
    _changes_admission(patch, lambda request, memory, found: replace(
        found, reply=None if request.kind == "undo" and not memory else found.reply
    ))  # fmt: skip


def fence_is_not_seen(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: entry for kind, entry in memory.items() if entry.state != "fenced"
    })  # fmt: skip


def undo_overtakes_what_is_at_work(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: replace(entry, owner="") if request.kind == "undo" else entry for kind, entry in memory.items()
    })  # fmt: skip


def whoever_is_at_work_is_thought_dead(patch: Patch) -> None:
    original = barrier.admit
    patch.setattr(barrier, "admit", lambda request, memory, *, owner, alive: original(
        request, memory, owner=owner, alive=lambda _: False
    ))  # fmt: skip


def whoever_died_is_thought_at_work_by_probes(patch: Patch) -> None:
    original = barrier.known_of
    patch.setattr(barrier, "known_of", lambda memory, *, alive: original(memory, alive=lambda _: True))


def doubt_is_not_told(patch: Patch) -> None:
    _changes_admission(patch, lambda request, memory, found: replace(found, doubt=False))


def doubt_is_forgotten_by_a_rejection(patch: Patch) -> None:
    original = barrier.settle
    patch.setattr(barrier, "settle", lambda request, reply, *, doubt: original(request, reply, doubt=False))


def doubt_is_taken_for_nothing(patch: Patch) -> None:
    _changes_settlement(patch, lambda request, reply, found: (
        found[0], replace(found[1], state="open" if found[1].state == "begun" else found[1].state)
    ))  # fmt: skip


def results_are_not_remembered(patch: Patch) -> None:
    _changes_settlement(patch, lambda request, reply, found: (
        found[0], replace(found[1], state="open", reply=None) if reply.outcome == "succeeded" else found[1]
    ))  # fmt: skip


def rejections_are_not_remembered(patch: Patch) -> None:
    _changes_settlement(patch, lambda request, reply, found: (
        found[0], replace(found[1], state="open", reply=None) if reply.outcome == "rejected" else found[1]
    ))  # fmt: skip


def another_result_is_told_than_remembered(patch: Patch) -> None:
    _changes_settlement(patch, lambda request, reply, found: (
        found[0], replace(found[1], reply=StepReply.succeeded(b"0")) if found[1].reply else found[1]
    ))  # fmt: skip


def other_requests_are_not_told_apart(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: replace(entry, fingerprint=b"", step=request.step) for kind, entry in memory.items()
    })  # fmt: skip


def other_steps_are_not_told_apart(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: replace(entry, step=request.step) for kind, entry in memory.items()
    })  # fmt: skip


def a_failed_undo_is_taken_for_done(patch: Patch) -> None:
    _changes_settlement(patch, lambda request, reply, found: (
        (done := StepReply.succeeded(), replace(found[1], state="done", reply=done)) if request.kind == "undo" else
        found
    ))  # fmt: skip


def an_undo_begun_is_taken_for_done(patch: Patch) -> None:
    _changes_admission(patch, lambda request, memory, found: replace(
        found, reply=StepReply.succeeded() if request.kind == "undo" and "undo" in memory else found.reply
    ))  # fmt: skip


def what_is_undone_is_undone_again(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: replace(entry, state="open", reply=None) if request.kind == kind == "undo" else entry
        for kind, entry in memory.items()
    })  # fmt: skip


def an_undo_of_what_is_in_doubt_does_nothing(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: replace(entry, state="open") if request.kind == "undo" and kind == "action" and entry.state == "begun" and
        entry.owner != "0" else entry for kind, entry in memory.items()
    })  # fmt: skip


def a_rejected_action_is_undone(patch: Patch) -> None:
    _changes_memory(patch, lambda request, memory: {
        kind: replace(entry, reply=StepReply.succeeded()) if request.kind == "undo" and kind == "action" and entry.reply
        else entry for kind, entry in memory.items()
    })  # fmt: skip


def a_probe_takes_doubt_for_nothing(patch: Patch) -> None:
    original = barrier.known_of
    patch.setattr(
        barrier, "known_of", lambda memory, *, alive: original(memory, alive=alive) or StepReply.not_applied()
    )


def a_probe_does_not_wait(patch: Patch) -> None:
    original = barrier.known_of
    patch.setattr(barrier, "known_of", lambda memory, *, alive: original(
        {kind: entry for kind, entry in memory.items() if entry.state != "begun"}, alive=alive
    ))  # fmt: skip


MUTANTS: dict[Mutant, str] = {
    undo_without_an_action_forgets_it: "a late action never acts after its undo",
    undo_of_nothing_is_performed: "an undo of what did not act does nothing",
    fence_is_not_seen: "a late action never acts after its undo",
    undo_overtakes_what_is_at_work: "an action and its undo are never at work at the same time",
    whoever_is_at_work_is_thought_dead: "an action and its undo are never at work at the same time",
    whoever_died_is_thought_at_work_by_probes: "only what is at work is called running",
    doubt_is_not_told: "an attempt knows of the doubt that an earlier one has left",
    doubt_is_forgotten_by_a_rejection: "what may have acted is not rejected",
    doubt_is_taken_for_nothing: "an attempt knows of the doubt that an earlier one has left",
    results_are_not_remembered: "a duplicate is not performed",
    rejections_are_not_remembered: "a duplicate is not performed",
    another_result_is_told_than_remembered: "duplicates get the first result",
    other_requests_are_not_told_apart: "a key that comes with another request is refused",
    other_steps_are_not_told_apart: "a key that comes with another request is refused",
    a_failed_undo_is_taken_for_done: "nothing is called undone that was not",
    an_undo_begun_is_taken_for_done: "nothing is called undone that was not",
    what_is_undone_is_undone_again: "an undo that is done is not done again",
    an_undo_of_what_is_in_doubt_does_nothing: "nothing is called undone that was not",
    a_rejected_action_is_undone: "an undo of what did not act does nothing",
    a_probe_takes_doubt_for_nothing: "what may have acted is not called not applied",
    a_probe_does_not_wait: "what may have acted is not called not applied",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_breaks_a_law(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    broken = explore(4)
    assert broken is not None
    assert broken[0] == MUTANTS[mutant], broken
