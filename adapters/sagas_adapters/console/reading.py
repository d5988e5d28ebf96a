"""What pages show, read from a client or a coordinator; and what they have done, by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
import orjson

from sagas.errors import NotApplicable, SagaError
from sagas_adapters.console.deeds import DEEDS, concerned, only_forward, possible
from sagas_adapters.console.forms import Refusal
from sagas_adapters.console.rendering import pretty

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.coordinator import Client, Coordinator, SagaFilter, SagaView, StuckGroup
    from sagas.transport import DeadLetter
    from sagas_adapters.console.queues import Queues

__all__ = ["Given", "Outcome", "Reading"]

Told = dict[str, Any]
# Rows of a list, records of a journal, and lines of a timeline that a page shows.
_MOST_ROWS: Final = 50
_MOST_RECORDS: Final = 200
_MOST_LINES: Final = 500
_MOST_LOCKS: Final = 500
# Stuck sagas that are grouped, and those of a group that are acted on together.
_MOST_STUCK: Final = 1000
_MOST_TOGETHER: Final = 100
_MINUTES: Final = 5.0
# Seconds for which counts hold: to count many takes much longer than to read a page of a list.
_COUNT_HOLDS: Final = 2.0


_TO_SCHEDULES: Final = {"back": "schedules", "back_label": "To the schedules"}


class Given(NamedTuple):
    """An order that was given to a saga.

    Attributes:
        do: What, of ``DEEDS``.
        since: The saga's ``revision`` before.
    """

    do: str
    since: int


class Outcome(NamedTuple):
    """What became of something that was done to one of several sagas.

    Attributes:
        saga_id: Which.
        problem: Why nothing was done to it, or ``""``.
    """

    saga_id: str
    problem: str


class Reading:
    """Reads and acts.

    Args:
        of: A client or a coordinator, or what gives one.
        queues: That are shown.
    """

    def __init__(self, of: Client | Coordinator | Callable[[], Client | Coordinator], queues: Queues) -> None:
        self._of = of
        self.queues = queues
        self._counting = anyio.Lock()
        self._counted: Told = {}
        self._counted_at = float("-inf")

    @property
    def _desk(self) -> Client | Coordinator:
        """Gives who is asked."""
        return self._of() if callable(self._of) else self._of

    # --- many sagas ---------------------------------------------------------------------------------------------

    async def sagas(self, wanted: SagaFilter, after: str | None) -> Told:
        """Looks for sagas, and counts all there are."""
        page = await self._desk.search(wanted, limit=_MOST_ROWS, after=after)
        return {"rows": page.sagas, "next": page.cursor, **await self._numbers()}

    async def _numbers(self) -> Told:
        """Counts all sagas, for all who look within some seconds."""
        async with self._counting:
            if anyio.current_time() - self._counted_at >= _COUNT_HOLDS:
                counts, rates = await self._desk.counts(), (await self._desk.rates(_MINUTES)).total
                self._counted = {
                    "counts": list(counts.statuses.items()),
                    # As they are shown: as they are, they are never twice the same.
                    "rates": [f"{rate:.1f}" for rate in (rates.started, rates.completed, rates.compensated)],
                }
                self._counted_at = anyio.current_time()
        return self._counted

    async def stuck(self) -> Told:
        """Groups what is stuck."""
        stuck = await self._desk.stuck(_MOST_STUCK)
        total = sum(len(group.sagas) for group in stuck.groups)
        return {"groups": stuck.groups, "total": total, "more": not stuck.complete, "deeds": DEEDS}

    async def group(self, key: str) -> Told:
        """Reads a group of stuck sagas, with how each of those that are acted on together stands.

        Raises:
            Refusal: There is none.
        """
        stuck = await self._desk.stuck(_MOST_STUCK)
        group: StuckGroup | None = next((one for one in stuck.groups if one.key == key), None)
        if group is None:
            text = "Its sagas may have gone on meanwhile. Nothing was done."
            raise Refusal(404, "Nothing is stuck for this cause", text, back="stuck", back_label="To what is stuck")
        members = await self._desk.standings([one.id for one in group.sagas[:_MOST_TOGETHER]])
        return {"group": group, "members": members.items(), "rest": len(group.sagas) - len(members)}

    async def locks(self) -> Told:
        """Reads who holds locks, and who waits."""
        found = await self._desk.locks(_MOST_LOCKS + 1)
        return {"locks": found[:_MOST_LOCKS], "more": len(found) > _MOST_LOCKS}

    async def coordinators(self) -> object:
        """Reads who is alive."""
        return await self._desk.coordinators()

    async def schedules(self) -> object:
        """Reads the schedules."""
        return await self._desk.schedules()

    # --- one saga -----------------------------------------------------------------------------------------------

    async def saga(self, saga_id: str, given: Given | None) -> Told:
        """Reads everything about a saga, and what came of an order that was given to it."""
        from sagas.coordinator.aftermath import aftermath

        posted = await self._desk.posted(saga_id)  # before the journal, which then has what is no longer posted
        saga = await self._desk.get(saga_id)
        driver = next((one.name for one in await self._desk.coordinators() if one.id == saga.owner), None)
        return {
            "saga": saga,
            "halted": concerned(saga, ""),
            "possible": possible(saga),
            "only_forward": only_forward(saga),
            "posted": posted or (),
            "given": given and given.do,
            "aftermath": given and aftermath(saga, posted, given.do, given.since),
            "deeds": DEEDS,
            "driver": driver,
            "records": len({line.seq for line in saga.timeline}),
            "shown": min(_MOST_LINES, len(saga.timeline)),
        }

    async def standing(self, saga_id: str) -> SagaView:
        """Reads how a saga stands, for somebody who is about to do something to it."""
        return await self._desk.get(saga_id)

    async def journal(self, saga_id: str, after: int) -> Told:
        """Reads a saga's records, from behind one."""
        records = [record for record in await self._desk.journal(saga_id) if record.seq > after]
        rows = records[:_MOST_RECORDS]
        return {"id": saga_id, "rows": rows, "next": rows[-1].seq if len(records) > len(rows) else None}

    async def body_of(self, letter: DeadLetter) -> str:
        """Gives what a message carries, for people."""
        try:
            body = orjson.loads(letter.message.body)
        except orjson.JSONDecodeError:
            return letter.message.body.decode(errors="replace")
        return pretty(await self._desk.masked(body, of=letter.message.headers.get("ce-subject", "")))

    # --- what is done -------------------------------------------------------------------------------------------

    async def act(self, do: str, saga_id: str, given: Mapping[str, str], by: str) -> int:
        """Does something to a saga, if it still stands as the form has it; gives its ``revision`` before.

        Raises:
            RequestError: Its state does not allow it, or has changed, or the form is wrong.
        """
        desk, path, reason = self._desk, given.get("path") or None, given.get("reason", "").strip()
        # A saga that runs moves on all the time: what counts for it is that it still runs.
        expected = None if do in ("signal", "cancel") else _expected(given.get("expected", ""))
        before = expected if expected is not None else await self._refuse_turned(saga_id, given.get("status", ""))
        match do:
            case "retry":
                await desk.retry(saga_id, path=path, by=by, reason=reason, expected=expected)
            case "skip":
                await desk.skip(saga_id, path=path, by=by, reason=reason, expected=expected)
            case "resume":
                await desk.resume(saga_id, by=by, reason=reason, expected=expected)
            case "cancel":
                await desk.cancel(saga_id, by=by, reason=reason)
            case _:
                payload = orjson.loads(given.get("payload", "").strip() or "null")
                name = given.get("signal", "").strip()
                await desk.signal(saga_id, name, payload, by=by, reason=reason)
        return before

    async def _refuse_turned(self, saga_id: str, status: str) -> int:
        """Refuses what was meant for a saga that ran, or was stuck, and does not any more; gives its ``revision``.

        Raises:
            NotApplicable: It is one.
        """
        saga = await self._desk.get(saga_id)
        if saga.status != status:
            was = f"was {status}" if status else "was nothing that the form tells"
            raise NotApplicable(f"saga {saga_id} is {saga.status}, and {was} when you looked at it; look again")
        return saga.revision

    async def act_on_all(self, do: str, members: Iterable[str], reason: str, by: str) -> list[Outcome]:
        """Does the same to several sagas, each if it still stands as it did.

        Args:
            do: What.
            members: Each the revision and the id of a saga, as forms have it.
            reason: Why.
            by: Who asks.

        Raises:
            Refusal: One of them has no revision. Nothing was done.
        """
        outcomes: list[Outcome] = []
        parsed = [member.partition(" ") for member in members]
        for expected, _, _ in parsed:
            _expected(expected)  # before anything is done
        for expected, _, saga_id in parsed:
            try:
                await self.act(do, saga_id, {"expected": expected, "reason": reason}, by)
            except SagaError as error:
                outcomes.append(Outcome(saga_id, str(error)))
            else:
                outcomes.append(Outcome(saga_id, ""))
        return outcomes

    async def refuse_done(self, name: str, do: str) -> None:
        """Refuses to ask about a schedule that there is not, or that is paused or active already.

        Raises:
            Refusal: See above.
        """
        paused = {one.name: one.paused for one in await self._desk.schedules()}
        if name not in paused:
            raise Refusal(404, "There is no such schedule", "Nothing was done.", **_TO_SCHEDULES)
        if paused[name] == (do == "pause"):
            text = f"The schedule {name} is {'paused' if paused[name] else 'active'} already. Nothing was done."
            raise Refusal(409, "There is nothing to change", text, **_TO_SCHEDULES)

    async def change_schedule(self, name: str, do: str) -> None:
        """Pauses or resumes a schedule."""
        desk = self._desk
        await (desk.pause_schedule(name) if do == "pause" else desk.resume_schedule(name))


def _expected(text: str) -> int:
    """Gives the revision that a form has seen.

    Raises:
        Refusal: It has none, and nothing may be done blindly.
    """
    if not (text.isascii() and text.isdigit()):
        raise Refusal(400, "This form is not complete", "Nothing was done: it does not say how the saga stood.")
    return int(text[:18])
