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

__all__ = ["Ages", "Gone", "age", "ages", "lines", "purge"]

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


class Ages(NamedTuple):
    """How old, in seconds, what is to go has to be; ``None`` leaves it.

    Attributes:
        completed: Completed sagas.
        compensated: Compensated ones.
        archived: Those of these outcomes that are archived.
        delete: Whether those that are not archived are deleted at once, instead of being archived.
    """

    completed: float | None
    compensated: float | None
    archived: float | None
    delete: bool

    def due(self, now: float) -> Purge:
        """Says what may go at a time."""
        archives = self.archived is not None or not self.delete
        retention = Retention(
            completed=self.completed, compensated=self.compensated, archive=archives, archived=self.archived
        )
        what = retention.due(now)
        # Retention has no word for archived ones that outlast others, since it would never archive any.
        return replace(what, archive={}, unarchived=what.archive) if archives and self.delete else what


def ages(completed: str | None, compensated: str | None, archived: str | None, *, delete: bool) -> Ages:
    """Reads the options of a purge.

    Raises:
        Problem: One is no age, no outcome has one, or archived ones would go before others.
    """
    old, undone = age("--completed", completed), age("--compensated", compensated)
    packed = age("--archived", archived)
    given = [seconds for seconds in (old, undone) if seconds is not None]
    if not given:
        raise Problem("which sagas? Pass --completed 30d, --compensated 30d or both; --dry-run only counts them")
    if packed is not None and packed < max(given):
        raise Problem(f"--archived {archived} is younger than the age at which sagas are archived or deleted at all")
    return Ages(old, undone, packed, delete)


def purge(store: Store, old: Ages, *, dry_run: bool) -> Gone:
    """Archives or deletes all that is old enough, in small transactions; one that is killed has done some of them.

    Args:
        store: Which journal; open.
        old: What is old enough.
        dry_run: Whether only to count.
    """
    what = old.due(store.time(time.time()))
    archived, deleted = _walk(store, what, dry_run=dry_run)
    kept = _count(store, what) - (archived.total() + deleted.total() if dry_run else 0)
    return Gone(dict(archived), dict(deleted), max(0, kept), dry_run)


def _count(store: Store, what: Purge) -> int:
    """Counts what is old enough, whether it changed hands or not; 0 if all that is old enough may go."""
    limits = (what.archive, what.delete, what.unarchived)
    if all(before <= what.settled for by_status in limits for before in by_status.values()):
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
