"""Archives or deletes finished sagas, once; the same that a coordinator's ``Retention`` does again and again."""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sagas.cli.problems import Problem
from sagas.coordinator.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sagas.stores import Store
    from sagas.stores.keeping import Purge

__all__ = ["Gone", "age", "lines", "purge"]

# On SQLite nobody else writes while a batch goes, which takes about 10 ms; then it is their turn for as long.
_AT_ONCE = 100
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}


class Gone(NamedTuple):
    """What was archived or deleted, or would have been.

    Attributes:
        archived: How many, by status.
        deleted: How many, by status.
        kept: How many are old enough, but changed hands within the last hour of their life.
        dry_run: Whether they were only counted.
    """

    archived: Mapping[str, int]
    deleted: Mapping[str, int]
    kept: int
    dry_run: bool


def age(option: str, text: str | None) -> float | None:
    """Reads an age such as ``30d``, in seconds.

    Raises:
        Problem: It is none.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    if match is None:
        raise Problem(f"{option} {text!r} is no age; write a number and s, m, h, d or w, such as 30d")
    return float(match[1]) * _SECONDS[match[2]]


def purge(store: Store, retention: Retention, *, dry_run: bool) -> Gone:
    """Archives or deletes all that is old enough, in small transactions; one that is killed has done some of them.

    Args:
        store: Which journal; open.
        retention: What may go.
        dry_run: Whether only to count.
    """
    what = retention.due(store.time(time.time()))
    archived, deleted = _walk(store, what, dry_run=dry_run)
    kept = _count(store, what) - (archived.total() + deleted.total() if dry_run else 0)
    return Gone(dict(archived), dict(deleted), max(0, kept), dry_run)


def _count(store: Store, what: Purge) -> int:
    """Counts what is old enough, whether it changed hands or not; 0 if all that is old enough may go."""
    if all(before <= what.settled for before in (*what.archive.values(), *what.delete.values())):
        return 0
    return sum(found.total() for found in _walk(store, replace(what, settled=math.inf), dry_run=True))


def _walk(store: Store, what: Purge, *, dry_run: bool) -> tuple[Counter[str], Counter[str]]:
    """Goes through all sagas; gives how many were archived, and deleted, by status."""
    archived: Counter[str] = Counter()
    deleted: Counter[str] = Counter()
    after: int | None = 0
    while after is not None:
        began = time.monotonic()
        done = store.purge(what, limit=_AT_ONCE, after=after, dry_run=dry_run)
        archived.update(done.archived)
        deleted.update(done.deleted)
        after = done.after
        time.sleep(0.0 if dry_run else time.monotonic() - began)
    return archived, deleted


def lines(gone: Gone) -> Iterator[str]:
    """Tells what was done."""
    would = "would be " if gone.dry_run else ""
    for verb, counts in (("archived", gone.archived), ("deleted", gone.deleted)):
        if counts:
            yield f"{would}{verb}: {', '.join(f'{counts[status]} {status}' for status in sorted(counts))}"
    if gone.kept:
        yield f"kept, since they changed hands within the last hour of their life: {gone.kept}"
    if not gone.archived and not gone.deleted and not gone.kept:
        yield "nothing is old enough"
