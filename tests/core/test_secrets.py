"""What is marked is hidden by its name, wherever it stands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Generic, NamedTuple, NewType, TypeVar

import pydantic.dataclasses
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, RootModel, computed_field
from typing_extensions import TypeAliasType, TypedDict

from sagas import Secret, receive, saga, step
from sagas.core.secrets import Mask, secret_names
from sagas.errors import DeclarationError

T = TypeVar("T")

Pin = TypeAliasType("Pin", Annotated[str, Secret()])
Token = NewType("Token", str)


@dataclass
class Card:
    number: Annotated[str, Secret()]
    name: str
    again: Card | None = None


@dataclass
class Box(Generic[T]):
    content: T
    code: Annotated[str, Secret]


class Account(BaseModel):
    iban: Annotated[str, Secret()] = Field(serialization_alias="IBAN", alias="bankAccount")
    cards: list[Card] = []


class Typed(TypedDict):
    key: Annotated[str, Secret()]


class Named(NamedTuple):
    salt: Annotated[str, Secret()]


@step
async def everything(
    card: Card | None, pins: dict[str, Pin], account: Account, typed: Typed, named: Named, plain: int, token: Token
) -> Annotated[str, Secret()]:
    return ""


@step
async def boxed(box: Box[Account]) -> list[Card]:
    return []


@saga
async def body(password: Annotated[str, Secret()]) -> None:
    await everything(None, {}, Account(bankAccount=""), {"key": ""}, Named(""), 1, Token(""))


def test_marks_are_found_wherever_a_type_may_stand() -> None:
    """In unions, containers, aliases, models by all their names, generics and results."""
    assert secret_names([everything]) == {
        "number", "pins", "iban", "IBAN", "bankAccount", "key", "salt", "everything.result",
    }  # fmt: skip
    assert secret_names([boxed]) == {"code", "number", "iban", "IBAN", "bankAccount"}
    assert secret_names([body]) == {"password", "number", "iban", "IBAN", "bankAccount", "salt"}


def test_marks_of_a_class_within_a_function_are_found() -> None:
    """Whose annotations only pydantic could resolve, if anything."""

    class Local(BaseModel):
        secret: Annotated[str, Secret()]
        other: int

    @dataclass
    class Plain:
        unknown: Nowhere  # type: ignore[name-defined]  # noqa: F821 - is what is tested
        hidden: Annotated[str, Secret()]

    async def function(local: object, plain: object) -> None: ...

    function.__annotations__ = {"local": Local, "plain": Plain, "return": None}
    names = secret_names([_Definition(function.__annotations__)])  # type: ignore[list-item]  # has what is looked at
    assert names == {"secret", "hidden"}


class _Definition:
    """A definition whose hints are known."""

    name = "local"

    def __init__(self, hints: dict[str, object]) -> None:
        self.parameters = self
        self._hints = hints

    def hints(self) -> dict[str, object]:
        """Gives them."""
        return self._hints


def test_a_mask_hides_by_names_and_patterns_and_changes_nothing() -> None:
    """At any depth."""
    value = {"a": 1, "b_token": {"a": 2}, "list": [{"a": [3], "c": None}]}
    assert Mask(["a", "*_token"]).value(value) == {"a": "***", "b_token": "***", "list": [{"a": "***", "c": None}]}
    assert value["a"] == 1
    assert Mask().value(value) is value
    assert not Mask()


@pytest.mark.parametrize(("name", "shown"), [("issue", "***"), ("other", {"result": 1})])
def test_a_result_is_hidden_by_the_name_of_its_step(name: str, shown: object) -> None:
    """And not every key of that name."""
    mask = Mask(["issue.result"])
    assert mask.result(name, {"result": 1}) == shown
    assert mask.result(name, None) is None


Many = TypeAliasType("Many", list[T], type_params=(T,))


class Iban(RootModel[Annotated[str, Secret()]]): ...


@step
async def wrapped(cards: Many[Card], iban: Iban) -> None: ...


def test_marks_are_found_in_what_generic_aliases_are_made_for_and_at_the_root_of_a_model() -> None:
    assert secret_names([wrapped]) == {"number", "iban"}


def test_one_text_is_no_list_of_names() -> None:
    with pytest.raises(
        DeclarationError, match=r"secret_fields='card' is one text; give a list of names, as in \['card'\]"
    ):
        Mask("card")


class Computing(BaseModel):
    digits: str = Field(validation_alias=AliasChoices("nr", AliasPath("card", 0)))

    @computed_field(alias="cardCode")  # type: ignore[prop-decorator]  # as pydantic has it
    @property
    def code(self) -> Annotated[str, Secret()]:
        return ""

    @computed_field(return_type=list[Card])  # type: ignore[prop-decorator]  # as pydantic has it
    @cached_property
    def cards(self) -> object:
        return []

    @computed_field  # type: ignore[prop-decorator]  # as pydantic has it
    @property
    def length(self) -> int:
        return 0


class Chosen(BaseModel):
    digits: Annotated[str, Secret()] = Field(validation_alias=AliasChoices("nr", AliasPath("card", 0)))


@pydantic.dataclasses.dataclass
class Slip:
    @computed_field  # type: ignore[prop-decorator]  # as pydantic has it
    @property
    def total(self) -> Annotated[int, Secret()]:
        return 0


def test_what_a_model_computes_is_hidden_like_what_it_holds() -> None:
    @step
    async def compute(model: Computing, slip: Slip, chosen: Chosen) -> None: ...

    assert secret_names([compute]) == {"code", "cardCode", "number", "total", "digits", "nr", "card"}


# --- what bodies mention ---------------------------------------------------------------------------------------------

SIGNAL = "by a const[a]nt"


class Payment(BaseModel):
    card: Card


@saga
async def child() -> None:
    await receive("typed", Typed)


async def helper() -> None:
    await receive("salted", Named)


@saga
async def waits() -> None:
    await receive("payment", Payment)
    await helper()
    await child()


@saga
async def waits_for_a_pin() -> str:
    async def inner() -> str:
        return await ask_for_a_pin(SIGNAL)

    return await inner()


async def ask_for_a_pin(name: str) -> str:
    return str(await receive(name, Pin))  # type: ignore[call-overload]  # no class


@saga
async def waits_for_what_is_marked_there() -> None:
    await receive("pin", Annotated[str, Secret()])  # type: ignore[call-overload]  # no class


@saga
async def waits_for_an_iban() -> None:
    await receive("iban", Iban)


def test_marks_in_the_types_of_signals_are_found_where_bodies_and_their_helpers_mention_them() -> None:
    assert secret_names([waits]) == {"number", "salt", "key"}


def test_a_signal_that_is_secret_as_a_whole_is_hidden_by_its_name() -> None:
    mask = Mask(secret_names([waits_for_a_pin]))
    assert mask.payload(SIGNAL, "1234") == "***"
    assert mask.payload("other", {"payload": SIGNAL}) == {"payload": SIGNAL}
    assert Mask(secret_names([waits_for_what_is_marked_there])).payload("pin", "1234") == "***"
    assert Mask(secret_names([waits_for_an_iban])).payload("iban", "1234") == "***"
    assert Mask(["p*.payload"]).payload("pin", "1234") == "***"
    assert "pin.payload" not in secret_names([waits])


def test_what_a_body_mentions_by_its_module_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.core import corpus

    monkeypatch.setattr(corpus, "Payment", Payment, raising=False)

    @saga
    async def local() -> None:
        await receive("payment", corpus.Payment)  # type: ignore[attr-defined]  # set above

    assert secret_names([local]) == {"number"}


class Odd:
    __annotations__ = {"broken": "1 / 0", "hidden": "Secret"}


def test_annotations_that_cannot_be_evaluated_stop_nothing() -> None:
    @saga
    async def odd() -> None:
        await receive("odd", Odd)

    assert secret_names([odd]) == {"hidden"}
