"""The part of a store's port about what is kept: finished sagas, and up to where schedules have been started."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sagas.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ENDED",
    "HANDOVERS",
    "OWN_ROWS",
    "SUBMITTED",
    "TAKEN",
    "Keeper",
    "Purge",
    "Purged",
    "ScheduleRow",
    "refuse_open",
]

# Only these are ever archived or deleted, whatever a caller asks for.
ENDED = ("completed", "compensated")

# Rows beside the schedules whose names begin so are no schedules, but this library's own.
OWN_ROWS = "sagas:"

# Records by which somebody else goes on with a saga than whoever wrote the record before; but not the takeover that is
# the second record of a saga which begins with SUBMITTED, since whoever submits one never drives it.
HANDOVERS = ("SagaTakenOver", "SagaParked", "SagaResumed", "CancelRequested")
SUBMITTED, TAKEN = "SagaSubmitted", "SagaTakenOver"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Which finished sagas are to go. All are POSIX times by status: those that ended before go.

    Attributes:
        archive: Their journals are packed; their rows stay, so that their ids stay taken.
        delete: Nothing stays, archived or not.
        unarchived: Nothing stays, but those that are archived do.
        settled: POSIX time. A saga that changed hands stays as it is if it ended later, since a coordinator that was
            paused meanwhile may still believe that it is its own, and finds out by the journal's records.
    """

    archive: Mapping[str, float] = field(default_factory=dict[str, float])
    delete: Mapping[str, float] = field(default_factory=dict[str, float])
    unarchived: Mapping[str, float] = field(default_factory=dict[str, float])
    settled: float


def refuse_open(what: Purge) -> None:
    """Refuses to archive or delete anything but what has ended.

    Raises:
        StoreError: A status is none of an end.
    """
    if wrong := (what.archive.keys() | what.delete.keys() | what.unarchived.keys()) - set(ENDED):
        raise StoreError(f"only sagas that have ended are archived or deleted, not {', '.join(sorted(wrong))} ones")


class Purged(NamedTuple):
    """What a purge has done.

    Attributes:
        archived: How many, by status.
        deleted: How many, by status.
        after: Where to go on; ``None`` at the end.
    """

    archived: Mapping[str, int]
    deleted: Mapping[str, int]
    after: int | None


class ScheduleRow(NamedTuple):
    """Up to where a schedule has been started.

    Attributes:
        name: Of the schedule.
        spec: When it is due; another text, another schedule.
        due_at: POSIX time. What was due before is dealt with.
        paused: Whether nothing is to be started.
    """

    name: str
    spec: str
    due_at: float
    paused: bool = False


class Keeper(Protocol):
    """See the module; errors as for ``Store``."""

    def time(self, now: float) -> float:
        """Gives the POSIX time that this store goes by, which is the same for all processes if it can be.

        Args:
            now: The caller's own.
        """
        ...

    # --- what has ended -----------------------------------------------------------------------------------------

    def purge(self, what: Purge, *, limit: int, after: int = 0, dry_run: bool = False) -> Purged:
        """Archives or deletes finished sagas with their journals and their mail, in a transaction of its own.

        Looks at some thousand sagas at most, from the oldest on; so it is to be called again and again.
        ``load`` gives the journals of archived sagas as those of others.

        Args:
            what: Which.
            limit: At most so many.
            after: Where the call before has stopped.
            dry_run: Whether only to count.

        Raises:
            StoreError: ``what`` names sagas that have not ended.
        """
        ...

    # --- schedules ----------------------------------------------------------------------------------------------

    def schedules(self, name: str | None = None) -> Sequence[ScheduleRow]:
        """Reads schedules, by name; or only the one of a name."""
        ...

    def add_schedule(self, row: ScheduleRow) -> bool:
        """Writes a schedule, unless there is one of this name."""
        ...

    def move_schedule(self, seen: ScheduleRow, spec: str, due_at: float) -> bool:
        """Changes a schedule, unless somebody else has changed it since it was seen; it stays paused or not."""
        ...

    def pause_schedule(self, name: str, now: float, *, paused: bool) -> bool:
        """Stops a schedule, or lets it go on; then, what came due meanwhile is dealt with.

        Returns:
            Whether there is one of this name.
        """
        ...

    def remove_schedule(self, name: str) -> bool:
        """Forgets a schedule, if there is one of this name."""
        ...
