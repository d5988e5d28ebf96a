"""The commands of operators, who tell a saga something: what they do is in ``ordering``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sagas.cli.options import Json, SagaId, Store, url_of
from sagas.cli.problems import Problem, complain

if TYPE_CHECKING:
    from sagas.cli.ordering import Taken

__all__ = ["add_to"]

_LONGEST_NAME = 200
_DEFAULT_WAIT = 5.0

Path = Annotated[
    str | None,
    typer.Option("--path", help="Only this step, such as 2 or 3:0; all that halt the saga by default."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever reads the journal later.")]
By = Annotated[str | None, typer.Option("--by", help="Who asks, for the journal; your login name by default.")]
Why = Annotated[str, typer.Option("--reason", help="Why, if you like, for whoever reads the journal later.")]
Expected = Annotated[
    int | None,
    typer.Option("--expected", metavar="REVISION", help="Only if nothing has happened since this one, of show --json."),
]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for what comes of it.")]


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (signal, cancel, retry, skip, resume):
        app.command()(command)


def signal(
    saga_id: SagaId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As in receive(NAME, …).")],
    *,
    payload: Annotated[str, typer.Option("--payload", metavar="JSON", help="What it carries.")] = "null",
    by: By = None,
    reason: Why = "",
    expected: Expected = None,
    wait: Wait = _DEFAULT_WAIT,
    store: Store = None,
    json: Json = False,
) -> None:
    """Send a saga a signal. It is kept until the body receives it."""
    if not name or len(name) > _LONGEST_NAME:
        raise Problem(f"{name!r} cannot name a signal: use 1 to {_LONGEST_NAME} characters")
    fields = {"name": name, "payload": _json_bytes(payload, "--payload"), "by": _who(by), "reason": reason}
    _order(saga_id, "signal", store, wait, json=json, expected=expected, **fields)


def cancel(
    saga_id: SagaId,
    *,
    reason: Reason,
    by: By = None,
    expected: Expected = None,
    wait: Wait = _DEFAULT_WAIT,
    store: Store = None,
    json: Json = False,
) -> None:
    """Cancel a saga: what it did is undone."""
    _order(saga_id, "cancel", store, wait, json=json, expected=expected, reason=_reason(reason), by=_who(by))


def retry(
    saga_id: SagaId,
    *,
    path: Path = None,
    by: By = None,
    reason: Why = "",
    expected: Expected = None,
    wait: Wait = _DEFAULT_WAIT,
    store: Store = None,
    json: Json = False,
) -> None:
    """Try again what halts a stuck saga, with a new budget of attempts."""
    _order(saga_id, "retry", store, wait, json=json, expected=expected, path=path, by=_who(by), reason=reason)


def skip(
    saga_id: SagaId,
    *,
    reason: Reason,
    path: Path = None,
    by: By = None,
    expected: Expected = None,
    wait: Wait = _DEFAULT_WAIT,
    store: Store = None,
    json: Json = False,
) -> None:
    """Go on without what halts a stuck saga: you vouch that nothing is left to undo there."""
    fields = {"reason": _reason(reason), "path": path, "by": _who(by)}
    _order(saga_id, "skip", store, wait, json=json, expected=expected, **fields)


def resume(
    saga_id: SagaId,
    *,
    by: By = None,
    reason: Why = "",
    expected: Expected = None,
    wait: Wait = _DEFAULT_WAIT,
    store: Store = None,
    json: Json = False,
) -> None:
    """Let a saga that was parked go on with the code that its coordinator has now."""
    _order(saga_id, "resume", store, wait, json=json, expected=expected, by=_who(by), reason=reason)


def _order(
    saga_id: str, kind: str, store: str | None, wait: float, *, json: bool, expected: int | None, **fields: object
) -> None:
    """Posts an order and tells what came of it."""
    from sagas.cli.ordering import give
    from sagas.cli.reading import existing_store
    from sagas.cli.rendering import print_json

    with existing_store(url_of(store)) as opened:
        said = {what: value for what, value in fields.items() if value or what != "reason"}
        taken: Taken = give(opened, saga_id, kind, wait, said, expected)
    if json:
        print_json(taken)
    elif not taken.refused:
        typer.echo(taken.message)
    if taken.refused:
        complain(taken.message)
        raise typer.Exit(1)


def _json_bytes(text: str, option: str) -> bytes:
    """Checks that an option is JSON.

    Raises:
        Problem: It is not.
    """
    import orjson

    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(f"{option} is not JSON: {error}; quote texts, as in {option} '\"yes\"'") from error
    return text.encode()


def _reason(reason: str) -> str:
    """Refuses an empty reason.

    Raises:
        Problem: It is empty.
    """
    if not reason.strip():
        raise Problem("--reason is empty; say why, for whoever reads the journal later")
    return reason


def _who(by: str | None) -> str:
    """Names who asks."""
    import getpass

    if by is not None:
        return by
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return ""
