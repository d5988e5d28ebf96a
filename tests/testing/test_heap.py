"""What the garbage collector is kept from, and that it is let go again."""

from __future__ import annotations

import gc

import pytest

from sagas.testing.heap import set_aside


def test_what_was_there_is_set_aside_and_taken_back_also_after_a_failure() -> None:
    assert gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="no"), set_aside():
        assert gc.get_freeze_count() > 0
        raise ValueError("no")
    assert gc.get_freeze_count() == 0


def test_what_somebody_else_has_frozen_stays_so() -> None:
    gc.freeze()
    try:
        with set_aside():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
