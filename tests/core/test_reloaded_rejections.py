"""A rejection comes back as the class that the code at hand means, also if it was defined more than once."""

from __future__ import annotations

import pytest

from sagas import Rejected
from sagas.core.failures import describe_rejection, revive


def _define() -> type[Rejected]:
    """Stands for a module that is reloaded, or a cell that is run again."""

    class Refused(Rejected):
        pass

    return Refused


@pytest.mark.parametrize("declared", [(Rejected,), None], ids=["by its base", "by itself"])
def test_the_youngest_class_of_a_name_wins(declared: tuple[type[Exception], ...] | None) -> None:
    older = _define()
    younger = _define()
    info = describe_rejection(younger("no"))
    revived = revive(info, declared or (Rejected, younger), step="s", path="1", doubt=False)
    assert type(revived) is younger
    assert type(revived) is not older


def test_a_class_that_is_declared_wins_over_a_younger_one_that_is_not() -> None:
    declared = _define()
    _younger = _define()
    info = describe_rejection(declared("no"))
    revived = revive(info, (Rejected, declared), step="s", path="1", doubt=False)
    assert type(revived) is declared
