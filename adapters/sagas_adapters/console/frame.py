"""What all pages of a console have in common: who may see them, and what is around them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sagas.errors import (
    CoordinatorClosed,
    NotApplicable,
    PayloadError,
    RequestError,
    SagaError,
    SagaNotFound,
    StoreUnavailable,
    TransportError,
)
from sagas_adapters.console.forms import Forms, Refusal
from sagas_adapters.console.rendering import address, render
from sagas_adapters.console.visitors import Door, Visitor, came_by_header

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sagas_adapters.console.reading import Reading

__all__ = ["NAVIGATION", "Frame", "here", "page_of"]

logger = logging.getLogger("sagas.console")

NAVIGATION: Final = (
    ("./", "Sagas"),
    ("stuck", "Stuck"),
    ("coordinators", "Coordinators"),
    ("queues", "Queues"),
    ("schedules", "Schedules"),
    ("locks", "Locks"),
)
# What each error says to whoever asked, the first that fits.
_ERRORS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (SagaNotFound, 404, "There is no such saga"),
    (NotApplicable, 409, "The saga does not allow this now"),
    (CoordinatorClosed, 503, "The console is closing"),
    (RequestError, 400, "This cannot be done"),
    (PayloadError, 422, "This does not fit"),
    (TransportError, 502, "The queue does not do this now"),
    (StoreUnavailable, 503, "The journal's database does not answer"),
    (SagaError, 500, "This could not be read"),
)
# What stays as it is in a query that somebody sent; whatever is no ASCII text in it is not.
_IN_QUERIES: Final = "%&=+;:/?@!$'()*,-._~[]|"
_MISSING: Final = {404: "There is no such page", 405: "This page takes no such request"}
_NOBODY: Final = (
    "Nobody may look at this console from another machine, or through a proxy, before it is told who may: start "
    "`sagas console` with --token, or mount console_app(…) with tokens= or authenticate=."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Answers requests with pages.

    Attributes:
        reading: Gives what pages show.
        door: Knows who is who.
        forms: Knows which forms are ours.
        title: Of the console.
        login_url: Where people sign in to the host application, if it asks them.
        trace_url: Where a trace is shown, with ``{trace_id}``.
        clock: POSIX time.
    """

    reading: Reading
    door: Door
    forms: Forms
    title: str
    login_url: str | None
    trace_url: str | None
    clock: Callable[[], float] = time.time

    async def admit(self, request: Request, *, to_act: bool = False) -> Visitor:
        """Gives who makes a request.

        Raises:
            Refusal: They may not.
        """
        visitor = await self.door.visitor(request, self.clock())
        if visitor is None:
            raise self._stranger(request)
        if to_act and not visitor.may_act:
            raise Refusal(403, "Only operators may do this", f"{visitor.name} may look, and nothing was done.")
        return visitor

    def _stranger(self, request: Request) -> Refusal:
        """Says what somebody unknown can do."""
        if self.door.is_local:
            return Refusal(403, "Not from there", _NOBODY)
        where = self.login_url
        if self.door.asks_for_tokens:
            target = here(request) if request.method == "GET" else "./"
            where = address("login", to="" if target == "./" else target)
        text = "Nothing was done, and nothing is shown, before you have."
        return Refusal(401, "Sign in first", text, back=where or "", back_label="Sign in")

    async def form(self, request: Request, visitor: Visitor | None) -> dict[str, str]:
        """Reads a form with one value a field; raises as ``Forms.read``."""
        return dict(await self.fields(request, visitor))

    async def fields(self, request: Request, visitor: Visitor | None) -> list[tuple[str, str]]:
        """Reads a form; raises as ``Forms.read``."""
        return await self.forms.read(request, _whose(visitor), by_header=came_by_header(request))

    # --- answers ------------------------------------------------------------------------------------------------

    def page(
        self,
        request: Request,
        visitor: Visitor | None,
        template: str,
        *,
        heading: str,
        status: int = 200,
        live: bool = False,
        **told: Any,
    ) -> Response:
        """Answers with a page."""
        from starlette.responses import HTMLResponse

        around: dict[str, Any] = {
            "console_title": self.title,
            "navigation": NAVIGATION,
            "here": page_of(request),
            "visitor": visitor,
            "signs_out": self.door.asks_for_tokens and not came_by_header(request),
            "csrf": self.forms.mark(request, _whose(visitor)),
            "now": datetime.fromtimestamp(self.clock(), UTC),
            "heading": heading,
            "live": live,
        }
        response = HTMLResponse(render(template, **{**around, **told}), status)
        self.forms.keep(request, response)
        return response

    def refuse(self, request: Request, refusal: Refusal, visitor: Visitor | None = None) -> Response:
        """Answers with what is the matter."""
        from starlette.responses import Response

        if refusal.status == 401 and refusal.back:  # noqa: PLR2004 - unauthorized
            if "hx-request" in request.headers:
                return Response(status_code=401, headers={"HX-Redirect": refusal.back})
            if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
                return Response(status_code=303, headers={"Location": refusal.back})
        response = self.page(
            request, visitor, "message.html", heading=refusal.heading, status=refusal.status, text=refusal.text,
            back=refusal.back, back_label=refusal.back_label,
        )  # fmt: skip
        if refusal.status == 401 and self.door.asks_for_tokens:  # noqa: PLR2004 - unauthorized
            response.headers["WWW-Authenticate"] = 'Bearer realm="sagas console"'
        return response

    async def fail(self, request: Request, error: Exception) -> Response:
        """Answers when something has gone wrong, to whom it may be told."""
        if isinstance(error, Refusal):
            return self.refuse(request, error, await self._known(request))
        if isinstance(getattr(error, "status_code", None), int):  # the host's own way to say no, in `authenticate`
            return await self.missing(request, error)
        for kind, status, heading in _ERRORS:
            if isinstance(error, kind):
                return self.refuse(request, Refusal(status, heading, str(error)), await self._known(request))
        logger.error("a page of the console failed: %s", page_of(request), exc_info=error)
        text = "Something went wrong here; the log of the server tells what."
        return self.refuse(request, Refusal(500, "This failed", text))

    async def missing(self, request: Request, error: Exception) -> Response:
        """Answers where there is no page, or none that takes this."""
        status: int = getattr(error, "status_code", 404)
        heading = _MISSING.get(status, "This was refused")
        return self.refuse(request, Refusal(status, heading, "Nothing was done."), await self._known(request))

    async def _known(self, request: Request) -> Visitor | None:
        """Gives who asks, if that can be found out."""
        try:
            return await self.door.visitor(request, self.clock())
        except Exception:  # noqa: BLE001 - it may be the very thing that fails; then nobody is shown
            return None


def _whose(visitor: Visitor | None) -> str:
    """Names somebody for the marks of forms, apart from whoever takes the same name and may do less."""
    return "" if visitor is None else f"{visitor.role} {visitor.name}"


def page_of(request: Request) -> str:
    """Gives the page that a request is for, from any other page."""
    return str(request.scope["path"]).rpartition("/")[2] or "./"


def here(request: Request) -> str:
    """Gives the address of the page that a request is for, with its query, from any other page."""
    query = quote(bytes(request.scope["query_string"]), safe=_IN_QUERIES)
    return page_of(request) + (f"?{query}" if query else "")
