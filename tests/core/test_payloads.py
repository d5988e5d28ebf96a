"""What may be an argument or a result, and what comes back from the journal."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlmodel import Field, SQLModel
from typing_extensions import TypedDict

from sagas.core import events as e
from sagas.core.records import decode, encode
from sagas.core.schema import ArgumentsSchema, ValueSchema
from sagas.errors import DeclarationError, PayloadError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Line:
    sku: str
    price: Decimal
    blob: bytes = b""


class Order(BaseModel):
    id: UUID
    lines: list[Line]
    weight: float
    at: datetime


class Draft(SQLModel):
    name: str
    price: Decimal


class Stored(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str
    price: Decimal
    at: datetime


class Options(TypedDict, total=False):
    colour: Colour
    note: str | None


_NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
_LINE = Line("a", Decimal("1.10"), b"\xff\x00")

VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (int, 2**80),
    (int, -(2**63) - 1),
    (str, "läuft \U0001f40c \x00 ' \\ \u2028"),
    (bytes, b"\xff\xfe\x00"),
    (float, math.inf),
    (float, -math.inf),
    (float, 1e-320),
    (float, 0.1 + 0.2),
    (Decimal, Decimal("1.100")),
    (Decimal, Decimal("1e-30")),
    (Decimal, Decimal("123456789012345678901234567890.12")),
    (datetime, _NOON),
    (date, date(2026, 1, 2)),
    (timedelta, timedelta(days=1, microseconds=3)),
    (UUID, UUID(int=7)),
    (Colour, Colour.BLUE),
    (Level, Level.HIGH),
    (Literal["a", "b"], "b"),
    (Line, _LINE),
    (Order, Order(id=UUID(int=1), lines=[Line("b", Decimal(2), b"plain")], weight=1.5, at=_NOON)),
    (Draft, Draft(name="x", price=Decimal("2.50"))),
    (Stored, Stored(id=3, name="x", price=Decimal("2.50"), at=_NOON)),
    (list[Stored | None], [Stored(id=3, name="x", price=Decimal("2.50"), at=_NOON), None]),
    (dict[str, Stored], {"a": Stored(name="x", price=Decimal("2.50"), at=_NOON)}),
    (Options, {"colour": Colour.RED, "note": None}),
    (list[Line], [_LINE, _LINE]),
    (dict[str, Decimal], {"a": Decimal("1.0")}),
    (tuple[int, bytes], (1, b"\x80")),
    (set[int], {1, 2}),
    (Order | None, None),
    (int | str, "1"),
    (Any, {"a": [1, 2.5, None, "x"]}),
]  # fmt: skip


def through_a_record(payload: bytes) -> bytes:
    """Writes a payload into a record and reads it back, as a store does."""
    kind, path, data = encode(e.StepSucceeded("1", payload), ())
    event = decode(1, 0.0, kind, path, data).event
    assert isinstance(event, e.StepSucceeded)
    return event.result


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=lambda x: getattr(x, "__name__", None))
def test_what_comes_back_equals_what_went_in(kind: Any, value: Any) -> None:
    """9: by value and by type, through the bytes of a record."""
    schema: ValueSchema[Any] = ValueSchema(kind, "it")
    back = schema.decode(through_a_record(schema.encode(value)))
    assert back == value
    assert type(back) is type(value)


def test_a_table_model_comes_back_with_the_types_of_its_fields() -> None:
    """SQLModel does not validate table models itself, so that this is worth saying."""
    schema: ValueSchema[Stored] = ValueSchema(Stored, "it")
    back = schema.decode(through_a_record(schema.encode(Stored(id=1, name="x", price=Decimal("2.5"), at=_NOON))))
    assert (type(back.price), type(back.at)) == (Decimal, datetime)


def test_bytes_within_a_model_follow_the_model_s_own_configuration() -> None:
    """There the default is UTF-8: what is not fails clearly, and ``ser_json_bytes="base64"`` admits it."""
    schema: ValueSchema[Order] = ValueSchema(Order, "it")
    with pytest.raises(PayloadError, match="invalid utf-8"):
        schema.encode(Order(id=UUID(int=1), lines=[_LINE], weight=1.5, at=_NOON))


def test_nan_comes_back_as_nan() -> None:
    """JSON has none; it is written as text."""
    schema: ValueSchema[float] = ValueSchema(float, "it")
    assert math.isnan(schema.decode(through_a_record(schema.encode(math.nan))))


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
        max_leaves=8,
    )
)  # fmt: skip
def test_whatever_json_can_hold_comes_back_from_any(value: object) -> None:
    """With ``Any``, and byte for byte the same when it is written again."""
    schema: ValueSchema[Any] = ValueSchema(Any, "it")
    payload = schema.encode(value)
    again = through_a_record(payload)
    assert again == payload
    assert schema.decode(again) == value


@given(
    value=st.floats(allow_nan=False),
    payload=st.binary(max_size=40),
    amount=st.decimals(allow_nan=False, allow_infinity=False),
)
def test_any_number_and_any_bytes_come_back(value: float, payload: bytes, amount: Decimal) -> None:
    """Also infinite, tiny and huge ones, and bytes that are no UTF-8."""
    schema = ArgumentsSchema({"value": float, "payload": bytes, "amount": Decimal}, "them")
    call = {"value": value, "payload": payload, "amount": amount}
    assert schema.decode(through_a_record(schema.encode(call))) == call


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, "x"), (Line, {"sku": 1}), (Order, None), (datetime, [5]), (str, "\ud800"), (Any, object()),
        (list[int], ["a"]), (Stored, {"name": 5}), (Decimal, Decimal("Infinity")),
    ],
)  # fmt: skip
def test_a_value_of_another_type_cannot_be_written(kind: Any, value: Any) -> None:
    """9: a clear error that says whose value it is."""
    with pytest.raises(PayloadError, match=r"the result of step x (cannot be encoded|does not fit its type)"):
        ValueSchema(kind, "the result of step x").encode(value)


@pytest.mark.parametrize(
    ("kind", "payload"), [(int, b'"x"'), (Line, b"{}"), (int, b"nonsense"), (int, b"1,2"), (int, b"")]
)
def test_json_of_another_form_cannot_be_read(kind: Any, payload: bytes) -> None:
    """The error names the value and the place in it."""
    with pytest.raises(PayloadError, match="the signal 'go' does not fit its type"):
        ValueSchema(kind, "the signal 'go'").decode(payload)


def test_a_type_that_cannot_be_written_is_refused_when_it_is_declared() -> None:
    """With a sentence that says what to use instead."""
    with pytest.raises(DeclarationError, match="cannot be written to the journal"):
        ValueSchema(type("Socket", (), {}), "the result of step x")


def test_arguments_are_written_by_name() -> None:
    """As one JSON object."""
    assert ArgumentsSchema({"a": int, "b": str}, "them").encode({"b": "x", "a": 1}) == b'{"b":"x","a":1}'


def test_a_parameter_with_a_default_may_be_younger_than_a_journal() -> None:
    """One without may not; and what was written wins."""
    schema = ArgumentsSchema({"a": int, "b": str, "c": Decimal}, "them", defaults={"b": "x", "c": Decimal(2)})
    assert schema.decode(b'{"a":1}') == {"a": 1, "b": "x", "c": Decimal(2)}
    assert schema.decode(b'{"a":1,"b":"y"}') == {"a": 1, "b": "y", "c": Decimal(2)}
    with pytest.raises(PayloadError, match="a: Field required"):
        schema.decode(b'{"b":"y"}')
