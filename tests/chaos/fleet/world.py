"""The business: a database of its own that knows each effect by its key, and of each attempt what had led to it.

Before a step acts, it looks its saga's journal up through a connection of its own. So what it finds is committed, and
an attempt whose cause it does not find was made too early.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, create_engine, text

from sagas import Rejected, current_step
from sagas.core import events as e
from sagas.core import records
from sagas.core.commands import RunStep, RunUndo

__all__ = ["Fate", "Refused", "World", "create"]

_TABLES = (
    "CREATE SEQUENCE moment",
    # One row an attempt, from its beginning. `cause` is the number of the record that asked for it, `led_by` the
    # coordinator that the journal's last takeover named, both as the journal said then.
    """
    CREATE TABLE attempt (
        began BIGINT PRIMARY KEY DEFAULT nextval('moment'), key TEXT, saga TEXT, path TEXT, action TEXT, owner TEXT,
        cause INTEGER, led_by TEXT
    )
    """,
    "CREATE INDEX ON attempt (key, action)",
    # One row a key. Without `acted` it is a barrier: an undo came before the action, which can happen no more.
    "CREATE TABLE effect (key TEXT PRIMARY KEY, saga TEXT, path TEXT, kind TEXT, acted BIGINT, undone BIGINT)",
    # A probe bars every coordinator but its own, or its answer that nothing happened could be wrong a moment later:
    # when the attempt of a process that was paused goes on. (A key alone tells a late attempt from a new one by
    # nothing.)
    "CREATE TABLE bar (key TEXT PRIMARY KEY, owner TEXT)",
)
# Of the journal's database, for the transactional step.
LEDGER = "CREATE TABLE ledger (key TEXT, saga TEXT, path TEXT, owner TEXT, cause INTEGER, led_by TEXT, struck INTEGER)"

# A paused process must not hold up the others for longer than this: whoever waits for its lock gives up, and the
# server ends its transaction. Milliseconds.
_PATIENCE = "-c lock_timeout=500 -c idle_in_transaction_session_timeout=1000 -c statement_timeout=5000"

_JOURNAL = text("SELECT seq, at, kind, path, data FROM saga_journal WHERE saga_id = :saga ORDER BY seq")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")
_BEGIN = text("""
    WITH noted AS (
        INSERT INTO attempt (key, saga, path, action, owner, cause, led_by)
        VALUES (:key, :saga, :path, :action, :owner, :cause, :led_by)
    )
    SELECT 1 + count(*) FROM attempt WHERE key = :key AND action = :action
""")
_ACT = text("""
    INSERT INTO effect (key, saga, path, kind, acted)
    SELECT :key, :saga, :path, :kind, nextval('moment')
    WHERE NOT EXISTS (SELECT FROM bar WHERE key = :key AND owner <> :owner)
    ON CONFLICT (key) DO NOTHING
""")
_UNDO = text("""
    INSERT INTO effect (key, saga, path, kind, undone) VALUES (:key, :saga, :path, :kind, nextval('moment'))
    ON CONFLICT (key) DO UPDATE SET undone = coalesce(effect.undone, nextval('moment'))
""")
_BAR = text("INSERT INTO bar VALUES (:key, :owner) ON CONFLICT (key) DO UPDATE SET owner = :owner")
_THERE = text("SELECT count(*) FROM effect WHERE key = :key")
_FOUND = text("SELECT count(*) FROM effect WHERE key = :key AND acted IS NOT NULL AND undone IS NULL")


class Refused(Rejected):
    """A step that did nothing, and says so."""


class Fate(NamedTuple):
    """What becomes of a step: the same in every attempt and in every process.

    Attributes:
        mode: ``works``, ``refused``, ``request lost`` or ``reply lost``.
        failures: How many attempts fail so, before it works.
        seconds: How long an attempt takes.
    """

    mode: str
    failures: int
    seconds: float


class _Sight(NamedTuple):
    """What an attempt saw in its saga's journal."""

    cause: int | None
    led_by: str


def create(business: str, journal: str) -> None:
    """Makes the tables of the business, and the ledger beside those of the journal."""
    for url, statements in ((business, _TABLES), (journal, (LEDGER,))):
        engine = create_engine(url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()


class World:
    """The business as one process sees it.

    Args:
        business: URL of its database.
        journal: URL of the coordinators'.
        seed: Of the fates.
        owner: Says what the coordinator of this process is called.
    """

    def __init__(self, business: str, journal: str, seed: int, owner: Callable[[], str]) -> None:
        self._business = create_engine(business, pool_size=8, max_overflow=0, connect_args={"options": _PATIENCE})
        self._journal = create_engine(journal, pool_size=4, max_overflow=0)
        self._seed = seed
        self._owner = owner

    def fate(self, kind: str, *, sure: bool = False) -> Fate:
        """Draws the fate of the step that runs here; one that is ``sure`` works in the end."""
        rng = random.Random(f"{self._seed} {current_step().saga_id} {current_step().path} {kind}")
        mode = rng.choices(("works", "refused", "request lost", "reply lost"), (80, 0 if sure else 6, 6, 8))[0]
        failures = rng.randint(1, 3) if sure or rng.random() < 0.5 else 1_000_000
        seconds = rng.choices((rng.uniform(0.0, 0.03), rng.uniform(0.3, 0.8)), (85, 15))[0]
        return Fate(mode, failures, seconds)

    def begin(self) -> int:
        """Notes an attempt of the step that runs here, and what led to it; gives its number."""
        return self._begin(current_step().idempotency_key, "act")

    def act(self, kind: str, number: int, *, sure: bool = False) -> None:
        """Acts at most once for a key, unless it was undone already; then perhaps fails, with or without an effect.

        Args:
            kind: What it does.
            number: Of the attempt.
            sure: See ``fate``.
        """
        fate = self.fate(kind, sure=sure)
        fails = number <= fate.failures
        if fate.mode == "refused":
            raise Refused(kind)
        if fate.mode == "request lost" and fails:
            raise ConnectionError("the request was lost")
        self._change(_ACT, current_step().idempotency_key, kind)
        if fate.mode == "reply lost" and fails:
            raise ConnectionError("the reply was lost")

    def undo(self, kind: str, *, failures: int = 0) -> None:
        """Undoes what a key did, or makes sure that it never acts; fails as often as asked, before or after."""
        step = current_step()
        assert step.undoes is not None, "a compensator runs here"
        number = self._begin(step.undoes, "undo")
        if number <= failures and number % 2:
            raise ConnectionError(f"{kind} cannot be undone now")
        self._change(_UNDO, step.undoes, kind)
        if number <= failures:
            raise ConnectionError(f"{kind} is undone, but nobody heard of it")

    def grumble(self, kind: str) -> int:
        """Draws how often the compensator that runs here fails."""
        rng = random.Random(f"{self._seed} {current_step().saga_id} {current_step().path} undo {kind}")
        return rng.choices((0, 1, 2, 4), (70, 15, 10, 5))[0]

    def find(self) -> bool:
        """Says whether the step that runs here acted; if it did not, no earlier attempt of it can any more."""
        key = current_step().idempotency_key
        with self._business.begin() as connection:
            connection.execute(_LOCK, {"key": key})
            connection.execute(_BAR, {"key": key, "owner": self._owner()})
            return bool(connection.execute(_FOUND, {"key": key}).scalar_one())

    def enter(self, connection: Connection) -> None:
        """Writes into the ledger, in the journal's own transaction."""
        step = current_step()
        sight = self._look("act")
        connection.execute(
            text("INSERT INTO ledger VALUES (:key, :saga, :path, :owner, :cause, :led_by, 0)"),
            {"key": step.idempotency_key, "saga": step.saga_id, "path": step.path, "owner": self._owner()}
            | sight._asdict(),
        )  # fmt: skip

    def strike(self) -> None:
        """Strikes an entry of the ledger."""
        key = current_step().undoes
        with self._journal.begin() as connection:
            connection.execute(text("UPDATE ledger SET struck = 1 WHERE key = :key"), {"key": key})

    def close(self) -> None:
        """Lets go of every connection."""
        self._business.dispose()
        self._journal.dispose()

    def _begin(self, key: str, action: str) -> int:
        """Notes an attempt and what led to it; says which one with this key it is."""
        step, sight = current_step(), self._look(action)
        values = {"key": key, "saga": step.saga_id, "path": step.path, "action": action, "owner": self._owner()}
        with self._business.begin() as connection:
            return int(connection.execute(_BEGIN, values | sight._asdict()).scalar_one())

    def _look(self, action: str) -> _Sight:
        """Looks up, on a connection of its own, what is committed of the journal of the saga that acts here."""
        step = current_step()
        kind = RunStep if action == "act" else RunUndo
        cause, led_by = None, ""
        with self._journal.connect() as connection:
            rows = connection.execute(_JOURNAL, {"saga": step.saga_id}).all()
        for seq, at, name, path, data in rows:
            record = records.decode(seq, at, name, path, bytes(data))
            if isinstance(record.event, e.SagaTakenOver):
                led_by = record.event.owner
            if any(isinstance(command, kind) and command.path == step.path for command in record.commands):
                cause = seq
        return _Sight(cause, led_by)

    def _change(self, statement: TextClause, key: str, kind: str) -> None:
        """Executes a statement while nobody else acts under the same key."""
        step = current_step()
        values = {"key": key, "saga": step.saga_id, "path": step.path, "kind": kind, "owner": self._owner()}
        with self._business.begin() as connection:
            connection.execute(_LOCK, {"key": key})
            if not connection.execute(statement, values).rowcount and statement is _ACT:
                self._explain(connection, key)

    def _explain(self, connection: Connection, key: str) -> None:
        """Fails if nothing was done although nothing had been done before."""
        if not connection.execute(_THERE, {"key": key}).scalar_one():
            raise ConnectionError("another coordinator has asked, and was told that this would not happen")
