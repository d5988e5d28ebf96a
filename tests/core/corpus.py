"""Sagas, as small as they get, for which a version of the core broke a law, or a law misread the core."""

from __future__ import annotations

from tests.core.host import Story
from tests.core.plans import Plan

__all__ = ["CANCELLED_BESIDE_PIVOT", "ONCE_BROKEN", "do"]


def do(tag: int, name: str = "reserve", *, ends: tuple[str, ...] = (), undoes: tuple[str, ...] = ()) -> Plan:
    return ["do", tag, name, list(ends), list(undoes)]


CANCELLED_BESIDE_PIVOT = Story(
    ["seq", ["try", 9, ["gather", do(1, ends=("rejected",)), do(2, "commit", ends=("later",))], ["seq"]], do(3)],
    choices=(1, 0, 0),
    cancel_at=2,
)
ONCE_BROKEN = {
    "a pivot in doubt beside a failure": Story(["gather", do(1, ends=("rejected",)), do(2, "commit", ends=("doubt",))]),
    "a pivot in doubt that backs off beside a failure": Story(
        ["gather", do(1, ends=("rejected",)), do(2, "commit", ends=("unsure",))], choices=(1, 0)
    ),
    "a cancel that waits for a pivot which is given up": CANCELLED_BESIDE_PIVOT,
    "a child saga half done beside a failure": Story(
        ["try", 9, ["gather", do(1, ends=("rejected",)), ["child", ["seq", do(2), do(3)]]], do(4)], choices=(1, 0, 0)
    ),
    "a scope half done beside a failure": Story(
        ["try", 9, ["gather", do(1, ends=("rejected",)), ["scope", ["seq", do(2), do(3)]]], do(4)], choices=(1, 0, 0)
    ),
    "a lock that is asked for beside a failure after a pivot": Story(
        ["seq", do(1, "settle"), ["gather", ["lock", "saga", "a", do(2)], ["raise"]]]
    ),
    "a branch that is parked by a rejection after it was in doubt, and then loses": Story(
        ["seq", do(1, "settle"), ["race", do(2), do(3, ends=("unsure", "failed"))]], choices=(1, 1, 1, 0)
    ),
}
