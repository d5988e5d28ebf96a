"""The commands, their arguments and their options; what they do is in the modules beside this one.

Whatever is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sagas.cli import consoling, dead_letters, operations, simulations, stats
from sagas.cli.options import Json, SagaId, Secrets, Store, url_of
from sagas.cli.problems import Commands, Problem, complain
from sagas.errors import SagaError

__all__ = ["app"]

app = typer.Typer(
    cls=Commands,
    help="Runs sagas, shows what became of them, and helps those that are stuck.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
_NOT_TRIED = 2


class Status(StrEnum):
    """How a saga may stand; the first two are for several of the others."""

    OPEN = "open"
    ENDED = "ended"
    RUNNING = "running"
    COMPENSATING = "compensating"
    STUCK = "stuck"
    COMPLETED = "completed"
    COMPENSATED = "compensated"


@app.command()
def demo(*, json: Json = False) -> None:
    """See it work: orders that complete, are undone, and survive a killed process. Takes seconds, leaves nothing."""
    from sagas.cli.demo import run_demo

    raise typer.Exit(run_demo(json=json))


@app.command()
def run(
    saga: Annotated[str, typer.Argument(metavar="MODULE:SAGA", help="Which saga, such as shop.orders:place_order.")],
    *,
    arguments: Annotated[str, typer.Option("--input", metavar="JSON", help="Its arguments: an object by name.")] = "{}",
    saga_id: Annotated[str | None, typer.Option("--id", help="Its id; made up by default.")] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Run a saga to its end in this process. The same id with the same input is the same saga."""
    from sagas.cli.running import run_saga

    raise typer.Exit(run_saga(saga, arguments, saga_id, url_of(store), json=json))


@app.command("list")
def list_sagas(
    *,
    status: Annotated[Status | None, typer.Option("--status", help="Only these.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only this saga.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    before: Annotated[str | None, typer.Option("--before", metavar="ID", help="Only older than this one.")] = None,
    step: Annotated[str | None, typer.Option("--step", help="Only those that stand or failed at this step.")] = None,
    error: Annotated[str, typer.Option("--error", metavar="TEXT", help="Only those with this in their error.")] = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """List sagas, newest first."""
    from sagas.cli.reading import existing_store, find_row, read_summaries
    from sagas.cli.rendering import print_json, render_list
    from sagas.cli.rendering import show as write

    with existing_store(url_of(store)) as opened:
        if before is not None:
            find_row(opened, before)
        wanted = None if status is None else status.value
        rows = read_summaries(opened, status=wanted, name=name, limit=limit, before=before, step=step, error=error)
    if json:
        print_json(rows)
        return
    write(*(render_list(rows) if rows else ["no sagas"]))
    if len(rows) == limit:
        complain(f"there may be more: --limit {limit * 2}, or --before {rows[-1].id}")


@app.command()
def show(
    saga_id: SagaId,
    *,
    graph: Annotated[bool, typer.Option("--graph", help="Draw it: its steps, branches and undos.")] = False,
    secret: Secrets = "",
    store: Store = None,
    json: Json = False,
) -> None:
    """Tell a saga's story: every step, attempt and undo, how long each took, and the cause."""
    from sagas.cli.reading import existing_store, read_view
    from sagas.cli.rendering import print_json, render_graph, render_saga
    from sagas.cli.rendering import show as write

    with existing_store(url_of(store)) as opened:
        view = read_view(opened, saga_id, secret.split(","))
    if json:
        print_json(view)
    else:
        write(*(render_graph(view) if graph else render_saga(view)))


@app.command()
def top(
    *,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end; as without a terminal.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="Between two looks.")] = 2.0,
    store: Store = None,
    json: Json = False,
) -> None:
    """Watch what goes on: what runs, what waits, what is stuck, and how fast. Quit with q."""
    import sys

    from sagas.cli.reading import existing_store
    from sagas.cli.rendering import print_json
    from sagas.cli.rendering import show as write
    from sagas.cli.topping import frame, look, watch

    with existing_store(url_of(store)) as opened:
        if json:
            print_json(look(opened))
        elif once or not sys.stdout.isatty():
            write(*frame(look(opened)))
        else:
            watch(opened, every)


@app.command("retell")
def retell_sagas(
    saga_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="The sagas.")],
    *,
    service: Annotated[str, typer.Option("--service", help="Name of the service that ran them.")] = "sagas",
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", metavar="URL", help="Where to, by OTLP over HTTP: http://host:4318")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Send the traces of sagas again, from the journal, after a process died before it had sent all of them."""
    from sagas.cli import retelling
    from sagas.cli.reading import existing_store
    from sagas.cli.rendering import print_json

    with existing_store(url_of(store)) as opened:
        told = retelling.retell_sagas(opened, saga_ids, service=service, endpoint=endpoint)
    if json:
        print_json(told)
        return
    for saga_id, count in told.items():
        typer.echo(f"{saga_id}: {count} spans" if count else f"{saga_id}: it was not traced, or not in the sample")


@app.command()
def coordinators(*, store: Store = None, json: Json = False) -> None:
    """List the coordinators that are alive, and what each has code for."""
    from sagas.cli.reading import existing_store, read_coordinators
    from sagas.cli.rendering import print_json, render_coordinators
    from sagas.cli.rendering import show as write

    with existing_store(url_of(store)) as opened:
        found = read_coordinators(opened)
    if json:
        print_json(found)
    else:
        write(*(render_coordinators(found) if found else ["no coordinator is alive"]))


@app.command()
def schedules(
    *,
    pause: Annotated[
        str | None, typer.Option("--pause", metavar="NAME", help="Pause this one first: it starts nothing.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="NAME", help="Let this one go on first, from now on.")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """List the schedules of all coordinators, by name, and what is due when; pause or resume one before."""
    from sagas.cli import scheduling
    from sagas.cli.reading import existing_store
    from sagas.cli.rendering import print_json
    from sagas.cli.rendering import show as write

    with existing_store(url_of(store)) as opened:
        scheduling.change(opened, pause=pause, resume=resume)
        found = scheduling.schedules(opened)
    if json:
        print_json(found)
    else:
        write(*(scheduling.render(found) if found else ["no schedules"]))


@app.command()
def check(
    code: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CODE...",
            help="MODULE, or MODULE:NAME for one saga or a list of them. Without --journal also files and directories.",
        ),
    ] = None,
    *,
    journal: Annotated[
        str | None, typer.Option("--journal", metavar="URL", help="Try it on the open sagas of this journal instead.")
    ] = None,
    codec: Annotated[
        str | None, typer.Option("--codec", metavar="MODULE:NAME", help="What the journal is written through, if so.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Fail on warnings too; with --journal on steps that are called with other arguments."
        ),
    ] = False,
    rules: Annotated[bool, typer.Option("--rules", help="List what is looked for, and check nothing.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="Write SARIF 2.1.0, for code hosts, to stdout.")] = False,
    json: Json = False,
) -> None:
    """Find mistakes in sagas by reading their code; with --journal, try it on a journal's open sagas.

    Reading imports and runs nothing. Trying replays every open saga, forward and back, and calls and writes nothing.
    Exits with 0 if all is well, with 1 if something was found, with 2 if it could not be checked.
    """
    from sagas.cli import linting

    try:
        if rules:
            found = linting.list_rules(json=json)
        elif journal is None:
            found = linting.lint(code or [], codec, strict=strict, json=json, sarif=sarif)
        else:
            from sagas.cli.checking import check as check_code

            linting.refuse_sarif(sarif=sarif)
            found = check_code(code or [], journal, codec, strict=strict, json=json)
    except SagaError as error:
        complain(str(error))
        raise typer.Exit(_NOT_TRIED) from error
    raise typer.Exit(found)


@app.command()
def purge(
    *,
    completed: Annotated[str | None, typer.Option("--completed", metavar="AGE", help="Completed ones: 30d")] = None,
    compensated: Annotated[str | None, typer.Option("--compensated", metavar="AGE", help="Compensated ones.")] = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Delete them, instead of archiving them; with --archived, only those that are not archived.",
        ),
    ] = False,
    archived: Annotated[
        str | None, typer.Option("--archived", metavar="AGE", help="Delete archived ones that are so old.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    store: Store = None,
    json: Json = False,
) -> None:
    """Archive finished sagas that ended at least so long ago, or delete them. Never open or stuck ones."""
    from sagas.cli import purging
    from sagas.cli.reading import existing_store
    from sagas.cli.rendering import print_json

    ages = purging.ages(completed, compensated, archived, delete=delete)
    with existing_store(url_of(store)) as opened:
        gone = purging.purge(opened, ages, dry_run=dry_run)
    if json:
        print_json(gone._asdict())
    else:
        typer.echo("\n".join(purging.lines(gone)))


@app.command()
def migrate(*, store: Store = None, json: Json = False) -> None:
    """Create the journal's tables, or bring them up to date."""
    from sagas.cli.rendering import print_json
    from sagas.stores import store_for
    from sagas.stores.schema import HEAD

    opened = store_for(url_of(store))
    if opened.in_memory:
        raise Problem(f"{opened.url} has no tables; use --store sqlite:///FILE")
    opened.open(migrate=True)
    opened.close()
    if json:
        print_json({"store": opened.url, "version": HEAD})
    else:
        typer.echo(f"{opened.url} is at version {HEAD}")


operations.add_to(app)
simulations.add_to(app)
dead_letters.add_to(app)
stats.add_to(app)
consoling.add_to(app)
