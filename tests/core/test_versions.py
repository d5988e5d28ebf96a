"""Which version of a saga a call starts, and with which arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import DeclarationError, PayloadError, Saga, saga
from sagas.core.registry import Registry
from sagas.core.versions import Versions, chosen, newest

IDS = [f"order-{number}" for number in range(10_000)]
shares = st.dictionaries(
    st.text("0123456789.ab", min_size=1, max_size=4), st.integers(0, 1000), min_size=1, max_size=5
).filter(lambda weights: any(weights.values()))


@dataclass
class Order:
    item: str


@dataclass
class Gift:
    item: str
    wrapping: str = "gold"


@saga(name="place_order", version="1")
async def first(order: Order) -> None: ...


@saga(name="place_order", version="2")
async def second(order: Order, *, express: bool = False) -> None: ...


@saga(name="place_order", version="3")
async def third(order: Order, shop: str) -> None: ...


@saga(name="place_order", version="4")
async def fourth(order: Gift, others: list[Gift]) -> None: ...


@saga(name="place_order", version="5")
async def fifth(order: Gift, others: list[Order]) -> None: ...


@saga(name="place_order", version="6")
async def sixth(order: int) -> None: ...


@saga(name="place_order", version="7")
async def seventh(order: Gift) -> None: ...


def _versions(**weights: int) -> Versions:
    shares = {version.removeprefix("v"): weight for version, weight in weights.items()}
    return Versions({"place_order": shares}, Registry([first, second, third, fourth, fifth, sixth, seventh]))


# --- choosing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("saga_id", "version"),
    [
        ("order-1", "1"),
        ("order-2", "1"),
        ("order-42", "1"),
        ("order-15", "2"),
        ("order-24", "2"),
        ("größe-7", "1"),
        ("", "1"),
    ],
)
def test_the_rule_is_written_down_and_holds_for_ever(saga_id: str, version: str) -> None:
    """Computed once, as the module says; another answer would put sagas that are started again in another version."""
    assert chosen({"1": 90, "2": 10}, "place_order", saga_id) == version


@given(shares, st.text(max_size=20))
def test_the_same_id_always_gives_the_same_version(weights: dict[str, int], saga_id: str) -> None:
    """However the weights are listed, and in whatever unit; never one without a weight."""
    version = chosen(weights, "order", saga_id)
    assert weights[version] > 0
    assert chosen(dict(reversed(weights.items())), "order", saga_id) == version
    assert chosen({name: weight * 7 for name, weight in weights.items()}, "order", saga_id) == version


@pytest.mark.parametrize("weights", [{"1": 90, "2": 10}, {"1": 1, "2": 1, "10": 2}, {"a": 995, "b": 5}])
def test_each_version_gets_its_part_of_many_ids(weights: dict[str, int]) -> None:
    """Within four standard deviations of its share."""
    versions = [chosen(weights, "order", saga_id) for saga_id in IDS]
    for version, weight in weights.items():
        share = weight / sum(weights.values())
        deviation = (len(IDS) * share * (1 - share)) ** 0.5
        assert abs(versions.count(version) - len(IDS) * share) < 4 * deviation


def test_raising_a_weight_moves_only_ids_that_change_sides() -> None:
    """From the old version to the new one, never back."""
    before = [chosen({"9": 90, "10": 10}, "order", saga_id) for saga_id in IDS]
    after = [chosen({"9": 70, "10": 30}, "order", saga_id) for saga_id in IDS]
    assert set(zip(before, after, strict=True)) == {("9", "9"), ("9", "10"), ("10", "10")}


def test_sagas_of_another_name_are_divided_otherwise() -> None:
    """So that it is not always the same customers who try what is new."""
    one, other = ([chosen({"1": 1, "2": 1}, name, saga_id) for saga_id in IDS] for name in ("order", "refund"))
    same = sum(a == b for a, b in zip(one, other, strict=True))
    assert abs(same - len(IDS) / 2) < 4 * (len(IDS) / 4) ** 0.5


@pytest.mark.parametrize(
    "ordered",
    [["9", "10"], ["1.9", "1.10"], ["1", "1.0", "1.1"], ["2024-9", "2024-11"], ["v2", "v10"], ["1", "2", "2-beta"]],
)
def test_versions_are_compared_as_people_do(ordered: list[str]) -> None:
    """Digits count as numbers."""
    for place in range(1, len(ordered)):
        assert newest(ordered[: place + 1][::-1]) == ordered[place]


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=6))
def test_any_versions_have_a_newest_whatever_their_order(versions: list[str]) -> None:
    """Also texts that differ only in zeros."""
    assert newest(versions) == newest(versions[::-1]) == newest(sorted(versions))


# --- arguments ---------------------------------------------------------------------------------------------------


def test_without_weights_the_definition_that_was_called_is_taken() -> None:
    """That is what its caller wrote."""
    versions = Versions({}, Registry([first, second]))
    call, arguments = versions.start(first(Order("a")), "s")
    assert call.saga is first
    assert arguments == b'{"order":{"item":"a"}}'


@pytest.mark.parametrize("called", [first, second])
@pytest.mark.parametrize(
    ("weights", "starts", "arguments"),
    [
        ({"v1": 1, "v2": 0}, first, {"order": {"item": "a"}}),
        ({"v1": 0, "v2": 1}, second, {"order": {"item": "a"}, "express": False}),
        ({"v7": 1}, seventh, {"order": {"item": "a", "wrapping": "gold"}}),
    ],
)
def test_the_chosen_version_is_started_whichever_was_called(
    called: Saga[[Order], None], weights: dict[str, int], starts: Saga[..., Any], arguments: object
) -> None:
    """With its own parameters and types: what was not passed takes its default, or is left out."""
    call, encoded = _versions(**weights).start(called(Order("a")), "s")
    assert call.saga is starts
    assert orjson.loads(encoded) == arguments


@pytest.mark.parametrize(
    ("weights", "call", "says"),
    [
        ({"v1": 1}, second(Order("a"), express=True), "version 1 of .*'s'.*has no place for express"),
        ({"v3": 1}, first(Order("a")), "version 3 of .*'s'.*shop: Field required"),
        ({"v1": 1}, third(Order("a"), "x"), "version 1 .*no place for shop"),
        ({"v1": 1}, fourth(Gift("a"), []), "version 1 .*no place for order.wrapping"),
        ({"v4": 1}, first(Order("a")), "version 4 .*others: Field required"),
        ({"v5": 1}, fourth(Gift("a"), [Gift("b")]), "version 5 .*no place for others.wrapping"),
        ({"v6": 1}, first(Order("a")), "version 6 .*order: Input should be a valid integer"),
        ({"v1": 1}, second(5), "version 1 .*(cannot be encoded|do not fit their types)"),  # type: ignore[arg-type]
    ],
)
def test_a_call_that_does_not_fit_the_chosen_version_says_so(weights: dict[str, int], call: Any, says: str) -> None:
    """Which one, why it was chosen, and what is wrong; nothing is lost in silence."""
    with pytest.raises(PayloadError, match=f"(?s)versions=.* chose {says}"):
        _versions(**weights).start(call, "s")


def test_the_same_call_is_recognised_whichever_version_was_started() -> None:
    """When the weights have changed since, say."""
    for wrote in (first, second):
        only = {f"v{version}": int(version == wrote.version) for version in ("1", "2")}
        for call in (first(Order("a")), second(Order("a"))):
            _, recorded = _versions(**only).start(call, "s")
            for again in (first(Order("a")), second(Order("a"))):
                assert _versions(v1=1).is_same(again, wrote.version, recorded)
            others = (first(Order("b")), second(Order("a"), express=True), seventh(Gift("a")), third(Order("a"), "x"))
            for other in others:
                assert not _versions(v1=1).is_same(other, wrote.version, recorded)


def test_the_same_call_is_recognised_when_the_body_has_a_new_parameter_since() -> None:
    """Or a new field in one; without the code of that time."""
    versions = Versions({}, Registry([second]))
    recorded = b'{"order":{"item":"a"}}'
    assert versions.is_same(second(Order("a")), "1", recorded)
    assert not versions.is_same(second(Order("a"), express=True), "1", recorded)
    assert not versions.is_same(second(Order("b")), "1", recorded)
    assert not versions.is_same(first(Order("a")), "1", b'{"order":{"item":"a"},"more":1}')
    assert not versions.is_same(first(Order("a")), "1", b'{"order":{"item":"a","wrapping":"gold"}}')
    assert versions.is_same(seventh(Gift("a")), "1", recorded)
    assert not versions.is_same(seventh(Gift("a", "silver")), "1", recorded)
    assert not versions.is_same(sixth(5), "1", recorded)


# --- declaring ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "teaches"),
    [
        (["place_order"], r"write each saga's versions with their weights: \{'place_order'"),
        ({"place_order": "2"}, "write each saga's versions"),
        ({"place_order": {"1": 0.9, "2": 0.1}}, "0.9 cannot be the weight of place_order version '1'; .*whole numbers"),
        ({"place_order": {"1": True}}, "True cannot be the weight"),
        ({"place_order": {"1": -1}}, "-1 cannot be the weight"),
        ({"place_order": {"1": 0, "2": 0}}, "place_order has no version with a weight above 0"),
        ({"place_order": {}}, "place_order has no version with a weight above 0"),
        (
            {"place_order": {"1": 90, "9": 10}},
            "'9' has a weight, but no definition: there is only version 1, 2",
        ),
        ({"refund": {"1": 1}}, "refund version '1' has a weight, but no definition: there is none of this name"),
        ({"place_order": {1: 90}}, "version 1 has a weight, but no definition"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: Mapping[str, Any], teaches: str) -> None:
    """Before anything is started."""
    with pytest.raises(DeclarationError, match=f"(?s){teaches}"):
        Versions(weights, Registry([first, second]))


def test_a_version_that_is_merely_continued_cannot_have_a_weight() -> None:
    """New sagas of it cannot be started."""

    @saga(name="place_order", version="2", continues=("1",))
    async def body() -> None: ...

    with pytest.raises(DeclarationError, match="'1' has a weight, but no definition"):
        Versions({"place_order": {"1": 1, "2": 1}}, Registry([body]))
