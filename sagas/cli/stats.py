"""``stats``: figures from the journal itself, for where no collector runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from sagas.cli.options import Json, Store, url_of
from sagas.cli.problems import complain
from sagas.cli.purging import age

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.text import Text

    from sagas.coordinator.statistics import Durations, Stats
    from sagas.coordinator.unusual import Unusual
    from sagas.stores import Codec
    from sagas.stores import Store as OpenStore

__all__ = ["add_to", "lines"]

_HEAD_OF_SAGAS = (
    "SAGA", "STARTED", "COMPLETED", "COMPENSATED", "STUCK", "OPEN", "P50", "P95", "P99", "CONSISTENT AFTER (P95)",
)  # fmt: skip
_HEAD_OF_STEPS = ("STEP", "ATTEMPTS", "FAILED", "RETRIES", "UNDONE", "P50", "P95", "P99")


def add_to(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("stats")(stats)


def stats(
    *,
    since: Annotated[
        str, typer.Option("--since", metavar="AGE", help="Sagas that started since then: 15m, 1h, 7d.")
    ] = "1h",
    saga: Annotated[str | None, typer.Option("--saga", metavar="NAME", help="Only this saga.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Read at most so many of them, the newest.")] = 50_000,
    codec: Annotated[
        str | None, typer.Option("--codec", metavar="MODULE:NAME", help="What the journal is written through, if so.")
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Say how many sagas ran, how long their steps took, how many were undone, and which steps are unusual.

    From the journal itself, by the sagas that started in a window. Archived ones are counted, deleted ones are gone.
    """
    from sagas.cli.reading import existing_store
    from sagas.cli.rendering import print_json
    from sagas.cli.rendering import show as write

    window = age("--since", since) or 0.0
    found_codec = _codec(codec)
    with existing_store(url_of(store)) as opened:
        found = _read(opened, window, saga, limit, found_codec)
        names = () if saga is None or found.read else opened.tally(opened.time(time.time()) - window).started
    if json:
        print_json(found)
    else:
        write(*lines(found))
    _warn(found, limit, codec)
    if saga is not None and not found.read:
        complain(_unknown(saga, since, names))


def _unknown(saga: str, since: str, names: Collection[str]) -> str:
    """Says that a saga did not start, and which did."""
    known = f"; those that did are {', '.join(sorted(names))}" if names else ""
    return f"no saga {saga!r} started in the last {since}{known}; --since 7d looks further back"


def _codec(place: str | None) -> Codec | None:
    """Finds the codec that was named."""
    if place is None:
        return None
    from sagas.cli.importing import find_codec

    return find_codec(place)


def _read(store: OpenStore, window: float, saga: str | None, limit: int, codec: Codec | None) -> Stats:
    """Reads the journal."""
    import anyio
    from anyio import to_thread

    from sagas.coordinator.statistics import read_stats

    async def read() -> Stats:
        now = store.time(time.time())
        return await read_stats(
            store, to_thread.run_sync, now=now, since=window, name=saga, limit=limit, codec=codec
        )  # fmt: skip

    return anyio.run(read)


def _warn(found: Stats, limit: int, codec: str | None) -> None:
    """Says what is missing."""
    if not found.complete:
        complain(f"there are more than the {found.read} newest sagas that were read; --limit {limit * 2} reads more")
    if found.unreadable:
        why = "installing the newer sagakit that wrote them" if codec else "--codec, if the coordinators have one"
        complain(f"the steps of {found.unreadable} sagas are missing, whose journals cannot be read here; try {why}")


def lines(found: Stats) -> Iterator[Text | str]:
    """Writes everything for people."""
    from sagas.cli.rendering import columns

    yield _headline(found)
    if found.sagas:
        yield ""
        yield from columns([_HEAD_OF_SAGAS, *_saga_rows(found)])
    if found.steps:
        yield ""
        yield from columns([_HEAD_OF_STEPS, *_step_rows(found)])
    yield ""
    yield from (f"unusual: {_told(x)}" for x in found.unusual)
    if not found.unusual:
        compared = f"nothing unusual, compared with {found.compared} earlier sagas"
        yield compared if found.compared else "nothing to compare with: no saga started in the time before"


def _headline(found: Stats) -> str:
    """Says how much there was."""
    from sagas.cli.rendering import duration

    window = (found.until - found.since).total_seconds()
    ended = sum(x.completed + x.compensated for x in found.sagas)
    standing = ", ".join(f"{count} {status}" for status, count in found.open.items() if count) or "none"
    return (
        f"{found.read} sagas started in the last {duration(window)} ({found.started_per_second:.3g}/s); "
        f"{ended} of them ended ({found.ended_per_second:.3g}/s)\n"
        f"open now, of all: {standing}; {found.backlog} wait for a coordinator"
    )


def _saga_rows(found: Stats) -> Iterator[tuple[str, ...]]:
    """Makes a line a saga."""
    from sagas.cli.problems import printable

    for x in found.sagas:
        ended = x.completed + x.compensated
        yield (
            printable(x.name), str(x.started), _of(x.completed, ended), _of(x.compensated, ended), str(x.stuck),
            str(x.open), *_quantiles(x.durations), _quantiles(x.time_to_consistent)[1],
        )  # fmt: skip


def _step_rows(found: Stats) -> Iterator[tuple[str, ...]]:
    """Makes a line a step, and one for its undo where that was attempted."""
    from sagas.cli.problems import printable

    for x in found.steps:
        name = printable(f"{x.saga} {x.step}")
        undone = _of(x.undone, x.succeeded) if x.undo_attempts or x.undone else ""
        yield (
            name, str(x.attempts), _of(x.failed, x.attempts), str(x.retries), undone, *_quantiles(x.durations)
        )  # fmt: skip
        if x.undo_attempts:
            failed = _of(x.undo_failed, x.undo_attempts)
            yield f"{name}, undo", str(x.undo_attempts), failed, "", "", *_quantiles(x.undo_durations)


def _of(some: int, every: int) -> str:
    """Writes a number, and what part it is."""
    return f"{some} ({100 * some / every:.1f} %)" if some and every else str(some)


def _quantiles(durations: Durations) -> tuple[str, str, str]:
    """Writes quantiles."""
    from sagas.cli.rendering import duration

    p50, p95, p99 = ("" if x is None else duration(x) for x in (durations.p50, durations.p95, durations.p99))
    return p50, p95, p99


def _told(x: Unusual) -> str:
    """Says what is unusual about a step."""
    from sagas.cli.problems import printable
    from sagas.cli.rendering import duration

    who = printable(f"{x.saga} {x.step}" + (", undo" if x.undo else ""))
    now, before = f"{100 * x.part:.1f} % of {x.attempts}", f"{100 * x.part_before:.1f} % of {x.attempts_before}"
    if x.what == "failing":
        return f"{who} fails more often: {now} attempts, before {before}"
    return (
        f"{who} is slower: 95 % took up to {duration(x.p95)}, before {duration(x.p95_before)}; "
        f"{now} attempts took longer than that, before {before}"
    )
