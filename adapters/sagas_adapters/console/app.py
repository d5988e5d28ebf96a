"""Puts the console together: an ASGI app to mount, or to run alone."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import urlsplit

from sagas.errors import DeclarationError
from sagas_adapters.console.acting import Acting
from sagas_adapters.console.events import Changes, Stream
from sagas_adapters.console.forms import Forms, Refusal
from sagas_adapters.console.frame import Frame
from sagas_adapters.console.hosts import LOOPBACK
from sagas_adapters.console.looking import PAGES, Looking
from sagas_adapters.console.queues import Queues
from sagas_adapters.console.reading import Reading
from sagas_adapters.console.rendering import STATIC, drawing_style, templates
from sagas_adapters.console.sealing import Seal
from sagas_adapters.console.shield import Shield
from sagas_adapters.console.signing_in import SigningIn
from sagas_adapters.console.visitors import Authenticate, Door, Role, Visitor, key_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from sagas.coordinator import Client, Coordinator

__all__ = ["Console", "console_app"]

_Message: TypeAlias = MutableMapping[str, Any]
# Something that runs an ASGI app can run this.
Console: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]
_Endpoint: TypeAlias = Callable[["Request"], Awaitable["Response | Stream"]]
_KEPT: Final = "public, max-age=31536000, immutable"


def console_app(
    of: Client | Coordinator | Callable[[], Client | Coordinator],
    *,
    tokens: Mapping[str, Role | Visitor] | None = None,
    authenticate: Authenticate | None = None,
    loopback: Visitor | None = Visitor("somebody on this machine", "operator"),  # noqa: B008 - cannot be changed
    login_url: str | None = None,
    hosts: Collection[str] = (),
    queues: Collection[str] = (),
    trace_url: str | None = None,
    secret: str | None = None,
    title: str = "Sagas",
    refresh: float = 1.0,
) -> Console:
    """Makes the console, an ASGI app.

    Without ``tokens`` and ``authenticate``, only who is on this very machine may use it.

    Args:
        of: Whose sagas: a ``Client`` or ``Coordinator``, entered before the first request comes, or a function that
            gives one.
        tokens: What people sign in with: the role of each token, or the ``Visitor`` whose it is. At least 16
            characters each. Also taken as ``Authorization: Bearer …``.
        authenticate: Is given a Starlette request and says who makes it; ``None`` for somebody unknown. May be async.
        loopback: Who comes from this machine, where there are neither; ``None``: nobody does.
        login_url: Where people are sent whom ``authenticate`` does not know.
        hosts: The names that requests may be for, without ports; ``loopback`` stands for all of this machine's own.
            By default all, but where ``loopback`` decides, only those.
        queues: URLs of queues whose dead letters are shown.
        trace_url: Where a trace is shown: ``http://jaeger:16686/trace/{trace_id}``.
        secret: Signs what browsers keep; for several processes behind one address. Made of the tokens by default.
        title: Shown on every page.
        refresh: Seconds between two looks at what a browser shows.

    Raises:
        DeclarationError: Something makes no sense, or Starlette or Jinja2 is not installed.
    """
    _need_libraries()
    if trace_url is not None and (urlsplit(trace_url).scheme not in ("http", "https") or "{trace_id}" not in trace_url):
        raise DeclarationError(f"console_app(trace_url={trace_url!r}): use http://…/trace/{{trace_id}}")
    if not 0 < refresh < float("inf"):
        raise DeclarationError(f"console_app(refresh={refresh!r}): use a number of seconds above 0")
    # Without either, nobody signs in here, and forms hold as long as the process.
    seal = Seal(key_of(secret or ("" if tokens else secrets.token_urlsafe(32)), tokens or {}))
    door = Door(tokens or {}, authenticate, loopback, seal)
    frame = Frame(
        reading=Reading(of, Queues(queues)),
        door=door,
        forms=Forms(seal),
        title=title,
        login_url=login_url,
        trace_url=trace_url,
    )
    return Shield(_routed(frame, refresh), hosts or ((LOOPBACK,) if door.is_local else ()))


def _need_libraries() -> None:
    """Makes sure of what the extra installs.

    Raises:
        DeclarationError: It is not there.
    """
    try:
        importlib.import_module("starlette.applications")
    except ModuleNotFoundError as error:
        raise DeclarationError(f"the console needs {error.name}: pip install 'sagakit[console]'") from error
    templates()


def _routed(frame: Frame, refresh: float) -> Starlette:
    """Says which address leads where."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    looking, acting, signing = Looking(frame, Changes(refresh)), Acting(frame), SigningIn(frame)
    routes = [Route(f"/{path.removeprefix('./')}", looking.show, methods=["GET"]) for path in PAGES]
    routes += [
        Route("/events", looking.events, methods=["GET"]),
        Route("/static/drawing.css", _drawing, methods=["GET"]),
        Route("/static/{name}", _static, methods=["GET"]),
        Route("/login", signing.ask, methods=["GET"]),
        Route("/login", signing.sign_in, methods=["POST"]),
        Route("/logout", signing.sign_out, methods=["POST"]),
    ]
    for path, ask, do in acting.routes():
        routes += [Route(f"/{path}", ask, methods=["GET"]), Route(f"/{path}", do, methods=["POST"])]

    # Not by Starlette's own handlers, of which that for everything else would have the host hear of it as well.
    return Starlette(
        routes=[Route(r.path, _safely(frame, r.endpoint), methods=r.methods) for r in routes],
        exception_handlers={HTTPException: frame.missing},
    )


def _safely(frame: Frame, endpoint: _Endpoint) -> _Endpoint:
    """Has something that goes wrong answered by a page."""

    async def answer(request: Request) -> Response | Stream:
        try:
            return await endpoint(request)
        except Exception as error:  # noqa: BLE001 - logged there, if it is nobody's doing
            return await frame.fail(request, error)

    return answer


async def _drawing(_: Request) -> Response:
    """Gives the style sheet of drawings."""
    from starlette.responses import Response

    return Response(drawing_style(), media_type="text/css", headers={"Cache-Control": _KEPT})


async def _static(request: Request) -> Response:
    """Gives a file that came with the console."""
    from starlette.responses import FileResponse

    # Never a path made of what somebody asks for.
    path = next((path for path in STATIC.iterdir() if path.name == request.path_params["name"]), None)
    if path is None:
        raise Refusal(404, "There is nothing here", "No such file came with the console.")
    return FileResponse(path, headers={"Cache-Control": _KEPT})
