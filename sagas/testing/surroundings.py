"""Other surroundings for a saga body: another wall clock, other random numbers, another process."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import platform
import random
import secrets
import socket
import threading
import time
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["CHANCE", "CLOCK", "ENVIRONMENT", "ORDER", "PROCESS", "VARIANTS", "StandIn", "Surroundings", "is_ordered"]

CLOCK = "another wall clock"
CHANCE = "other random numbers"
PROCESS = "another process"
ORDER = "sets in another order"
ENVIRONMENT = "other environment variables"

# POSIX times: a Sunday night long ago, a Wednesday morning far ahead, a Friday noon, a Monday evening.
_CLOCKS = (946_183_320.25, 2_845_861_445.5, 1_751_630_460.75, 4_102_513_140.125)
VARIANTS = len(_CLOCKS)
# Seconds by which such a clock goes on with each look at it, so that durations differ too.
_STRIDE = 18_451.7
# So many numbers are close to where their range begins or ends; code that waits for others gets them then.
_EXTREME = 8
_NUMBERS = (int, float, complex, Decimal, Fraction)


class StandIn(NamedTuple):
    """What is called instead of a function.

    Attributes:
        surrounding: Whose; one of the constants above.
        name: Of what it stands for.
        function: To call.
    """

    surrounding: str
    name: str
    function: Callable[..., Any]


class _Extreme(random.Random):
    """Random numbers at the lower or the upper end of their range, until it is seeded.

    Args:
        high: At the upper end.
    """

    def __new__(cls, *, high: bool) -> Self:  # noqa: ARG004 - the base class takes a seed there
        return super().__new__(cls)

    def __init__(self, *, high: bool) -> None:
        self._high = high
        self._count = 0
        self._seeded = False
        super().__init__()

    def seed(self, a: Any = None, version: int = 2) -> None:
        """Makes it an ordinary one, unless the seed itself would be random."""
        self._seeded = a is not None
        super().seed(7 if a is None else a, version)

    def _is_ordinary(self) -> bool:
        """Counts, and says whether to give what the generator gives."""
        self._count += 1
        return self._seeded or self._count > _EXTREME

    def random(self) -> float:
        """See ``random.Random``."""
        if self._is_ordinary():
            return super().random()
        return 1.0 - 2.0**-40 * self._count if self._high else 2.0**-40 * (self._count - 1)

    def getrandbits(self, k: int, /) -> int:
        """See ``random.Random``."""
        return super().getrandbits(k) if self._is_ordinary() or not k else self._end(1 << k)

    def _randbelow(self, n: int) -> int:
        """See ``random.Random``, which all its methods for whole numbers call."""
        if self._is_ordinary() or not n:
            return int(super().random() * n)
        return self._end(n)

    def _end(self, n: int) -> int:
        """Gives a number close to an end of ``range(n)``."""
        return (n - self._count) % n if self._high else (self._count - 1) % n


class Surroundings:
    """See the module; the same ones for the same number.

    Args:
        number: Which, from 0 to ``VARIANTS - 1``.
        generators: Random number generators that outlive a run.
    """

    def __init__(self, number: int, generators: Iterable[random.Random] = ()) -> None:
        self._number = number
        self._now = _CLOCKS[number]
        self._chance = _Extreme(high=number % 2 == 1)
        self._mask = -1 if number % 2 else 0x5555_5555_5551
        self._shared = {id(x) for x in (*generators, getattr(random, "_inst", None)) if x is not None}
        self._table = {**self._clock(), **self._random(), **self._process()}
        self.environment: dict[str, str] = {}

    def stand_in(self, function: Any) -> StandIn | None:
        """Gives what to call instead of a function; ``None`` for itself."""
        if type(function) not in _KINDS:
            return None
        found = self._table.get(function)
        if found is not None:
            return StandIn(found[0], _name(function), found[1])
        owner = getattr(function, "__self__", None)
        if isinstance(owner, random.SystemRandom) or (isinstance(owner, random.Random) and id(owner) in self._shared):
            return StandIn(CHANCE, f"random.{function.__name__}", getattr(self._chance, function.__name__))
        return None

    def order(self, items: Sequence[Any]) -> list[Any]:
        """Gives the items of a set in another order.

        That of a copy may be another one already, where hashes collide; so once it is left as it is.
        """
        if self._number == 2:  # noqa: PLR2004 - any of them
            return list(items)
        return [*items[1:], items[0]] if self._number == 1 else [*reversed(items)]

    # --- the clock ----------------------------------------------------------------------------------------------

    def _look(self) -> float:
        """Looks at the clock."""
        self._now += _STRIDE
        return self._now

    def _clock(self) -> dict[Any, tuple[str, Callable[..., Any]]]:
        """Lists what tells the time."""
        look = self._look
        seconds = (time.time, time.monotonic, time.perf_counter, time.process_time, time.thread_time)
        nanoseconds = (
            time.time_ns, time.monotonic_ns, time.perf_counter_ns, time.process_time_ns, time.thread_time_ns
        )  # fmt: skip
        table: dict[Any, Callable[..., Any]] = dict.fromkeys(seconds, look)
        table |= dict.fromkeys(nanoseconds, lambda: int(look() * 1e9))
        table |= {x: self._of_now(x) for x in (time.localtime, time.gmtime, time.ctime, time.asctime)}
        table[time.strftime] = self._of_now(time.strftime, 1)
        table[time.sleep] = _skip
        table[dt.datetime.now] = table[dt.datetime.today] = self._moment
        utcnow: Any = getattr(dt.datetime, "utcnow")  # noqa: B009 - deprecated, and used all the same
        table[utcnow] = lambda: self._moment(dt.UTC).replace(tzinfo=None)
        table[dt.date.today] = lambda: self._moment(dt.UTC).date()
        return {function: (CLOCK, other) for function, other in table.items()}

    def _moment(self, tz: dt.tzinfo | None = None) -> dt.datetime:
        """Gives the time as a datetime."""
        return dt.datetime.fromtimestamp(self._look(), tz)

    def _of_now(self, function: Callable[..., Any], place: int = 0) -> Callable[..., Any]:
        """Makes a function that takes the time for its last argument, if that is left out."""

        def call(*args: Any) -> Any:
            if len(args) > place:
                return function(*args)
            now = self._look()
            return function(*args, time.localtime(now) if function in (time.strftime, time.asctime) else now)

        return call

    # --- chance -------------------------------------------------------------------------------------------------

    def _random(self) -> dict[Any, tuple[str, Callable[..., Any]]]:
        """Lists what chance decides."""
        chance = self._chance
        table: dict[Any, Callable[..., Any]] = {
            random.Random: lambda *args: random.Random(*args) if args and args[0] is not None else chance,  # noqa: S311 - as seeded
            random.SystemRandom: lambda *_: chance,
            os.urandom: self._bytes,
            secrets.token_bytes: self._bytes,
            secrets.token_hex: self._text,
            secrets.token_urlsafe: self._text,
            secrets.randbelow: chance.randrange,
            uuid.uuid1: lambda *_: uuid.UUID(bytes=self._bytes(16), version=1),
            uuid.uuid4: lambda: uuid.UUID(bytes=self._bytes(16), version=4),
        }
        for name in ("uuid6", "uuid7", "uuid8"):
            if hasattr(uuid, name):
                table[getattr(uuid, name)] = lambda *_: uuid.UUID(bytes=self._bytes(16), version=4)
        return {function: (CHANCE, other) for function, other in table.items()}

    def _bytes(self, count: int | None = None) -> bytes:
        """Gives some bytes."""
        size = 32 if count is None else count
        return self._chance.getrandbits(8 * size).to_bytes(size, "big")

    def _text(self, count: int | None = None) -> str:
        """Gives some bytes, as text."""
        return self._bytes(count).hex()

    # --- the process --------------------------------------------------------------------------------------------

    def _process(self) -> dict[Any, tuple[str, Callable[..., Any]]]:
        """Lists what differs from one process, or one machine, to another."""
        table: dict[Any, Callable[..., Any]] = dict.fromkeys(
            (os.getpid, os.getppid, threading.get_ident, threading.get_native_id), lambda: 4_194_301 + self._number
        )
        table |= dict.fromkeys(
            (socket.gethostname, socket.getfqdn, platform.node, getpass.getuser), lambda *_: f"other-{self._number}"
        )
        table |= {id: self._id, hash: self._hash}
        found = {function: (PROCESS, other) for function, other in table.items()}
        found[os.getenv] = (ENVIRONMENT, _unset)
        return found

    def _id(self, value: object) -> int:
        """Gives another identity."""
        return id(value) ^ self._mask

    def _hash(self, value: object) -> int:
        """Gives another hash, where it would be another one in another process."""
        return hash(value) if is_ordered((value,)) else hash(value) ^ self._mask


def _skip(_: float) -> None:
    """Sleeps for no time."""


def _unset(_: str, default: str | None = None) -> str | None:
    """Says that an environment variable is not set."""
    return default


_KINDS = (type(time.time), type(random.choice), type(secrets.token_hex), type)


def is_ordered(items: Iterable[object]) -> bool:
    """Says whether a set of these has the same order in every process: their hashes depend on nothing else."""
    return all(
        isinstance(x, (*_NUMBERS, uuid.UUID)) or (isinstance(x, tuple) and is_ordered(cast("tuple[object, ...]", x)))
        for x in items
    )


def _name(function: Any) -> str:
    """Names a function of the standard library as its users write it."""
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type):
        return f"{owner.__name__}.{function.__name__}"
    module = getattr(function, "__module__", "") or ""
    module = {"builtins": "", "posix": "os", "nt": "os", "_thread": "threading"}.get(module, module)
    return f"{module}.{function.__name__}" if module else str(function.__name__)
