"""Quantiles of any number of durations in little memory.

A value goes into a bucket whose bounds differ by 2 %, so that a quantile is off by 1 % at most (as in DDSketch:
C. Masson, J. Rim, H. Lee, "DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees",
VLDB 2019). From a microsecond to a year there are some 1,500 buckets, of which few are used.
"""

from __future__ import annotations

import math
from collections import Counter

__all__ = ["Sketch"]

_GAMMA = math.log(1.02)
# Seconds below which all durations are the same: what the journal keeps of attempts.
_LEAST = 1e-6
_MOST = 1e18  # longer than any calendar


class Sketch:
    """Durations, in seconds.

    Attributes:
        count: How many.
        longest: The longest; 0 if there is none.
    """

    __slots__ = ("_buckets", "count", "longest")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Takes one."""
        self._buckets[_bucket(seconds)] += 1
        self.count += 1
        self.longest = max(self.longest, seconds)

    def quantile(self, part: float) -> float | None:
        """Gives the duration that this part of all (0 to 1) does not exceed; ``None`` if there are none."""
        left = math.ceil(part * self.count)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(math.exp((bucket - 0.5) * _GAMMA), self.longest)
        return None

    def above(self, seconds: float) -> int:
        """Counts those that are longer, by more than a bucket."""
        limit = _bucket(seconds)
        return sum(count for bucket, count in self._buckets.items() if bucket > limit)


def _bucket(seconds: float) -> int:
    """Says which bucket holds a duration: its upper bound is 1.02 to the power of that."""
    return math.ceil(math.log(min(max(seconds, _LEAST), _MOST)) / _GAMMA)
