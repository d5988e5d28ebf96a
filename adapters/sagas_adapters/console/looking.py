"""The pages that show something, and follow it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

from sagas.errors import RequestError
from sagas_adapters.console.deeds import DEEDS
from sagas_adapters.console.events import Changes, Stream, fingerprint
from sagas_adapters.console.filters import AGES, STATUSES, filled_in, place, wanted
from sagas_adapters.console.forms import Refusal
from sagas_adapters.console.frame import Frame, here, page_of
from sagas_adapters.console.reading import Given
from sagas_adapters.console.rendering import address

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sagas_adapters.console.reading import Reading

__all__ = ["PAGES", "Looking", "Page"]

Query = Mapping[str, str]
Told = dict[str, Any]


class Page(NamedTuple):
    """A page that shows something.

    Attributes:
        heading: What it is called.
        template: Which shows it.
        load: Reads what it shows; how a saga stands and nothing that passes by itself, such as how long ago.
        follows: Whether it is looked at again and again.
        draw: Adds what depends on the time, which alone is no change.
    """

    heading: str
    template: str
    load: Callable[[Reading, Query], Awaitable[Told]]
    follows: bool = True
    draw: Callable[[Told, datetime], Told] = lambda _told, _now: {}


class Looking:
    """Answers for them.

    Args:
        frame: Around them.
        changes: Looks at what is followed.
    """

    def __init__(self, frame: Frame, changes: Changes) -> None:
        self._frame = frame
        self._changes = changes

    async def show(self, request: Request) -> Response:
        """Shows a page."""
        frame = self._frame
        visitor = await frame.admit(request)
        page = PAGES[page_of(request)]
        told = await page.load(frame.reading, request.query_params)
        stream = address("events", of=here(request), seen=fingerprint(told))
        told |= page.draw(told, datetime.fromtimestamp(frame.clock(), UTC))
        around: Told = {"trace_url": frame.trace_url, "done": None, "stream": stream, "this": here(request)}
        return frame.page(
            request, visitor, page.template, heading=page.heading, live=page.follows, **{**around, **told}
        )

    async def events(self, request: Request) -> Stream:
        """Tells when a page has something else to show."""
        visitor = await self._frame.admit(request)
        followed = request.query_params.get("of", "")
        path, _, sent = followed.partition("?")
        page = PAGES.get(path or "./")
        if page is None or not page.follows:
            raise Refusal(404, "There is no such page", "So nothing can be told of it.")
        query = dict(parse_qsl(sent, keep_blank_values=True))
        whose, seen = f"{visitor.role} {visitor.name}", request.query_params.get("seen", "")
        return await self._changes.open(whose, followed, seen, lambda: page.load(self._frame.reading, query))


async def _sagas(reading: Reading, query: Query) -> Told:
    given = filled_in(query)
    shown: Told = {"given": given, "statuses": STATUSES, "ages": AGES, "problem": ""}
    try:
        found = await reading.sagas(wanted(given, datetime.now(UTC)), place(given) or None)
    except RequestError as error:  # what was filled in makes no sense: the form is shown again
        found = {**await reading.sagas(wanted(filled_in({}), datetime.now(UTC)), None), "rows": (), "next": None}
        shown["problem"] = str(error)
    older = found.pop("next")
    links = {"newest": _list({**given, "before": ""}), "older": older and _list({**given, "before": older})}
    return {**shown, **found, **links}


def _drawn(told: Told, now: datetime) -> Told:
    """Draws a saga; its drawings have no styles of their own, and link to the steps of the page."""
    from markupsafe import Markup

    from sagas.drawing import as_gantt, as_graph

    graph = as_graph(told["saga"], style=False, anchor="step-")
    gantt = as_gantt(told["saga"], now=now, style=False, anchor="step-")
    # They are markup by themselves, with whatever a saga says escaped in them.
    return {"graph": Markup(graph), "gantt": Markup(gantt)}  # noqa: S704


def _list(fields: Mapping[str, str]) -> str:
    """Gives the address of a list."""
    return address("", **fields)


async def _stuck(reading: Reading, query: Query) -> Told:
    return {**await reading.stuck(), "done": _number(query)}


async def _locks(reading: Reading, query: Query) -> Told:  # noqa: ARG001 - as all loaders
    return await reading.locks()


async def _coordinators(reading: Reading, query: Query) -> Told:  # noqa: ARG001 - as all loaders
    return {"coordinators": await reading.coordinators()}


async def _schedules(reading: Reading, query: Query) -> Told:
    return {"schedules": await reading.schedules(), "done": query.get("done")}


async def _queues(reading: Reading, query: Query) -> Told:
    return {"queues": await reading.queues.views(), "done": _number(query), "left": query.get("more") == "yes"}


async def _letter(reading: Reading, query: Query) -> Told:
    number = query.get("queue", "")
    letter = await reading.queues.letter(number, query.get("id", ""))
    return {"queue": reading.queues.named(number), "letter": letter, "body": await reading.body_of(letter)}


async def _saga(reading: Reading, query: Query) -> Told:
    return await reading.saga(_id(query), _given(query))


async def _journal(reading: Reading, query: Query) -> Told:
    after = query.get("after", "")
    return await reading.journal(_id(query), int(after[:18]) if after.isascii() and after.isdigit() else -1)


def _given(query: Query) -> Given | None:
    """Gives what somebody had just done to a saga; addresses can be made up, so anything else is nothing."""
    do, since = query.get("done", ""), query.get("since", "")
    return Given(do, int(since[:18])) if do in DEEDS and since.isascii() and since.isdigit() else None


def _number(query: Query) -> str:
    """Gives how many it was that something was done to; addresses can be made up, so nothing else is shown."""
    done = query.get("done", "")
    return done if done.isascii() and done.isdigit() else ""


def _id(query: Query) -> str:
    """Gives the id of the saga that a page is about.

    Raises:
        Refusal: There is none.
    """
    saga_id = query.get("id", "").replace("\x00", "")  # which databases take for an error
    if not saga_id:
        raise Refusal(400, "Which saga?", "The address lacks its id.")
    return saga_id


PAGES: Final[Mapping[str, Page]] = {
    "./": Page("Sagas", "list.html", _sagas),
    "stuck": Page("Stuck", "stuck.html", _stuck),
    "locks": Page("Locks", "locks.html", _locks),
    "saga": Page("Saga", "saga.html", _saga, draw=_drawn),
    "journal": Page("Journal", "journal.html", _journal, follows=False),
    "coordinators": Page("Coordinators", "coordinators.html", _coordinators),
    "queues": Page("Queues", "queues.html", _queues, follows=False),
    "letter": Page("Dead letter", "letter.html", _letter, follows=False),
    "schedules": Page("Schedules", "schedules.html", _schedules),
}
