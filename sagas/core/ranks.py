"""In which order sagas get what there is not enough of for all.

A saga's rank is the time of its start, less what its priority puts it ahead; the smallest rank is served first. It is
written once and never changes, and yet whoever waits gets older compared with whoever comes: a saga is overtaken only
by those that start less than ``(their priority - its own) * AGEING`` seconds after it. So nothing starves, and nobody
has to count priorities up (J. R. Jackson, "Some problems in queueing with dynamic priorities", Naval Research
Logistics Quarterly 7, 1960, calls what is added to the time of arrival an urgency number).
"""

from __future__ import annotations

__all__ = ["AGEING", "HIGHEST", "LOWEST", "rank_of"]

# Seconds that one step of priority is worth.
AGEING = 60.0
LOWEST, HIGHEST = -100, 100


def rank_of(started_at: float, priority: int) -> float:
    """Gives a saga's rank.

    Args:
        started_at: POSIX time at which somebody asked for it.
        priority: ``LOWEST`` to ``HIGHEST``.
    """
    return started_at - priority * AGEING
