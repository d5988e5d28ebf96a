"""Responses that outlive their process, in a database that all processes share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

import anyio
import orjson
from anyio import to_thread
from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sagas.errors import RequestError, StoreError
from sagas.stores.opening import store_for
from sagas.stores.sql import SqlStore
from sagas.stores.tables import metadata
from sagas_adapters.http.problems import Response
from sagas_adapters.http.responses import Stored

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

__all__ = ["SqlResponses"]

T = TypeVar("T")

_kept = metadata.tables["saga_response"]
_INSERT: Final[Mapping[str, Callable[..., Any]]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
# Seconds between two times at which what is too old is deleted, and how much of it at once.
_SWEEP: Final = 60.0
_MANY: Final = 1000
# How many requests are at work in the database side by side.
_THREADS: Final = 4


class SqlResponses:
    """Keeps responses in a database, such as the coordinator's: ``saga_router(…, responses=SqlResponses(URL))``.

    The tables are made when they are first needed. It is opened by its first use; ``close`` it, or use ``async with``.

    A process may die between what a request does and the keeping of its response. Nobody knows then whether it was
    done. A repeat is told to wait for ``patience`` seconds, and performed then: at least once.

    Args:
        database: Its URL (``sqlite:///orders.db``, ``postgresql+psycopg://…``), or a store.
        max_age: Seconds for which each response is kept.
        patience: Seconds after which a request that has no response counts as lost with its process. It has to be
            longer than any takes.
        migrate: Whether to create or update the tables.
        now: Gives POSIX time; those of all processes should agree to well within ``patience``.

    Raises:
        RequestError: A number makes no sense.
        StoreError: No store in a database goes by the URL. On use: the database cannot be opened.
    """

    def __init__(
        self,
        database: str | SqlStore,
        *,
        max_age: float = 86_400.0,
        patience: float = 60.0,
        migrate: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        if not 0 < patience <= max_age < float("inf"):
            raise RequestError(f"SqlResponses(max_age={max_age!r}, patience={patience!r}): use 0 < patience <= max_age")
        self._is_own = isinstance(database, str)
        self._store = _sql_store(database)
        self._max_age = max_age
        self._patience = patience
        self._migrate = migrate
        self._now = now
        self._tokens: dict[str, str] = {}
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._opening = anyio.Lock()
        self._is_open = False
        self._swept = float("-inf")

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Lets go of connections; those of a store that was given are its owner's. Using it opens it again."""
        async with self._opening:
            if self._is_open and self._is_own:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(self._store.close)
            self._is_open = False

    async def _open(self) -> None:
        """Opens the database, unless it is."""
        async with self._opening:
            if not self._is_open:
                await to_thread.run_sync(partial(self._store.open, migrate=self._migrate))
                self._is_open = True

    # --- the protocol -------------------------------------------------------------------------------------------

    async def begin(self, key: str, fingerprint: bytes) -> Stored | None:
        """See ``Responses``; durable when it returns."""
        token, found = secrets.token_hex(8), cast("Stored | None", None)
        with anyio.CancelScope(shield=True):  # or a key would be reserved, and nobody would know
            found = await self._do(partial(self._begin, key, fingerprint, token))
        if found is None:
            self._tokens[key] = token
        return found

    async def finish(self, key: str, response: Response) -> None:
        """See ``Responses``; durable when it returns."""
        headers = orjson.dumps([[part.decode("latin-1") for part in pair] for pair in response.headers])
        await self._do(
            partial(
                self._settle, key,
                update(_kept).values(
                    status=response.status, media_type=response.media_type.decode("latin-1"), headers=headers,
                    body=response.body,
                ),
            )
        )  # fmt: skip

    async def forget(self, key: str) -> None:
        """See ``Responses``."""
        await self._do(partial(self._settle, key, delete(_kept)))

    async def _do(self, function: Callable[[Connection], T]) -> T:
        """Has a function run in a transaction, in a thread."""
        await self._open()

        def run() -> T:
            with self._store.begin() as connection:
                return function(connection)

        return await to_thread.run_sync(run, limiter=self._threads)

    # --- in a transaction ---------------------------------------------------------------------------------------

    def _begin(self, key: str, fingerprint: bytes, token: str, connection: Connection) -> Stored | None:
        """Reserves a key, or says what became of it."""
        now = self._now()
        self._sweep(connection, now)
        fresh = {
            "fingerprint": fingerprint, "token": token, "at": now, "status": None, "media_type": None, "headers": None,
            "body": None,
        }  # fmt: skip
        insert = _INSERT[connection.dialect.name](_kept).values(key=key, **fresh).on_conflict_do_nothing()
        lost = and_(_kept.c.status.is_(None), _kept.c.fingerprint == fingerprint, _kept.c.at < now - self._patience)
        free = or_(_kept.c.at < now - self._max_age, lost)
        take = update(_kept).where(_kept.c.key == key, free).values(**fresh)
        for change in (insert, take):
            if connection.execute(change.returning(_kept.c.key)).first():
                return None
        return self._found(key, fingerprint, connection)

    def _found(self, key: str, fingerprint: bytes, connection: Connection) -> Stored:
        """Gives what is kept."""
        row = connection.execute(select(_kept).where(_kept.c.key == key)).one_or_none()
        if row is None:  # it was freed just now, so a repeat may be the first
            return "running"
        if row.fingerprint != fingerprint:
            return "mismatch"
        return "running" if row.status is None else _response(row)

    def _settle(self, key: str, change: Any, connection: Connection) -> None:
        """Changes an entry, if it is still that of this process's request."""
        token = self._tokens.pop(key, None)
        connection.execute(change.where(_kept.c.key == key, _kept.c.token == token, _kept.c.status.is_(None)))

    def _sweep(self, connection: Connection, now: float) -> None:
        """Deletes what is too old, now and then."""
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        old = select(_kept.c.key).where(_kept.c.at < now - self._max_age).order_by(_kept.c.at).limit(_MANY)
        those = delete(_kept).where(_kept.c.key.in_(old.with_for_update(skip_locked=True)))
        if connection.execute(those).rowcount == _MANY:
            self._swept = float("-inf")  # there is more


def _sql_store(database: str | SqlStore) -> SqlStore:
    """Makes the store of a URL.

    Raises:
        StoreError: It is of a kind that has no tables.
    """
    store = store_for(database) if isinstance(database, str) else database
    if not isinstance(store, SqlStore):
        raise StoreError(f"{database} cannot keep responses; use SQLite or PostgreSQL, or MemoryResponses()")
    return store


def _response(row: Row[Any]) -> Response:
    """Reads a response."""
    pairs = cast("list[list[str]]", orjson.loads(row.headers))
    headers = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
    return Response(row.status, bytes(row.body), headers, row.media_type.encode("latin-1"))
