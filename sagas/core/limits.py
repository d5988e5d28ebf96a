"""How many attempts may run side by side, and how many may begin within a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sagas.core.names import check_name
from sagas.core.operations import LONGEST
from sagas.errors import DeclarationError

__all__ = ["Bucket", "Limit", "as_limit"]

# Seconds. A clock that seems to go back by less is another reading of the same time; by more, it was set.
_JITTER = 5.0
_MOST_PERMITS = 10_000
# A sum of many small gains may fall short of a whole by the rounding of its last digit.
_WHOLE = 1.0 - 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many attempts may run side by side, and how many may begin within a time.

    Attributes:
        concurrency: How many may run at once.
        rate: How many may begin within ``per`` seconds, on average: a bucket that holds ``rate`` tokens (one at
            least) and is full at first, from which every attempt takes one, and which fills at that rate. So in
            any ``t`` seconds no more than ``rate + t * rate / per`` begin.
        per: Seconds.
        across: ``process`` counts what runs in one coordinator; ``store``, what runs in all those on its store.
        name: Steps whose limits have the same name share one. By default each step has its own.
    """

    concurrency: int | None = None
    rate: float | None = None
    per: float = 1.0
    across: Literal["process", "store"] = "process"
    name: str | None = None

    def __post_init__(self) -> None:
        """Refuses what limits nothing, or would let nothing run.

        Raises:
            DeclarationError: A field is out of its range.
        """
        if self.concurrency is None and self.rate is None:
            raise DeclarationError("Limit() limits nothing; give it concurrency=, rate= or both")
        if self.concurrency is not None and not _is_count(self.concurrency):
            raise DeclarationError(
                f"Limit(concurrency={self.concurrency!r}) is no number of attempts; use 1 to {_MOST_PERMITS}"
            )
        for name, value in (("rate", self.rate), ("per", self.per)):
            if value is not None and not _is_quantity(value):
                raise DeclarationError(f"Limit({name}={value!r}) is no positive number, at most {LONGEST:g}")
        if self.across not in ("process", "store"):
            raise DeclarationError(f"Limit(across={self.across!r}): use 'process' or 'store'")
        if self.name is not None:
            check_name(self.name, "limit")

    @property
    def speed(self) -> float:
        """Tokens a second."""
        assert self.rate is not None, "only a rate has a speed"
        return self.rate / self.per

    @property
    def burst(self) -> float:
        """Tokens that the bucket holds."""
        assert self.rate is not None, "only a rate has a bucket"
        return max(1.0, self.rate)


class Bucket(NamedTuple):
    """A bucket of tokens. Pure: whoever uses it says what time it is.

    Attributes:
        tokens: How many were in it.
        at: POSIX time of that.
    """

    tokens: float
    at: float

    @property
    def has_one(self) -> bool:
        """Whether there was a whole token in it."""
        return self.tokens >= _WHOLE

    def filled(self, now: float, *, speed: float, burst: float) -> Bucket:
        """Gives it as it is now. Time never goes back, unless the clock was set."""
        if self.at - _JITTER <= now <= self.at:
            return self
        gained = max(0.0, now - self.at) * speed
        return Bucket(min(burst, self.tokens + gained), now)

    def drawn(self, now: float, want: int, *, speed: float, burst: float, ahead: int = 0) -> tuple[int, Bucket]:
        """Takes as many whole tokens as there are, up to a number, and some more if there are plenty.

        Args:
            now: POSIX time.
            want: How many are needed.
            speed: Tokens a second that it gains.
            burst: How many it holds.
            ahead: How many more to take, as long as it stays half full.

        Returns:
            How many, and what is left.
        """
        filled = self.filled(now, speed=speed, burst=burst)
        spare = math.floor(filled.tokens - burst / 2)
        got = min(want + max(0, min(ahead, spare - want)), math.floor(filled.tokens + 1.0 - _WHOLE))
        return got, Bucket(max(0.0, filled.tokens - got), filled.at)

    def pause(self, now: float, *, speed: float, burst: float) -> float:
        """Says in how many seconds there is a whole token."""
        lacking = 1.0 - self.filled(now, speed=speed, burst=burst).tokens
        return max(0.0, lacking / speed)


def as_limit(value: object, where: str) -> Limit | None:
    """Reads the option ``limit=``: a number is how many attempts may run at once in a process.

    Raises:
        DeclarationError: It is neither a limit nor a number of at least 1.
    """
    if value is None or isinstance(value, Limit):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise DeclarationError(f"{where}: limit={value!r} is neither a number nor a Limit, such as Limit(rate=10)")
    if value < 1:
        raise DeclarationError(f"{where}: limit={value} would never let it run; use 1 or more")
    return Limit(concurrency=value)


def _is_count(value: object) -> bool:
    """Says whether a value is a whole number of attempts."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_PERMITS


def _is_quantity(value: object) -> bool:
    """Says whether a value is a positive number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= LONGEST
