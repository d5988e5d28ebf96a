"""What a consumer remembers of its deliveries."""

from __future__ import annotations

import time

import pytest

from sagas.transport import holds as module
from sagas.transport.holds import Holds, Settled


def test_a_delivery_is_held_until_its_time_is_over_or_it_has_ended() -> None:
    holds, now = Holds[str](), time.monotonic()
    for receipt, until in {"held": now + 60, "over": now, "ended": now + 60}.items():
        holds.put(receipt, until, f"note of {receipt}")
    for _ in range(2):
        holds.end("ended")
    assert [receipt in holds for receipt in ("held", "over", "ended", "unknown")] == [True, False, False, False]
    assert [holds.note(receipt) for receipt in ("held", "over", "ended")] == ["note of held", "note of over", None]


def test_a_delivery_is_held_for_longer_or_for_less_but_not_when_it_has_ended() -> None:
    holds, now = Holds[None](), time.monotonic()
    holds.put("longer", now, None)
    holds.put("less", now + 60, None)
    for receipt, until in {"longer": now + 60, "less": now, "ended": now + 60}.items():
        holds.extend(receipt, until)
    assert [receipt in holds for receipt in ("longer", "less", "ended")] == [True, False, False]


def test_what_nobody_ended_is_forgotten_and_what_is_held_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a consumer that lets deliveries lapse would remember more and more."""
    monkeypatch.setattr(module, "_CROWD", 4)
    holds, now = Holds[int](), time.monotonic()
    holds.put("held", now + 60, 0)
    for number in range(100):
        holds.put(str(number), now, number)
    assert "held" in holds
    assert sum(holds.note(str(number)) is not None for number in range(100)) <= 10


def test_the_last_of_what_was_acknowledged_is_remembered() -> None:
    settled = Settled(most=3)
    settled.add(["1", "2"])
    settled.add(["3", "4", "1"])
    assert [receipt in settled for receipt in "1234"] == [False, True, True, True]
