"""The commands that deal with messages which nobody could handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sagas.cli.options import Json
from sagas.cli.problems import Problem, complain, printable
from sagas.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sagas.transport import DeadLetter, Queue

__all__ = ["add_to"]

T = TypeVar("T")

Where = Annotated[
    str | None,
    typer.Option(
        "--queue", envvar="SAGAS_QUEUE", metavar="URL", help="Which queue: nats://localhost:4222?queue=payments"
    ),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most, the oldest first.")]
Letter = Annotated[str, typer.Argument(metavar="ID", help="As in the list.")]
_ALL = 10_000
_MOST = 2**31 - 1  # that every broker and database can count


def add_to(app: typer.Typer) -> None:
    """Adds the commands, under ``dlq``."""
    letters = typer.Typer(no_args_is_help=True, help="Dead letters: messages of a queue that nobody could handle.")
    for name, command in (("list", list_letters), ("show", show), ("redrive", redrive)):
        letters.command(name)(command)
    app.add_typer(letters, name="dlq")


def list_letters(*, queue: Where = None, limit: Limit = 100, json: Json = False) -> None:
    """List the dead letters of a queue, oldest first, each with how often it was delivered and why it failed."""
    from sagas.cli.rendering import columns, print_json
    from sagas.cli.rendering import show as write

    found = _with(queue, lambda opened: opened.dead_letters(min(limit, _MOST)))
    if json:
        print_json([_told(letter) for letter in found])
        return
    rows = [("ID", "DELIVERED", "WHAT", "REASON")]
    rows += [(x.id, str(x.count), _what(x), printable(x.reason)) for x in found]
    write(*(columns(rows) if found else ["no dead letters"]))


def show(letter: Letter, *, queue: Where = None, json: Json = False) -> None:
    """Show a dead letter: its headers, its body, and why it failed."""
    from sagas.cli.rendering import print_json
    from sagas.cli.rendering import show as write

    found = next((x for x in _with(queue, lambda opened: opened.dead_letters(_ALL)) if x.id == letter), None)
    if found is None:
        raise Problem(f"the queue has no dead letter {letter!r}; `sagas dlq list` lists them")
    if json:
        print_json(_told(found))
        return
    headers = [f"  {printable(name)}: {printable(value)}" for name, value in sorted(found.message.headers.items())]
    body = printable(found.message.body.decode(errors="replace"))
    write(
        f"{found.id}, delivered {found.count} times", f"reason: {printable(found.reason)}", "headers:", *headers,
        f"body ({len(found.message.body)} bytes):", f"  {body}",
    )  # fmt: skip


def redrive(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    queue: Where = None,
    json: Json = False,
) -> None:
    """Send dead letters back to their queue, as if they were new."""
    from sagas.cli.rendering import print_json
    from sagas.cli.rendering import show as write

    if every == bool(letters):
        raise Problem("which dead letters? Name them, or pass --all")
    count = _with(queue, lambda opened: opened.redrive(None if every else list(letters or ())))
    if json:
        print_json({"redriven": count})
    else:
        write(f"{count} sent back")
    if letters and count < len(letters):
        raise typer.Exit(1)


def _with(url: str | None, work: Callable[[Queue], Awaitable[T]]) -> T:
    """Opens a queue, does something with it, and closes it.

    Raises:
        Problem: Nobody said which.
        Exit: The queue cannot do that, or cannot be reached.
    """
    import anyio

    from sagas.transport import open_queue

    if not url:
        raise Problem("which queue? Pass --queue nats://localhost:4222?queue=payments, or set SAGAS_QUEUE")

    async def do() -> T:
        queue = open_queue(url)
        try:
            return await work(queue)
        finally:
            await queue.close()

    try:
        return anyio.run(do)
    except TransportError as error:
        complain(str(error))
        raise typer.Exit(1) from error


def _what(letter: DeadLetter) -> str:
    """Says in a few words what a message is."""
    headers = letter.message.headers
    kind, subject = headers.get("ce-type", ""), headers.get("ce-sagakey") or headers.get("ce-subject", "")
    return printable(f"{kind} {subject}".strip() or f"{len(letter.message.body)} bytes")


def _told(letter: DeadLetter) -> dict[str, object]:
    """Gives a dead letter as JSON has it."""
    return {
        "id": letter.id,
        "count": letter.count,
        "reason": letter.reason,
        "headers": dict(letter.message.headers),
        "body": letter.message.body.decode(errors="replace"),
    }
