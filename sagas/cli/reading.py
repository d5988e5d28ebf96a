"""Opens a journal as it is: nothing is created, migrated or leased, and no code of its sagas is needed."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sagas.cli.problems import Problem
from sagas.coordinator.blame import blamed
from sagas.coordinator.fleet import coordinators, fleet_for
from sagas.coordinator.loading import read_history
from sagas.coordinator.surveys import SagaFilter
from sagas.coordinator.telling import summary_of, view_of
from sagas.core.secrets import Mask
from sagas.errors import JournalCorrupted, PayloadError, SagaNotFound
from sagas.stores import store_for
from sagas.stores.port import SagaRow
from sagas.stores.surveying import fits

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from sagas.coordinator.fleet import CoordinatorView
    from sagas.coordinator.loading import History
    from sagas.coordinator.views import SagaSummary, SagaView
    from sagas.stores import Store

__all__ = ["existing_store", "find_row", "history_of", "read_coordinators", "read_summaries", "read_view"]

# So many sagas are read at a time to look for few of them.
_MANY = 1_000


@contextmanager
def existing_store(url: str, option: str = "--store") -> Generator[Store]:
    """Opens the journal at a URL.

    Args:
        url: Where it is.
        option: What gave the URL, for messages.

    Raises:
        Problem: There is none.
        StoreError: It cannot be opened, or its tables are of another version.
    """
    store = store_for(url)
    if store.in_memory:
        raise Problem(f"{url} is kept by no file, so no other process can see it; use {option} sqlite:///FILE")
    _refuse_absent(url, option)
    store.open(migrate=False)
    try:
        yield store
    finally:
        store.close()


def _refuse_absent(url: str, option: str) -> None:
    """Refuses SQLite files that are not there or hold no journal, which opening them would create or change."""
    from sqlalchemy.engine import make_url

    from sagas.stores.schema import migrating

    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return
    path = Path(parsed.database or "").resolve()
    if not path.exists():
        raise Problem(f"there is no database {path}; check {option}, or create it with {migrating(url)}")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'saga_schema'").fetchone()
    except sqlite3.Error as error:
        raise Problem(f"the database {path} cannot be read: {error}; check {option} and the file's rights") from error
    if found is None:
        raise Problem(f"the database {path} holds no journal; check {option}, or run {migrating(url)}")


def find_row(store: Store, saga_id: str) -> SagaRow:
    """Reads a saga's row.

    Raises:
        SagaNotFound: There is none.
    """
    row = store.get(saga_id)
    if row is None:
        raise SagaNotFound(f"there is no saga {saga_id!r} in {store.url}; `sagas list` shows those there are")
    return row


def read_summaries(
    store: Store,
    *,
    status: str | None,
    name: str | None,
    limit: int,
    before: str | None,
    step: str | None = None,
    error: str = "",
) -> list[SagaSummary]:
    """Reads sagas, newest first, from before the one with the id ``before``.

    Raises:
        RequestError: A text is none.
    """
    wanted = SagaFilter(status=status, name=name, step=step, error=error)
    asked, found = wanted.wanted(), list[SagaRow]()
    # What the store does not look for is looked for here, among many at a time.
    last, some = before, max(limit, _MANY) if step or error or status in ("open", "ended") else limit
    while rows := _rows(store, status, name, limit=some, before=last):
        found += [row for row in rows if fits(row, asked) and step in (None, blamed(row.error).step)]
        if len(found) >= limit or len(rows) < some:
            break
        last = rows[-1].id
    fleet = fleet_for(store, found, time.time())
    return [summary_of(row, fleet) for row in found[:limit]]


def _rows(store: Store, status: str | None, name: str | None, *, limit: int, before: str | None) -> Sequence[SagaRow]:
    """Reads sagas, newest first; there may be others among them where several statuses are wanted."""
    if status == "open":
        return store.open_sagas(limit, before)
    return store.select(status=None if status == "ended" else status, name=name, limit=limit, before=before)


def read_coordinators(store: Store) -> list[CoordinatorView]:
    """Reads which coordinators are alive."""
    return coordinators(store.leases(time.time()))


def read_view(store: Store, saga_id: str, secret: Iterable[str] = ()) -> SagaView:
    """Reads everything about a saga; ``secret`` names what is not shown.

    Raises:
        SagaNotFound: There is no such saga.
        JournalCorrupted: Its journal is not what was written.
        Problem: Its journal was written through a codec, or by a newer version of the library.
    """
    row = find_row(store, saga_id)
    fleet = fleet_for(store, [row], time.time())
    mask = Mask(name.strip() for name in secret if name.strip())
    return view_of(row, history_of(store, saga_id), fleet, mask)


def history_of(store: Store, saga_id: str) -> History:
    """Reads a saga's journal; raises as ``read_view``."""
    find_row(store, saga_id)
    try:
        return read_history(saga_id, store.load([saga_id]).get(saga_id, []), None)
    except JournalCorrupted as error:
        if isinstance(error.__cause__, PayloadError):  # its digest is right, so this is what was written
            raise Problem(
                f"the journal of saga {saga_id} cannot be read here. If its coordinator has a codec, use "
                f"`coordinator.get`, which has it too; else install the newer sagakit that wrote it ({error})"
            ) from error
        raise
