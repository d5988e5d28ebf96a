"""Exceptions as data: a declared rejection comes back as it was; anything else as what the body can act upon."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest

from sagas import Rejected, StepFailed, StepInDoubt
from sagas.core import events as e
from sagas.core.failures import describe, describe_rejection, is_rejection, one_line, revive
from sagas.core.records import decode, encode
from sagas.errors import DeterminismError


class CardDeclined(Rejected):
    def __init__(self, reason: str, limit: Decimal) -> None:
        super().__init__(f"declined: {reason}")
        self.reason = reason
        self.limit = limit


class StolenCard(CardDeclined):
    """Not named in ``rejects=``, but a subclass of what is."""


@dataclasses.dataclass
class OutOfStock(Exception):
    sku: str
    left: int
    price: Decimal


@dataclasses.dataclass(frozen=True)
class Frozen(Rejected):
    sku: str


class Awkward(Rejected):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def through_the_journal(info: e.ErrorInfo) -> e.ErrorInfo:
    """Writes an error into a record and reads it back."""
    kind, path, data = encode(e.StepRejected("1", info), ())
    event = decode(1, 0.0, kind, path, data).event
    assert isinstance(event, e.StepRejected)
    return event.error


def back(error: Exception, *declared: type[Exception]) -> Any:
    """Gives what a body sees of a rejection."""
    info = through_the_journal(describe_rejection(error))
    return revive(info, (Rejected, *declared), step="pay", path="1", doubt=False)


def test_a_rejection_comes_back_with_its_type_text_and_fields() -> None:
    """Typed by the annotations of its constructor."""
    error = back(CardDeclined("stolen", Decimal("10.50")))
    assert type(error) is CardDeclined
    assert (str(error), error.reason, error.limit) == ("declined: stolen", "stolen", Decimal("10.50"))
    assert isinstance(error.limit, Decimal)


def test_a_subclass_of_a_declared_type_comes_back_as_itself() -> None:
    """So that a body can tell them apart."""
    assert type(back(StolenCard("lost", Decimal(1)), CardDeclined)) is StolenCard


def test_a_dataclass_exception_comes_back_equal() -> None:
    """It need not be one of this library's."""
    assert back(OutOfStock("a", 2, Decimal("1.10")), OutOfStock) == OutOfStock("a", 2, Decimal("1.10"))


def test_a_frozen_rejection_comes_back() -> None:
    """Its attributes are put back without its ``__setattr__``."""
    assert back(Frozen("a")).sku == "a"


def test_a_whole_number_of_any_size_comes_back_exactly() -> None:
    """Also beyond 64 bits, where some JSON parsers go on with floats."""
    assert back(Rejected(2**80)).args == (2**80,)


@pytest.mark.parametrize("text", ["\udcff", "ab\ud800"])
def test_text_that_is_no_unicode_can_be_kept(text: str) -> None:
    """A file's name may hold any byte, and error messages quote it; a journal must be able to take it."""
    for info in (describe(OSError(text)), describe_rejection(Rejected(text))):
        assert through_the_journal(info).type == info.type
    attempt = e.Attempt(0.0, 1.0, one_line(OSError(text)))
    encode(e.StepSucceeded("1", b"1", (attempt,)), ())


@pytest.mark.parametrize("thing", [object(), {1, 2}, {(1, 2): 3}, b"\xff", float("nan"), [[...]]])
def test_a_rejection_may_carry_anything(thing: object) -> None:
    """What JSON cannot hold is kept as its text: the rejection itself must not be lost."""
    assert type(back(Rejected(thing))) is Rejected


def test_a_rejection_that_holds_itself_can_be_kept() -> None:
    """A cycle has no JSON."""
    error = Rejected("x")
    loop: list[object] = []
    loop.append(loop)
    error.loop = loop  # type: ignore[attr-defined]  # as somebody else's code may do
    assert str(back(error)) == "x"


def test_an_exception_whose_text_cannot_be_had_is_described_all_the_same() -> None:
    """It says what its ``__str__`` raised."""
    assert describe(Awkward()).message == "<its __str__ raised RuntimeError>"


@pytest.mark.parametrize(("doubt", "kind"), [(False, StepFailed), (True, StepInDoubt)])
def test_any_other_failure_reaches_the_body_as_step_failed(doubt: bool, kind: type[StepFailed]) -> None:
    """In doubt or not, it names the step, its place and what was raised."""
    error = revive(through_the_journal(describe(OSError("broken pipe"))), (), step="pay", path="1", doubt=doubt)
    assert type(error) is kind
    assert isinstance(error, StepFailed)
    assert (error.step, error.path) == ("pay", "1")
    assert (error.error_type, error.error_message) == ("builtins:OSError", "broken pipe")


def test_a_rejection_whose_type_is_gone_reaches_the_body_as_step_failed() -> None:
    """The class was renamed or is no longer declared."""
    info = dataclasses.replace(describe_rejection(CardDeclined("x", Decimal(1))), type="shop:Gone")
    assert type(revive(info, (Rejected,), step="pay", path="1", doubt=False)) is StepFailed


def test_only_what_is_declared_is_a_rejection() -> None:
    """``Rejected`` always; other types if the step names them; an error of this library never."""
    assert is_rejection(CardDeclined("x", Decimal(1)), ())
    assert is_rejection(KeyError("x"), (LookupError,))
    assert not is_rejection(KeyError("x"), ())
    assert not is_rejection(DeterminismError("x"), (Exception,))
