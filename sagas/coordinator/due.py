"""When something is due: by an interval, or by a cron expression. Pure arithmetic, in whole microseconds of POSIX time.

Both kinds give the same due times wherever one begins to ask, so that processes which never speak to each other agree.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from zoneinfo import ZoneInfo

from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

__all__ = ["MICRO", "Cron", "Every", "Times", "latest", "utc_text", "zone"]

# Microseconds in a second.
MICRO = 1_000_000
# Seconds.
_SHORTEST = 0.1
# How far to look back at first for what was due; twice as far each time that it was too little.
_FIRST_LOOK = 60 * MICRO


class Times(Protocol):
    """Due times.

    Attributes:
        spec: Says all about them in a text: another text, other times.
    """

    @property
    def spec(self) -> str:
        """See the class."""
        ...

    def first(self, at: int) -> int:
        """Gives the first due time that is not before a moment."""
        ...


class Every:
    """Due at ``anchor`` and every so many seconds before and after it.

    Args:
        seconds: Of the interval.
        anchor: POSIX time.

    Raises:
        DeclarationError: The interval is none, or shorter than a tenth of a second.
    """

    def __init__(self, seconds: float, anchor: float) -> None:
        if not isinstance(seconds, (int, float)) or not _SHORTEST <= seconds < math.inf:
            raise DeclarationError(f"every={seconds!r}: use a number of seconds from {_SHORTEST} on, or a timedelta")
        self._step = round(seconds * MICRO)
        self._anchor = round(anchor * MICRO)
        self.spec = f"every {self._step / MICRO:g} s from {utc_text(self._anchor)}"

    def first(self, at: int) -> int:
        """See ``Times.first``."""
        return self._anchor - (self._anchor - at) // self._step * self._step


class Cron:
    """Due by a cron expression, read in a time zone as Debian's cron reads it.

    Args:
        expression: Five fields; with six, the first is seconds.
        timezone: Of the fields.

    Raises:
        DeclarationError: It is no expression, never comes due, or cronsim is not installed.
    """

    def __init__(self, expression: str, timezone: str) -> None:
        try:
            from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only who uses cron expressions needs it
        except ImportError as error:
            raise DeclarationError(
                f"cron={expression!r} needs cronsim: pip install 'sagakit[cron]'; or use every=…"
            ) from error
        self._expression = expression
        self._zone = zone(timezone)
        self._iterate = CronSim
        self.spec = f"cron {' '.join(expression.split())} in {timezone}"
        try:
            self.first(0)
        except CronSimError as error:
            raise DeclarationError(f"cron={expression!r} is no cron expression: {error}") from error

    def first(self, at: int) -> int:
        """See ``Times.first``."""
        # The iterator begins after the second that it is given, and due times are whole seconds.
        before = (at - 1) // MICRO
        for due in self._from(before):
            seconds = int(due.timestamp())
            if seconds > before:  # in the hour that a change of clocks repeats, it may give what has passed
                return seconds * MICRO
        raise DeclarationError(f"cron={self._expression!r} never comes due")

    def _from(self, seconds: int) -> Iterator[datetime]:
        """Gives due times from a moment on."""
        return iter(self._iterate(self._expression, datetime.fromtimestamp(seconds, self._zone)))


def zone(name: str) -> tzinfo:
    """Finds a time zone.

    Raises:
        DeclarationError: There is none of this name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (LookupError, OSError, ValueError, TypeError) as error:
        raise DeclarationError(
            f"timezone={name!r}: there is none of this name here. Use one as 'Europe/Berlin'; where the system has no "
            "database of time zones, pip install tzdata"
        ) from error


def latest(times: Times, since: int, until: int, count: int) -> tuple[list[int], bool]:
    """Finds the last due times in a span, both ends included, without counting all that came before.

    Returns:
        At most ``count``, oldest first; and whether there were more.
    """
    look = _FIRST_LOOK
    while True:
        begin = max(since, until - look)
        found: list[int] = []
        due = times.first(begin)
        while due <= until:
            found.append(due)
            due = times.first(due + 1)
        if len(found) > count or begin == since:
            return found[-count:], len(found) > count
        look *= 2


def utc_text(micros: int) -> str:
    """Writes a moment, as exact as it is."""
    seconds, rest = divmod(micros, MICRO)
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=rest)).isoformat()
    return text.replace("+00:00", "Z")
