"""Inboxes and workers that are wrong in one way each, and the law that shows it."""

# ruff: noqa: SLF001 - a mutant changes what nobody else may touch
from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlmodel import Session

from sagas.errors import StoreUnavailable
from sagas.stores import store_for
from sagas.transport import StepReply
from sagas.worker import batching, guarding, jobs, performing, rows, sql_inbox
from sagas.worker.barrier import Admission
from tests.worker.interleavings import Ask, Fate, Kind, Plan, World, play

Patch = pytest.MonkeyPatch
Mutant = Callable[[Patch], None]


def plan(step: str, rounds: Sequence[Sequence[Ask]], **more: Any) -> Plan:
    """What happens to one action."""
    fates: Mapping[tuple[int, Kind], Sequence[Fate]] = more.get("fates", {})
    return Plan((step,), fates, rounds, more.get("deaths", {}))


def at(worker: int, kind: Kind = "action", *, other: bool = False) -> Ask:
    return Ask(worker, kind, 0, other)


_BOTH = ("plain", "tx")
PLANS = [
    *(plan(name, [[at(0)], [at(0)], [at(1)]]) for name in _BOTH),
    *(plan(name, [[at(0), at(1), at(0), at(1)], [at(1)]]) for name in _BOTH),
    *(plan(name, [[at(0, "undo")], [at(0), at(1)]]) for name in _BOTH),
    *(plan(name, [[at(0)], [at(1, "undo")], [at(0, "undo")], [at(0)]]) for name in _BOTH),
    *(plan(name, [[at(0), at(1, "undo")], [at(0, "undo"), at(1)]]) for name in _BOTH),
    *(plan(name, [[at(0)], [at(0, other=True), at(1, other=True)]]) for name in _BOTH),
    *(plan(name, [[at(0)], [at(1)], [at(0, "undo")]], fates={(0, "action"): ["reject"]}) for name in _BOTH),
    *(plan(name, [[at(0)], [at(0)], [at(1, "undo")]], fates={(0, "action"): ["raise after"]}) for name in _BOTH),
    plan("plain", [[at(0), at(1)]], fates={(0, "action"): ["linger"]}),
    plan("atomic", [[at(0)], [at(1)]], fates={(0, "action"): ["raise before"]}),
    plan("plain", [[at(0)], [at(0)]], fates={(0, "action"): ["raise after", "reject"]}),
    plan("plain", [[at(0)], [at(1, "undo")], [at(0)]], fates={(0, "action"): ["die after"]}),
    plan("plain", [[at(0)], [at(0, "undo")], [at(0, "undo")], [at(1)]], fates={(0, "undo"): ["raise before"]}),
    plan("tx", [[at(0)], [at(0, "undo")], [at(0, "undo")], [at(1)]], fates={(0, "undo"): ["raise after"]}),
    plan("tx", [[at(0)], [at(0)]], fates={(0, "action"): ["die after"]}),
    plan("probed", [[at(0)], [at(1)], [at(0)]], fates={(0, "action"): ["die after"]}),
    plan("probed", [[at(0)], [at(0)], [at(0)]], fates={(0, "action"): ["raise after"]}),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inbox") / "template.db"
    store = store_for(f"sqlite:///{path}")
    store.open(migrate=True)
    store.close()
    World(f"sqlite:///{path}", PLANS[0], "").create()
    return path


def broken_by(plan: Plan, template: Path) -> str | None:
    """Names the law that a plan breaks."""
    path = template.with_name(f"{uuid.uuid4().hex}.db")
    shutil.copy(template, path)
    world = World(f"sqlite:///{path}?synchronous=OFF", plan, "m")
    anyio.run(play, world, 2)
    try:
        world.check()
    except AssertionError as error:
        return str(error).partition("\n")[0]
    return None


def first_broken(template: Path) -> str | None:
    return next((law for plan in PLANS if (law := broken_by(plan, template)) is not None), None)


# --- what is read and written ---------------------------------------------------------------------------------------


def nothing_is_remembered_of_an_end(patch: Patch) -> None:
    patch.setattr(sql_inbox.SqlInbox, "_leave_all", lambda self, entries, connection: [True] * len(entries))


def a_lost_row_is_taken_for_written(patch: Patch) -> None:
    original = rows.SqliteRows.insert

    def insert(self: Any, connection: Any, new: Any) -> Any:
        original(self, connection, new)
        return {(row.about, row.kind) for row in new}

    patch.setattr(rows.SqliteRows, "insert", insert)


def whatever_is_in_one_statement_is_the_first(patch: Patch) -> None:
    def enter(self: Any, requests: Any, connection: Any) -> Any:
        known = {x.action_key: self._rows.read(connection, x.action_key) for x in requests}
        found = [self._enter_known(x, connection) for x in requests]
        return [
            self._fresh(x) if x.kind == "action" and not known[x.action_key] else y
            for x, y in zip(requests, found, strict=True)
        ]

    patch.setattr(sql_inbox.SqlInbox, "_enter_all", enter)
    patch.setattr(jobs.Jobs, "_at_work", property(lambda _: {}, lambda *_: None), raising=False)
    patch.setattr(jobs.Jobs, "_run", _run_without_jobs)


async def _run_without_jobs(self: Any, job: Any) -> None:
    try:
        job.reply = await self._guarding.perform(job.performing)
    except Exception as error:
        job.error = error
    job.ended.set()


def replies_are_mixed_up(patch: Patch) -> None:
    original = rows.memory_of

    def memory_of(found: Any) -> Any:
        return {
            kind: replace(entry, reply=StepReply.succeeded(b'"another"')) if entry.reply else entry
            for kind, entry in original(found).items()
        }

    patch.setattr(rows, "memory_of", memory_of)


def fingerprints_are_not_kept(patch: Patch) -> None:
    original = rows.row_of
    patch.setattr(sql_inbox, "row_of", lambda entry, at: original(replace(entry, fingerprint=b""), at))


def owners_are_not_kept(patch: Patch) -> None:
    original = rows.row_of
    patch.setattr(sql_inbox, "row_of", lambda entry, at: original(replace(entry, owner=""), at))
    patch.setattr(sql_inbox.SqlInbox, "_leave_all", lambda self, entries, connection: [
        self._rows.write(connection, original(x, 0.0)) is None for x in entries
    ])  # fmt: skip


def others_are_taken_for_dead(patch: Patch) -> None:
    patch.setattr(sql_inbox.SqlInbox, "is_alive", lambda self, owner: False)


def undo_only_reads(patch: Patch) -> None:
    original = sql_inbox.SqlInbox._write

    def write(self: Any, connection: Any, entry: Any, memory: Any) -> bool:
        return entry.state == "fenced" or original(self, connection, entry, memory)

    patch.setattr(sql_inbox.SqlInbox, "_write", write)


# --- transactions ---------------------------------------------------------------------------------------------------


def a_rejected_transaction_keeps_its_writes(patch: Patch) -> None:
    patch.setattr(Session, "rollback", Session.commit)


def what_is_remembered_commits_without_the_writes(patch: Patch) -> None:
    original = sql_inbox.SqlInbox._transact

    def transact(self: Any, request: Any, work: Any, settle: Any, connection: Any) -> Any:
        def lose(session: Session, check: Any) -> Any:
            point = connection.begin_nested()
            reply = work(session, check)
            point.rollback()
            return reply

        return original(self, request, lose, settle, connection)

    patch.setattr(sql_inbox.SqlInbox, "_transact", transact)


def a_transaction_does_not_remember(patch: Patch) -> None:
    original = sql_inbox.SqlInbox._transact

    def transact(self: Any, request: Any, work: Any, settle: Any, connection: Any) -> Any:
        point: list[Any] = []

        def settled(reply: Any, doubt: bool) -> Any:
            point.append(settle(reply, doubt))
            return point[0][0], replace(point[0][1], state="open", reply=None)

        return original(self, request, work, settled, connection)

    patch.setattr(sql_inbox.SqlInbox, "_transact", transact)


def transactional_functions_write_by_themselves(patch: Patch) -> None:
    """In a transaction before that of the barrier."""

    async def transact(self: Any, request: Any, work: Any, settle: Any) -> Any:
        def alone(connection: Any) -> Any:
            with Session(bind=connection, join_transaction_mode="create_savepoint") as session:
                return work(session, lambda session: session.flush())

        done = await self._batcher.do(alone)
        admission = await self.enter(request)
        if admission.reply is not None:
            return admission.reply
        reply, entry = settle(done, admission.doubt)
        await self.leave(entry)
        return reply

    patch.setattr(sql_inbox.SqlInbox, "transact", transact)


# --- the worker -----------------------------------------------------------------------------------------------------


def attempts_are_made_before_they_are_admitted(patch: Patch) -> None:
    original = guarding.Guarding.perform

    async def perform(self: Any, call: Any) -> Any:
        if call.request.kind == "action" and not call.is_transactional:
            await call.attempt()
        return await original(self, call)

    patch.setattr(guarding.Guarding, "perform", perform)


def doubt_is_dropped(patch: Patch) -> None:
    original = sql_inbox.SqlInbox.enter

    async def enter(self: Any, request: Any) -> Any:
        return replace(await original(self, request), doubt=False)

    patch.setattr(sql_inbox.SqlInbox, "enter", enter)


def probes_are_not_asked(patch: Patch) -> None:
    async def probe(self: Any, probe: Any) -> StepReply:
        return StepReply.not_applied()

    patch.setattr(performing.Performing, "probe", probe)


def doubt_is_taken_for_failure(patch: Patch) -> None:
    original = performing.Performing._failed

    def failed(self: Any, error: Exception, span: Any) -> StepReply:
        return replace(original(self, error, span), outcome="failed")

    patch.setattr(performing.Performing, "_failed", failed)


def failed_undos_are_taken_for_done(patch: Patch) -> None:
    patch.setattr(performing.Performing, "_not_undone", lambda *_: StepReply.succeeded())


def admitted_by_nobody(patch: Patch) -> None:
    async def enter(self: Any, request: Any) -> Admission:
        return Admission()

    patch.setattr(sql_inbox.SqlInbox, "enter", enter)


def failed_commits_are_taken_for_done(patch: Patch) -> None:
    original = batching.Batcher._commit

    def commit(self: Any, jobs: Any) -> None:
        original(self, jobs)
        for job in jobs:
            if isinstance(job.error, StoreUnavailable):
                job.error, job.retry = None, False
                job.result = StepReply.succeeded(b'"nothing"')

    patch.setattr(batching.Batcher, "_commit", commit)


MUTANTS = [
    nothing_is_remembered_of_an_end, a_lost_row_is_taken_for_written, whatever_is_in_one_statement_is_the_first,
    replies_are_mixed_up, fingerprints_are_not_kept, owners_are_not_kept, others_are_taken_for_dead, undo_only_reads,
    a_rejected_transaction_keeps_its_writes, what_is_remembered_commits_without_the_writes,
    a_transaction_does_not_remember, transactional_functions_write_by_themselves,
    attempts_are_made_before_they_are_admitted, doubt_is_dropped, probes_are_not_asked, doubt_is_taken_for_failure,
    failed_undos_are_taken_for_done, admitted_by_nobody, failed_commits_are_taken_for_done,
]  # fmt: skip


def test_without_a_mutant_no_law_is_broken(template: Path) -> None:
    assert first_broken(template) is None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_breaks_a_law(mutant: Mutant, template: Path, monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    assert first_broken(template) is not None
