"""What is declared wrongly is refused when the module is imported, with a sentence that teaches."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from sagas import DeclarationError, NotApplied, Retry, Saga, Step, saga, step
from sagas.core.registry import Registry

Declare = Callable[[], object]
WRONG: dict[str, tuple[Declare, str]] = {}


def wrong(teaches: str) -> Callable[[Declare], Declare]:
    """Collects a declaration that is to be refused, with what the error has to say."""

    def collect(declare: Declare) -> Declare:
        WRONG[declare.__name__] = (declare, teaches)
        return declare

    return collect


class Socket:
    """A type that cannot be written."""


@step
async def charge(amount: int) -> str:
    return "x"


@wrong("the step has no parameter order.*here: amount, result")
def a_compensator_wants_what_the_step_lacks() -> None:
    @step
    async def pay(amount: int) -> None: ...

    @pay.compensator
    async def refund(order: int) -> None: ...


@wrong(r"`result: str` cannot be None.*Annotate `result: str \| None`")
def a_compensator_takes_no_none_though_the_step_can_be_in_doubt() -> None:
    @step
    async def pay(amount: int) -> str:
        return ""

    @pay.compensator
    async def refund(result: str) -> None: ...


@wrong("amount is annotated <class 'str'>, but the step takes <class 'int'>")
def a_compensator_takes_another_type() -> None:
    @step
    async def pay(amount: int) -> None: ...

    @pay.compensator
    async def refund(amount: str) -> None: ...


@wrong("has a compensator already: refund")
def two_compensators() -> None:
    @step
    async def pay(amount: int) -> None: ...

    @pay.compensator
    async def refund() -> None: ...

    @pay.compensator
    async def again() -> None: ...


@wrong("has a probe already: find")
def two_probes() -> None:
    @step
    async def pay() -> None: ...

    @pay.probe
    async def find() -> NotApplied:
        return NotApplied()

    @pay.probe
    async def again() -> None: ...


@wrong("the step has no parameter order")
def a_probe_wants_what_the_step_lacks() -> None:
    @step
    async def pay(amount: int) -> None: ...

    @pay.probe
    async def find(order: int) -> None: ...


@wrong("never in doubt and needs no probe")
def a_probe_of_a_transactional_step() -> None:
    @step(transactional=True)
    def pay(session: Any) -> None: ...

    @pay.probe
    def find() -> None: ...


@wrong("must be a function")
def a_compensator_that_is_no_function() -> None:
    @step
    async def pay() -> None: ...

    pay.compensator(Socket())  # type: ignore[call-overload]  # that is the point


@wrong("@saga decorates an `async def`")
def a_body_that_is_not_async() -> None:
    @saga  # type: ignore[arg-type]  # that is the point
    def body() -> None: ...


@wrong("@saga decorates an `async def`")
def a_body_that_yields() -> None:
    @saga
    async def body() -> Any:
        yield 1


@wrong("@step decorates a function")
def a_step_that_is_a_class() -> None:
    step(Socket)


@wrong("@step decorates a function")
def a_step_that_yields_asynchronously() -> None:
    @step
    async def pay() -> Any:
        yield 1


@wrong("@step decorates a function")
def a_step_that_yields() -> None:
    @step
    def pay() -> Iterator[int]:
        yield 1


@wrong("cannot be bound by name")
def a_step_with_any_number_of_arguments() -> None:
    @step
    async def pay(*amounts: int) -> None: ...


@wrong("cannot be bound by name")
def a_saga_with_positional_parameters() -> None:
    @saga
    async def body(amount: int, /) -> None: ...


@wrong("the arguments of step pay.*cannot be written to the journal")
def an_argument_that_cannot_be_written() -> None:
    @step
    async def pay(socket: Socket) -> None: ...


@wrong("the result of step pay.*cannot be written to the journal")
def a_result_that_cannot_be_written() -> None:
    @step
    async def pay() -> Socket:
        return Socket()


@wrong("saga body.*cannot be written to the journal")
def an_input_that_cannot_be_written() -> None:
    @saga
    async def body(socket: Socket) -> None: ...


@wrong("takes neither timeout= nor heartbeat=")
def a_transactional_step_with_a_timeout() -> None:
    step(transactional=True, timeout=3)(lambda session: None)  # type: ignore[call-overload]  # that is the point


@wrong("must be `def`")
def a_transactional_step_that_is_async() -> None:
    @step(transactional=True)
    async def pay(session: Any) -> None: ...


@wrong("the first parameter of a transactional step is the Session")
def a_transactional_step_without_a_session() -> None:
    @step(transactional=True)  # type: ignore[arg-type]  # that is the point
    def pay() -> None: ...


@wrong("compensator unpay of step pay: a transactional compensator cannot be interrupted, so it takes no timeout=")
def a_transactional_compensator_with_a_timeout() -> None:
    @step
    def pay() -> None: ...

    @pay.compensator(transactional=True, timeout=3)  # type: ignore[call-overload,untyped-decorator]  # that is the point
    def unpay(session: Any) -> None: ...


@wrong("must be `def`")
def a_transactional_compensator_that_is_async() -> None:
    @step
    def pay() -> None: ...

    @pay.compensator(transactional=True)
    async def unpay(session: Any) -> None: ...


@wrong("the first parameter of a transactional compensator is the Session")
def a_transactional_compensator_without_a_session() -> None:
    @step
    def pay() -> None: ...

    @pay.compensator(transactional=True)  # type: ignore[type-var]  # that is the point
    def unpay() -> None: ...


@wrong("the step has no parameter amount")
def a_transactional_compensator_that_wants_what_there_is_not() -> None:
    @step
    def pay() -> None: ...

    @pay.compensator(transactional=True)
    def unpay(session: Any, amount: int) -> None: ...


@wrong("transactional where the step is performed, not here")
def a_transactional_compensator_of_a_remote_step() -> None:
    @step(remote=True)
    def pay() -> None: ...

    @pay.compensator(transactional=True)
    def unpay(session: Any) -> None: ...


@wrong("rejects=.* is not an exception type")
def a_rejection_that_is_no_exception() -> None:
    step(rejects=(5,))(lambda: None)  # type: ignore[arg-type]  # that is the point


@wrong("rejects=.*(tuple|sequence|list)")
def rejects_that_is_one_type() -> None:
    step(rejects=KeyError)(lambda: None)  # type: ignore[call-overload]  # that is the point


@wrong("retry=3.*Retry")
def a_retry_that_is_a_number() -> None:
    step(retry=3)(lambda: None)  # type: ignore[call-overload]  # that is the point


@wrong("retry=3.*Retry")
def a_compensator_s_retry_that_is_a_number() -> None:
    @step
    async def pay() -> None: ...

    @pay.compensator(retry=3)  # type: ignore[call-overload,untyped-decorator]  # that is the point
    async def refund() -> None: ...


@wrong("limit=0 would never let it run")
def a_limit_of_nothing() -> None:
    step(limit=0)(lambda: None)


@wrong("timeout=0 is not a positive number of seconds")
def a_step_without_time() -> None:
    step(timeout=0)(lambda: None)


@wrong("timeout='soon' is not a positive number of seconds")
def a_saga_with_a_timeout_in_words() -> None:
    @saga(timeout="soon")  # type: ignore[call-overload,untyped-decorator]  # that is the point
    async def body() -> None: ...


@wrong("cannot name a step")
def a_name_with_spaces() -> None:
    step(name="charge the card")(lambda: None)


@wrong("cannot name a saga")
def an_empty_name() -> None:
    @saga(name="")
    async def body() -> None: ...


@wrong("cannot name a version of saga body")
def a_version_that_is_a_number() -> None:
    @saga(version=2)  # type: ignore[call-overload,untyped-decorator]  # that is the point
    async def body() -> None: ...


@wrong("two sagas are named 'body' version '1'")
def two_sagas_of_one_name() -> None:
    def make() -> Saga[[], None]:
        @saga
        async def body() -> None: ...

        return body

    Registry([make(), make()])


@wrong(r"continues='1'; write a tuple of versions: continues=\('1',\)")
def continues_that_is_one_version() -> None:
    @saga(version="2", continues="1")
    async def body() -> None: ...


@wrong("continues=1; write a tuple")
def continues_that_is_a_number() -> None:
    @saga(version="2", continues=1)  # type: ignore[call-overload,untyped-decorator]  # that is the point
    async def body() -> None: ...


@wrong("cannot name a version of saga body")
def a_version_before_that_is_a_number() -> None:
    @saga(version="2", continues=(1,))  # type: ignore[arg-type]  # that is the point
    async def body() -> None: ...


@wrong("saga body: version '2' cannot continue itself")
def a_version_that_continues_itself() -> None:
    @saga(version="2", continues=("1", "2"))
    async def body() -> None: ...


@wrong("both version '2' and version '3' say that they continue version '1'; leave it to one")
def two_versions_that_continue_the_same() -> None:
    def make(version: str) -> Saga[[], None]:
        @saga(version=version, continues=("1",))
        async def body() -> None: ...

        return body

    Registry([make("2"), make("3")])


@wrong("that is no saga; decorate it with @saga")
def something_else_for_a_saga() -> None:
    Registry([charge])  # type: ignore[list-item]  # that is the point


@wrong("that is no step; decorate it with @step")
def something_else_for_a_step() -> None:
    Registry([], steps=[print])  # type: ignore[list-item]  # that is the point


@pytest.mark.parametrize("name", WRONG)
def test_it_is_refused_at_import(name: str) -> None:
    """By a ``DeclarationError`` that says what is wrong and what to write instead."""
    declare, teaches = WRONG[name]
    with pytest.raises(DeclarationError, match=f"(?s){teaches}"):
        declare()


def test_a_wrong_argument_is_refused_where_the_call_is_built() -> None:
    """As python does, with the step's name."""
    with pytest.raises(TypeError, match="step charge"):
        charge(1, 2)  # type: ignore[call-arg,unused-awaitable]  # that is the point


def test_arguments_are_bound_by_name_with_defaults() -> None:
    """However they are passed."""

    @step
    def ship(sku: str, count: int = 1, *, fast: bool = False) -> None: ...

    expected = {"sku": "a", "count": 1, "fast": False}
    assert ship("a").arguments == ship(sku="a").arguments == expected
    assert ship("a", 2, fast=True).arguments == {"sku": "a", "count": 2, "fast": True}


def test_a_declaration_keeps_the_name_and_the_text_of_its_function() -> None:
    """For help() and for journals."""

    @step(retry=Retry(attempts=2))
    def ship() -> None:
        """Ships."""

    assert isinstance(ship, Step)
    assert (ship.name, ship.__name__, inspect.getdoc(ship)) == ("ship", "ship", "Ships.")


def test_annotations_may_name_what_is_defined_later() -> None:
    """They are resolved when they are needed."""

    @step
    async def ship(item: Later) -> Later:
        return item

    assert ship(Later()).arguments.keys() == {"item"}


@dataclass
class Later:
    """Defined after its first use."""


def test_a_registry_finds_the_steps_that_a_body_can_see() -> None:
    """Also when the body no longer calls them; named ones win."""

    @saga
    async def body() -> None:
        await charge(1)

    @step(name="charge")
    async def other() -> None: ...

    assert Registry([body]).steps["charge"] is charge
    assert Registry([body], steps=[other]).steps["charge"] is other


def test_a_registry_finds_a_saga_of_that_very_version() -> None:
    """Other versions' journals are for the processes that have their code."""

    @saga(version="7")
    async def body() -> None:
        await charge(1)

    registry = Registry([body])
    assert registry.find("body", "7") is body
    assert registry.find("body", "8") is None
    assert registry.code == ("body@7",)


def test_a_version_that_continues_others_goes_on_with_their_sagas() -> None:
    """Unless theirs is there: then each keeps its own."""

    @saga(name="body", version="1")
    async def first() -> None: ...

    @saga(name="body", version="3", continues=("1", "2"))
    async def third() -> None: ...

    registry = Registry([third])
    assert [registry.find("body", version) for version in ("1", "2", "3", "4")] == [third, third, third, None]
    assert registry.code == ("body@1", "body@2", "body@3")
    assert registry.versions("body") == ("3",)
    for sagas in ([first, third], [third, first]):
        both = Registry(sagas)
        assert [both.find("body", version) for version in ("1", "2", "3")] == [first, third, third]
        assert both.code == ("body@1", "body@2", "body@3")


def test_a_registry_knows_the_newest_version_of_a_name() -> None:
    """By their natural order, however they were passed."""

    def make(version: str) -> Saga[[], None]:
        @saga(version=version)
        async def body() -> None: ...

        return body

    made = {version: make(version) for version in ("9", "10", "8")}
    registry = Registry(made.values())
    assert registry.newest("body") is made["10"]
    assert registry.newest("other") is None
