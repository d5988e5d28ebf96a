"""What people can see of sagas: one in full, or many of them."""

from __future__ import annotations

import builtins
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast

from sagas.coordinator.aftermath import posted_for
from sagas.coordinator.checks import check_number, check_status
from sagas.coordinator.fleet import CoordinatorView, coordinators, fleet_for
from sagas.coordinator.loading import read_history, revision_of
from sagas.coordinator.statistics import Stats, read_stats
from sagas.coordinator.surveys import LinePlace, SagaCounts, SagaFilter, SagaPage, SagaRates, StuckSagas
from sagas.coordinator.telling import records_of, summary_of, view_of
from sagas.coordinator.views import Standing
from sagas.core.operations import utc
from sagas.core.secrets import Mask
from sagas.errors import RequestError, SagaNotFound
from sagas.stores.surveying import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sagas.coordinator.link import Link
    from sagas.coordinator.views import OrderView, RecordView, SagaSummary, SagaView
    from sagas.stores.port import JournalRow, SagaRow

__all__ = ["Looking"]

_ANY = SagaFilter()
_MINUTE = 60.0


class Looking(ABC):
    """See the module. Nothing here changes anything, and none of it is on the way of sagas.

    What is secret is hidden, see ``Secret``; but texts of exceptions are shown as they are.
    """

    _mask = Mask()

    @abstractmethod
    def _running(self) -> Link:
        """Gives what reaches the store."""

    # --- one saga -----------------------------------------------------------------------------------------------

    async def get(self, saga_id: str) -> SagaView:
        """Reads everything about a saga, as far as it is durable.

        Raises:
            SagaNotFound: There is no such saga.
            JournalCorrupted: Its journal is not what was written.
        """
        engine = self._running()
        row, journal = await self._read(saga_id)
        fleet = await engine.in_thread(fleet_for, engine.store, [row], engine.clock.now())
        return view_of(row, read_history(saga_id, journal, engine.codec), fleet, self._mask)

    async def posted(self, saga_id: str) -> tuple[OrderView, ...] | None:
        """Reads the orders that the coordinator of a saga has not taken yet; ``None`` if very many wait for it.

        One that waits no more is in the saga's ``decisions``, or was refused: then the log of its coordinator says why.

        Raises:
            SagaNotFound: There is no such saga.
        """
        engine = self._running()
        row = await engine.in_thread(engine.store.get, saga_id)
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id!r}")
        found: tuple[OrderView, ...] | None = await engine.in_thread(posted_for, engine.store, row, engine.clock.now())
        return found

    async def journal(self, saga_id: str) -> builtins.list[RecordView]:
        """Reads the records of a saga, as they were written.

        Raises:
            SagaNotFound: There is no such saga.
            JournalCorrupted: Its journal is not what was written.
        """
        row, journal = await self._read(saga_id)
        codec = self._running().codec
        read_history(saga_id, journal, codec)
        return records_of(journal, codec, row.name, self._mask)

    async def standings(self, saga_ids: Sequence[str]) -> dict[str, Standing]:
        """Reads the ``revision`` of several sagas, for ``expected``; those that are not there are left out."""
        engine = self._running()
        journals = await engine.in_thread(engine.store.load, list(saga_ids))
        return {saga_id: _standing(journals[saga_id]) for saga_id in saga_ids if journals.get(saga_id)}

    async def masked(self, value: object, *, of: str = "") -> object:
        """Hides what is secret in a value of JSON's types that was read elsewhere, such as in a message.

        Args:
            value: Is not changed itself.
            of: The step whose arguments, or ``result``, it has.
        """
        shown = self._mask.value(value)
        if not of or not isinstance(shown, dict) or "result" not in shown:
            return shown  # pyright: ignore[reportUnknownVariableType] - of JSON's types
        told = cast("dict[str, object]", shown)
        return {**told, "result": self._mask.result(of, told["result"])}

    async def _read(self, saga_id: str) -> tuple[SagaRow, Sequence[JournalRow]]:
        """Reads the rows of a saga."""
        engine = self._running()
        row = await engine.in_thread(engine.store.get, saga_id)
        if row is None:
            raise SagaNotFound(f"there is no saga {saga_id!r}")
        journals = await engine.in_thread(engine.store.load, [saga_id])
        return row, journals.get(saga_id, [])

    # --- many sagas ---------------------------------------------------------------------------------------------

    async def list(
        self, *, status: str | None = None, name: str | None = None, limit: int = 100, before: str | None = None
    ) -> builtins.list[SagaSummary]:
        """Reads sagas, newest first; ``search`` knows more filters, and answers soon however many sagas there are.

        Args:
            status: Only these: ``running``, ``compensating``, ``stuck``, ``completed`` or ``compensated``.
            name: Only this saga.
            limit: At most so many.
            before: Go on after the saga with this id.

        Raises:
            RequestError: There is no such status, or the limit is not at least 1.
        """
        if status is not None:
            check_status(status)
        check_number("limit", limit, least=1)
        engine = self._running()
        rows = await engine.in_thread(lambda: engine.store.select(status=status, name=name, limit=limit, before=before))
        return await self._summaries(rows)

    async def search(self, wanted: SagaFilter = _ANY, *, limit: int = 50, after: str | None = None) -> SagaPage:
        """Looks for sagas, newest first, a page at a time and for a bounded time.

        Args:
            wanted: Which.
            limit: At most so many.
            after: The ``cursor`` of the page before, of the same filter.

        Raises:
            RequestError: The filter, the limit or the cursor makes no sense.
        """
        check_number("limit", limit, least=1)
        asked, before = wanted.wanted(), _position(after)
        engine = self._running()
        found = await engine.in_thread(lambda: engine.store.search(asked, limit=limit, before=before))
        sagas = await self._summaries(found.rows)
        cursor = None if found.before is None else str(found.before)
        return SagaPage(sagas=tuple(x for x in sagas if wanted.step in (None, "", x.step)), cursor=cursor)

    async def counts(self) -> SagaCounts:
        """Counts the sagas there are: few of a status exactly, many as the database estimates."""
        engine = self._running()
        statuses = await engine.in_thread(engine.store.count_by_status)
        return SagaCounts.of(statuses, await engine.in_thread(engine.store.count_open))

    async def rates(self, minutes: float = 5.0) -> SagaRates:
        """Counts what began and ended in the last minutes, by the minute.

        Raises:
            RequestError: ``minutes`` is not above 0.
        """
        check_number("minutes", minutes, above=True)
        engine = self._running()
        now: float = await engine.in_thread(engine.store.time, engine.clock.now())
        return SagaRates.of(await engine.in_thread(engine.store.tally, now - minutes * _MINUTE), now)

    async def stuck(self, limit: int = 1_000) -> StuckSagas:
        """Groups the stuck sagas by their cause; at most so many, the newest.

        Raises:
            RequestError: The limit is not at least 1.
        """
        check_number("limit", limit, least=1)
        engine = self._running()
        found = await engine.in_thread(lambda: engine.store.search(Wanted(statuses=("stuck",)), limit=limit))
        return StuckSagas.of(await self._summaries(found.rows), complete=found.before is None)

    async def locks(self, limit: int = 1_000) -> builtins.list[LinePlace]:
        """Reads who holds locks and who waits for them: by name, the holder first; at most so many places.

        Raises:
            RequestError: The limit is not at least 1.
        """
        check_number("limit", limit, least=1)
        engine = self._running()
        return [LinePlace.of(row) for row in await engine.in_thread(engine.store.lines, limit)]

    async def stats(self, *, since: float | timedelta = 3600.0, name: str | None = None, limit: int = 50_000) -> Stats:
        """Reads what happened to the sagas that started lately: how many, how long, how often undone, what is unusual.

        It reads their journals, some at a time. Archived sagas are counted, deleted ones are not there any more.

        Args:
            since: How far back, in seconds or as a ``timedelta``.
            name: Only this saga.
            limit: How many sagas are read at most, the newest ones; and some of those before, to compare with.

        Raises:
            RequestError: ``since`` or ``limit`` is out of its range.
        """
        engine = self._running()
        return await read_stats(
            engine.store, engine.in_thread, now=engine.clock.now(), since=since, name=name, limit=limit,
            codec=engine.codec,
        )  # fmt: skip

    async def coordinators(self) -> builtins.list[CoordinatorView]:
        """Reads which coordinators are alive and what they have code for."""
        engine = self._running()
        return coordinators(await engine.in_thread(engine.store.leases, engine.clock.now()))

    async def _summaries(self, rows: Sequence[SagaRow]) -> builtins.list[SagaSummary]:
        """Describes rows."""
        engine = self._running()
        fleet = await engine.in_thread(fleet_for, engine.store, rows, engine.clock.now())
        return [summary_of(row, fleet) for row in rows]


def _standing(journal: Sequence[JournalRow]) -> Standing:
    """Says how a saga stands."""
    revision = revision_of(journal)
    return Standing(revision=revision, since=utc(journal[revision].at))


def _position(cursor: str | None) -> int | None:
    """Reads a cursor.

    Raises:
        RequestError: It is none.
    """
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > len(str(2**63)):
        raise RequestError(f"after={cursor!r} is no cursor of a page")
    return min(int(cursor), 2**63 - 1)
