"""Workers on one database, requests in any order and at the same time, and deaths in between; and the laws."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from sagas import NotApplied, Rejected, Worker, current_step, step
from sagas.core.definitions import Step
from sagas.errors import KeyReused, TransportClosed
from sagas.transport import StepReply, StepRequest

__all__ = ["STEPS", "Ask", "Fate", "Kind", "Plan", "World", "play"]

Fate = Literal["succeed", "reject", "raise before", "raise after", "die before", "die after", "linger"]
Kind = Literal["action", "undo", "probe"]
# By how they write: with a connection of their own, once for each key or not; or with the inbox's session.
STEPS = ("plain", "repeatable", "atomic", "probed", "tx", "tx_undone_plainly", "plain_undone_by_tx")


class Ask(NamedTuple):
    """One request.

    Attributes:
        worker: Whom.
        kind: What.
        key: About which action.
        other: Whether with other arguments than usual.
    """

    worker: int
    kind: Kind
    key: int
    other: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens.

    Attributes:
        steps: Of each key, the step.
        fates: Of each key and kind, how calls go, one after the other; later ones succeed.
        rounds: Requests that come at the same time, and the next ones when all of them are answered.
        deaths: Workers that end after a round, abruptly, and come back as others.
    """

    steps: tuple[str, ...]
    fates: Mapping[tuple[int, Kind], Sequence[Fate]]
    rounds: Sequence[Sequence[Ask]]
    deaths: Mapping[int, Sequence[int]]


class Note(NamedTuple):
    """Something that was seen, in order: a call that began, acted or ended; a request, and its reply."""

    what: Literal["begin", "acted", "end", "taken back", "asked", "replied", "reused"]
    kind: Kind
    key: str
    worker: int
    arguments: bytes = b""
    reply: StepReply | None = None
    number: int = 0


class Unavailable(Exception):
    """What a driver raises when the server is gone."""


@dataclass(slots=True)
class World:
    """Where effects are: a table in the inbox's database. And what was seen."""

    url: str
    plan: Plan
    prefix: str
    notes: list[Note] = field(default_factory=list[Note])
    dying: dict[int, anyio.Event] = field(default_factory=dict[int, anyio.Event])
    numbers: Iterable[int] = field(default_factory=lambda: itertools.count(1))
    tries: dict[tuple[int, Kind], int] = field(default_factory=dict[tuple[int, Kind], int])

    def key(self, number: int) -> str:
        return f"{self.prefix}-{number}"

    def fate(self, about: str, kind: Kind) -> Fate:
        place = (int(about.rpartition("-")[2]), kind)
        tried = self.tries.get(place, 0)
        self.tries[place] = tried + 1
        fates = self.plan.fates.get(place, ())
        return fates[tried] if tried < len(fates) else "succeed"

    @contextmanager
    def connect(self) -> Generator[Callable[..., Any]]:
        """A connection of a step's own; each statement is a transaction."""
        if self.url.startswith("sqlite"):
            own = sqlite3.connect(str(make_url(self.url).database), timeout=30, isolation_level=None)
        else:
            import psycopg

            target = make_url(self.url).difference_update_query(["notify"]).set(drivername="postgresql")
            own = psycopg.connect(target.render_as_string(hide_password=False), autocommit=True)  # type: ignore[assignment]
        try:
            yield own.execute
        finally:
            own.close()

    def sql(self, statement: str) -> str:
        return statement if self.url.startswith("sqlite") else statement.replace("?", "%s")

    def create(self) -> None:
        with self.connect() as execute:
            execute("CREATE TABLE effect (about TEXT, what TEXT, repeat INTEGER, UNIQUE (about, what, repeat))")

    def effects(self) -> list[tuple[str, str]]:
        with self.connect() as execute:
            query = self.sql("SELECT about, what FROM effect WHERE about LIKE ?")
            return [(row[0], row[1]) for row in execute(query, (f"{self.prefix}-%",)).fetchall()]

    def write(self, about: str, kind: Kind, *, repeat: int) -> None:
        """Writes outside of the inbox's transaction."""
        with self.connect() as execute:
            execute(self.sql("INSERT INTO effect VALUES (?, ?, ?) ON CONFLICT DO NOTHING"), (about, kind, repeat))
        self.notes.append(Note("acted", kind, about, 0))

    # --- the steps of one worker --------------------------------------------------------------------------------

    def steps(self, worker: int) -> list[Step[..., Any]]:
        """Declares all of them; each knows at which worker it runs."""
        return [*self._plain(worker), *self._transactional(worker)]

    def begin(self, worker: int, kind: Kind, x: int) -> tuple[str, Fate, Note]:
        context = current_step()
        about = context.undoes or context.idempotency_key
        note = Note("begin", kind, about, worker, str(x).encode(), number=next(iter(self.numbers)))
        self.notes.append(note)
        return about, self.fate(about, kind), note

    def over(self, note: Note) -> None:
        self.notes.append(note._replace(what="end"))

    async def outside(self, worker: int, kind: Kind, x: int, *, once: bool) -> str:
        """Does what a plain function does."""
        about, fate, note = self.begin(worker, kind, x)
        name = self.plan.steps[int(about.rpartition("-")[2])]
        if (name, kind, fate) == ("atomic", "action", "raise after"):
            fate = "raise before"  # as it has promised
        try:
            await anyio.lowlevel.checkpoint()
            await self._go(fate, "before", worker)
            self.write(about, kind, repeat=0 if once else note.number)
            await self._go(fate, "after", worker)
        finally:
            self.over(note)
        return f"{about} {note.number}"

    async def _go(self, fate: Fate, when: str, worker: int) -> None:
        if fate == f"die {when}":
            self.dying.setdefault(worker, anyio.Event()).set()
            await anyio.sleep_forever()
        if fate == f"raise {when}":
            raise OSError("reset")
        if fate == "reject" and when == "before":
            raise Rejected("no")
        if fate == "linger" and when == "before":
            await self._linger()

    async def _linger(self) -> None:
        """Waits for somebody else to be answered, or to begin."""
        seen = len(self.notes)
        while not any(note.what in ("begin", "replied") for note in self.notes[seen:]):  # noqa: ASYNC110 - any of them may be it
            await anyio.sleep(0.001)

    def inside(self, session: Session, worker: int, kind: Kind, x: int) -> str:
        """Does what a transactional function does."""
        about, fate, note = self.begin(worker, kind, x)
        try:
            if fate in ("raise before", "die before"):
                raise OSError("reset")
            values = {"about": about, "what": kind, "repeat": note.number}
            session.connection().execute(text("INSERT INTO effect VALUES (:about, :what, :repeat)"), values)
            if fate == "reject":
                raise Rejected("no")
            if fate == "raise after":
                raise OSError("reset")
            if fate == "die after":
                self.notes.append(note._replace(what="taken back"))
                raise OperationalError("x", {}, Unavailable("gone"), connection_invalidated=True)
        finally:
            self.over(note)
        return f"{about} {note.number}"

    def _plain(self, worker: int) -> Iterable[Step[..., Any]]:
        for name, once in (("plain", False), ("repeatable", True), ("atomic", True), ("probed", False)):
            yield self._one_plain(worker, name, once=once)
        yield self._undone_by_tx(worker)

    def _one_plain(self, worker: int, name: str, *, once: bool) -> Step[..., Any]:
        @step(name=name, atomic=name == "atomic")
        async def act(x: int) -> str:
            return await self.outside(worker, "action", x, once=once)

        @act.compensator
        async def undo(x: int, result: str | None) -> None:
            await self.outside(worker, "undo", x, once=True)

        if name == "probed":

            @act.probe
            async def ask(x: int) -> str | NotApplied:
                about = current_step().idempotency_key
                self.notes.append(Note("begin", "probe", about, worker))
                acted = (about, "action") in self.effects()
                return f"{about} found" if acted else NotApplied()

        return act

    def _undone_by_tx(self, worker: int) -> Step[..., Any]:
        @step(name="plain_undone_by_tx")
        async def act(x: int) -> str:
            return await self.outside(worker, "action", x, once=False)

        @act.compensator(transactional=True)
        def undo(session: Session, x: int, result: str | None) -> None:
            self.inside(session, worker, "undo", x)

        return act

    def _transactional(self, worker: int) -> Iterable[Step[..., Any]]:
        @step(name="tx", transactional=True)
        def act(session: Session, x: int) -> str:
            return self.inside(session, worker, "action", x)

        @act.compensator(transactional=True)
        def undo(session: Session, x: int, result: str | None) -> None:
            self.inside(session, worker, "undo", x)

        @step(name="tx_undone_plainly", transactional=True)
        def act_2(session: Session, x: int) -> str:
            return self.inside(session, worker, "action", x)

        @act_2.compensator
        async def undo_2(x: int, result: str | None) -> None:
            await self.outside(worker, "undo", x, once=True)

        return act, act_2

    # --- the laws -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises ``AssertionError`` with the name of a law that does not hold."""
        effects = self.effects()
        for number, name in enumerate(self.plan.steps):
            about = self.key(number)
            notes = [note for note in self.notes if note.key == about]
            calm = all(fate in ("succeed", "reject") for fate in self.plan.fates.get((number, "action"), ()))
            _Case(name, notes, [what for key, what in effects if key == about], calm and not self.plan.deaths).check()


class _Case(NamedTuple):
    """What was seen of one action."""

    step: str
    notes: list[Note]
    effects: list[str]
    calm: bool

    def law(self, holds: object, name: str) -> None:
        if not holds:
            told = "\n".join(
                f"{note.what} {note.kind} {note.number} at {note.worker} {note.arguments!r} "
                f"{note.reply and note.reply.outcome}"
                for note in self.notes
            )
            raise AssertionError(f"{name}\nstep {self.step}, effects {self.effects}\n{told}")

    def seen(self, what: str, kind: Kind) -> list[int]:
        return [at for at, note in enumerate(self.notes) if (note.what, note.kind) == (what, kind)]

    def lasting(self, kind: Kind) -> list[int]:
        """Calls that were not taken back with their transaction, as if they had never been."""
        void = {self.notes[at].number for at in self.seen("taken back", kind)}
        return [at for at in self.seen("begin", kind) if self.notes[at].number not in void]

    def replies(self, kind: Kind, outcome: str) -> list[int]:
        replied = self.seen("replied", kind)
        return [at for at in replied if (reply := self.notes[at].reply) is not None and reply.outcome == outcome]

    def check(self) -> None:
        self._first_results()
        self._late_actions()
        self._undos()
        self._doubts()
        self._payloads()
        self._exactly_once()

    def _first_results(self) -> None:
        definite = [
            self.notes[at].reply for at in self.replies("action", "succeeded") + self.replies("action", "rejected")
        ]
        self.law(all(reply == definite[0] for reply in definite), "duplicates get the first result")
        after = min(self.replies("action", "succeeded") + self.replies("action", "rejected"), default=len(self.notes))
        self.law(all(at < after for at in self.seen("begin", "action")), "what has answered is not performed again")
        self.law(
            not (self.replies("action", "rejected") and "action" in self.effects), "what is rejected has not acted"
        )

    def _late_actions(self) -> None:
        undone = min(self.replies("undo", "succeeded") + self.replies("action", "fenced"), default=len(self.notes))
        begun = self.seen("begin", "action")
        if self.replies("undo", "succeeded"):
            self.law(
                all(at < undone for at in begun + self.seen("acted", "action")),
                "a late action never acts after its undo",
            )
        first_undo = min(self.lasting("undo"), default=len(self.notes))
        self.law(all(at < first_undo for at in begun), "no action begins after its undo has begun")
        asked = self.seen("asked", "undo")
        fenced = self.replies("action", "fenced")
        self.law(not fenced or (asked and asked[0] < fenced[0]), "only what is undone is fenced")
        self._apart()

    def _apart(self) -> None:
        """Calls for one action never overlap."""
        working: set[int] = set()
        for note in self.notes:
            if note.what == "begin" and note.kind != "probe":
                self.law(not working, "an action and its undo, or two attempts, are never at work at the same time")
                working.add(note.number)
            elif note.what == "end":
                working.discard(note.number)

    def _undos(self) -> None:
        begun, undone = self.seen("begin", "action"), self.replies("undo", "succeeded")
        self.law(begun or not self.seen("begin", "undo"), "an undo without an action does nothing")
        if undone and "action" in self.effects:
            self.law("undo" in self.effects, "nothing is called undone that was not")
        if undone:
            self.law(all(at < undone[0] for at in self.seen("begin", "undo")), "what is undone is not undone again")
        rejected = self.replies("action", "rejected")
        self.law(not (rejected and self.seen("begin", "undo")), "what was rejected is not undone")

    def _doubts(self) -> None:
        if self.step != "probed":
            return
        doubtful = False
        for note in self.notes:
            if (note.what, note.kind) == ("begin", "action"):
                self.law(not doubtful, "what is in doubt is probed before it is attempted again")
                doubtful = True
            elif (note.what, note.kind) == ("begin", "probe"):
                doubtful = False

    def _payloads(self) -> None:
        called = {self.notes[at].arguments for at in self.lasting("action")}
        self.law(len(called) < 2, "a key that comes with another request is refused")
        answered = {self.notes[at].arguments for at in self.replies("action", "succeeded")}
        self.law(not answered or answered == called, "another request does not get the first one's result")

    def _exactly_once(self) -> None:
        """As far as it can be: a transaction is; and so is what neither raises nor dies."""
        if self.step in ("tx", "tx_undone_plainly") or self.calm:
            self.law(self.effects.count("action") < 2, "it acts once")
        if self.step in ("tx", "plain_undone_by_tx"):
            self.law(self.effects.count("undo") < 2, "it is undone once")
        if self.replies("action", "succeeded"):
            self.law("action" in self.effects, "what is called done is done")


class _Place:
    """A worker, and whoever follows it when it has died."""

    def __init__(self, world: World, number: int, group: TaskGroup) -> None:
        self.world = world
        self.number = number
        self.worker: Worker | None = None
        self._group = group
        self._leave = anyio.Event()
        self._left = anyio.Event()

    async def live(self) -> None:
        self.worker = Worker(self.world.steps(self.number), inbox=self.world.url, migrate=False, shutdown_timeout=0.0)
        self._leave, self._left = anyio.Event(), anyio.Event()
        await self._group.start(self._run, self.worker)

    async def _run(self, worker: Worker, *, task_status: TaskStatus[None]) -> None:
        async with worker:
            task_status.started()
            await self._leave.wait()
        self._left.set()

    async def end(self) -> None:
        self._leave.set()
        await self._left.wait()

    async def die(self) -> None:
        """Ends without a word: its rows stay as they are, and its lease is nobody's."""
        assert self.worker is not None
        inbox: Any = self.worker._inbox  # noqa: SLF001 - nobody else can end it like this
        store, owner, inbox._store = inbox._store, inbox._owner, _Gone()  # noqa: SLF001 - as above
        await self.end()
        store.release(owner)
        store.close()

    def request(self, ask: Ask, attempt: int) -> StepRequest:
        world, about = self.world, self.world.key(ask.key)
        undo = ask.kind == "undo"
        return StepRequest(
            kind=ask.kind, step=world.plan.steps[ask.key], saga_id="s", path="1", attempt=attempt,
            idempotency_key=f"{about}:undo" if undo else about, undoes=about if undo else None,
            arguments=b'{"x":2}' if ask.other else b'{"x":1}',
        )  # fmt: skip

    async def ask(self, ask: Ask, attempt: int) -> None:
        assert self.worker is not None
        request, notes = self.request(ask, attempt), self.world.notes
        note = Note("asked", ask.kind, self.world.key(ask.key), self.number, b"2" if ask.other else b"1")
        notes.append(note)
        try:
            reply = await self.worker.perform(request)
        except KeyReused:
            notes.append(note._replace(what="reused"))
        except TransportClosed:
            return
        else:
            notes.append(note._replace(what="replied", reply=reply))


class _Gone:
    """The database, for a process that is dead."""

    def release(self, owner: str) -> None: ...

    def close(self) -> None: ...


async def play(world: World, workers: int) -> None:
    """Has a plan happen, and asks for what it came to at last."""
    attempts = itertools.count(1)
    async with anyio.create_task_group() as group:
        places = [_Place(world, number, group) for number in range(workers)]
        for place in places:
            await place.live()
        for number, asks in enumerate(world.plan.rounds):
            await _round(places, asks, attempts)
            for dead in {*world.plan.deaths.get(number, ()), *world.dying}:
                world.dying.pop(dead, None)
                await places[dead].die()
                await places[dead].live()
        for key, place in itertools.product(range(len(world.plan.steps)), places):
            await _round(places, [Ask(place.number, "action", key)], attempts)
            if world.dying:  # only what has a fate left
                world.dying.clear()
                await place.die()
                await place.live()
        for place in places:
            await place.end()


async def _round(places: Sequence[_Place], asks: Sequence[Ask], attempts: Iterable[int]) -> None:
    """Sends requests at the same time; those to a worker that dies meanwhile have no answer."""
    world = places[0].world
    left = len(asks)
    over = anyio.Event()
    scopes: dict[int, list[anyio.CancelScope]] = {}

    async def one(ask: Ask) -> None:
        nonlocal left
        with anyio.CancelScope() as scope:
            scopes.setdefault(ask.worker, []).append(scope)
            await places[ask.worker].ask(ask, next(iter(attempts)))
        left -= 1
        if not left:
            over.set()

    async def watch(number: int) -> None:
        await world.dying.setdefault(number, anyio.Event()).wait()
        for scope in scopes.get(number, ()):
            scope.cancel()

    for place in places:
        world.dying[place.number] = anyio.Event()
    async with anyio.create_task_group() as group:
        for place in places:
            group.start_soon(watch, place.number)
        for ask in asks:
            group.start_soon(one, ask)
        await over.wait()
        group.cancel_scope.cancel()
    for number in [number for number, event in world.dying.items() if not event.is_set()]:
        del world.dying[number]
