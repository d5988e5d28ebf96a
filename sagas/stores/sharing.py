"""How coordinators share the permits of a limit that holds for all of them: pure arithmetic, the same for every store.

A permit that nobody holds goes to whoever asks, unless somebody else waits who has less than his share; among those,
whoever has waited longest is first. Whoever holds more than his share while others wait gives back what he does not
use, and asks for no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["REPEAT", "Plan", "Standing", "fresh", "plan"]

# Seconds after which a coordinator that waits says so again, and for which it is believed.
REPEAT = 1.0
_FRESH = 3.0


class Standing(NamedTuple):
    """One coordinator that is alive, and a limit.

    Attributes:
        held: How many permits it has.
        since: POSIX time since which it has waited for more; ``None`` if it does not.
    """

    held: int
    since: float | None


class Plan(NamedTuple):
    """What to do for a coordinator.

    Attributes:
        aim: How many permits it is to have, as far as there are free ones that others do not wait for.
        reserved: How many free ones are others'.
        share: How many it should have at most.
        starving: Whether somebody else waits who has less than his share.
    """

    aim: int
    reserved: int
    share: int
    starving: bool


def plan(slots: int, me: Standing, others: Sequence[Standing], now: float, *, used: int, want: int) -> Plan:
    """Decides how many permits a coordinator is to have.

    Args:
        slots: How many there are.
        me: The coordinator's own standing.
        others: The others', of whom each holds or waits.
        now: POSIX time.
        used: How many of its own cannot be given back.
        want: How many it would like to have.
    """
    parties = len(others) + 1
    least, most = max(1, slots // parties), max(1, -(-slots // parties))
    poor = [other for other in others if other.since is not None and other.held < least]
    waited = any(other.since is not None for other in others)
    share = least if poor else most if waited else slots
    aim = max(min(want, share), min(used, me.held))
    since = now if me.since is None else me.since
    first = [other for other in poor if me.held >= least or _since(other) < since]
    return Plan(aim, sum(least - other.held for other in first), share, bool(poor))


def _since(standing: Standing) -> float:
    """Gives since when somebody waits who does."""
    return standing.since if standing.since is not None else float("inf")


def fresh(said: float, now: float) -> bool:
    """Says whether a coordinator that said that it waits is still believed."""
    return said > now - _FRESH
