"""The command that serves the operator's console in a browser."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sagas.cli.options import Json, Secrets, Store, url_of
from sagas.cli.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["add_to"]

_LOOPBACK = "127.0.0.1"
_PORT = 8421


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(console)


def console(
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; others only with a token.")] = _LOOPBACK,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="And its port; 0 for any.")] = _PORT,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="SAGAS_CONSOLE_TOKEN", help="Lets operators in. Better set in the environment."),
    ] = None,
    viewer_token: Annotated[
        str | None,
        typer.Option("--viewer-token", envvar="SAGAS_CONSOLE_VIEWER_TOKEN", help="Lets in people who only look."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Everybody only looks.")] = False,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", envvar="SAGAS_QUEUE", metavar="URL", help="Shows its dead letters; several times."),
    ] = None,
    trace_url: Annotated[
        str | None,
        typer.Option("--trace-url", metavar="URL", help="Where traces are: http://localhost:16686/trace/{trace_id}"),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Answer to this name, such as that of a proxy; several."),
    ] = None,
    secret: Secrets = "",
    codec: Annotated[
        str | None, typer.Option("--codec", metavar="MODULE:NAME", help="What the journal is written through, if so.")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Serve a console in the browser: what runs, what is stuck and why, and what can be done about it.

    Without a token only this machine can use it. Ends with Ctrl-C.
    """
    from sagas.cli.importing import find_codec
    from sagas.cli.reading import existing_store

    url = url_of(store)
    role = "viewer" if read_only else "operator"
    tokens = {text: what for text, what in ((token, role), (viewer_token, "viewer")) if text}
    if token is not None and token == viewer_token:
        raise Problem("--token and --viewer-token are the same; who has it could be either")
    with existing_store(url):
        pass  # whatever is wrong with it is told in one line, before anything listens
    adapter = importlib.import_module("sagas_adapters.console")  # by its name: the library knows none of its adapters
    options: dict[str, Any] = {
        "tokens": tokens,
        "loopback": adapter.Visitor(_login(), role),
        "queues": queue or (),
        "trace_url": trace_url,
        "hosts": allow_host or (),
    }
    options |= {"host": host, "port": port, "started": _tell(json=json)}
    hidden = [name.strip() for name in secret.split(",") if name.strip()]
    client = {"store": url, "secret_fields": hidden, "codec": None if codec is None else find_codec(codec)}
    _serve(adapter, client, options)


def _login() -> str:
    """Names who has started it."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "somebody on this machine"


def _tell(*, json: bool) -> Callable[[str], None]:
    """Gives what tells where the console is."""
    from sagas.cli.rendering import print_json

    return lambda url: print_json({"url": url}) if json else typer.echo(f"The console is at {url} (Ctrl-C ends it)")


def _serve(adapter: Any, client: dict[str, Any], options: dict[str, Any]) -> None:
    """Serves until it is told to end.

    Raises:
        Problem: The address cannot be used.
    """
    import anyio

    from sagas.coordinator import Client

    async def serve() -> None:
        await adapter.serve_console(Client(**client, name="console"), **options)

    try:
        anyio.run(serve)
    except OSError as error:
        where = f"{options['host']}:{options['port']}"
        raise Problem(f"the console cannot listen at {where}: {error.strerror or error}; use --port") from error
