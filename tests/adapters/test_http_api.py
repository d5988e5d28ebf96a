"""What a call of somebody else's API says about the step that made it."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx2
import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from sagas import Coordinator, Retry, saga, step
from sagas.context import StepContext, running_step
from sagas.errors import DeclarationError, Rejected, SagaCompensated
from sagas_adapters.http import Api, ApiInDoubt, ApiNotActed, ApiRejected
from tests.adapters.serving import free_port, serving

PATIENCE = 30.0


class Bank:
    """An API that answers as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = [(200, {}, b'{"id":7}')]
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.delay = 0.0
        self.cut = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = (await receive()).get("body", b"")
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], headers, body))
        await anyio.sleep(self.delay)
        status, told, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        listed = [(name.encode(), value.encode()) for name, value in told.items()]
        if self.cut:
            listed.append((b"content-length", b"999"))
        await send({"type": "http.response.start", "status": status, "headers": listed})
        await send({"type": "http.response.body", "body": content, "more_body": self.cut})
        if self.cut:
            raise ConnectionError("after it has acted")


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def url(bank: Bank) -> Generator[str]:
    with serving(bank, lifespan="off") as found:
        yield found


@contextmanager
def in_step(**more: Any) -> Generator[None]:
    """As if a coordinator had called the test."""
    given: dict[str, Any] = {
        "step": "pay",
        "path": "1",
        "undoes": None,
        "attempt": 1,
        "deadline": None,
        "idempotency_key": "k-1",
    }
    token = running_step.set(StepContext(saga_id="s", **{**given, **more}))
    try:
        yield
    finally:
        running_step.reset(token)


async def call(url: str, method: str = "POST", path: str = "/charges", *, options: Any = None, **more: Any) -> Any:
    api = Api(url, **(options or {}))
    try:
        return await api.request(method, path, **more)
    finally:
        await api.aclose()


async def test_a_call_goes_with_the_step_s_key_and_trace(url: str, bank: Bank) -> None:
    tracer = TracerProvider().get_tracer("test")
    with in_step(), tracer.start_as_current_span("attempt") as span:
        response = await call(url, json={"cents": 5})
    assert response.json() == {"id": 7}
    ((method, path, headers, body),) = bank.asked
    assert (method, path, orjson.loads(body)) == ("POST", "/charges", {"cents": 5})
    assert headers["idempotency-key"] == "k-1"
    assert trace.format_trace_id(span.get_span_context().trace_id) in headers["traceparent"]


@pytest.mark.parametrize(
    ("method", "options", "more", "key"),
    [("GET", {}, {}, None), ("POST", {"key_header": None}, {}, None), ("PUT", {"quote_key": True}, {}, '"k-1"'),
     ("DELETE", {}, {"part": "2"}, "k-1:2"), ("POST", {}, {"headers": {"Idempotency-Key": "mine"}}, "mine"),
     ("PATCH", {"key_header": "X-Request-Id"}, {}, "k-1")],
)  # fmt: skip
async def test_what_changes_something_has_a_key(
    url: str, bank: Bank, method: str, options: Any, more: Any, key: str | None
) -> None:
    with in_step():
        await call(url, method, options=options, **more)
    headers = bank.asked[0][2]
    assert headers.get((options.get("key_header", "Idempotency-Key") or "none").lower()) == key


async def test_outside_of_a_step_a_call_is_a_call(url: str, bank: Bank) -> None:
    """So that unit tests stay plain."""
    await call(url)
    assert "idempotency-key" not in bank.asked[0][2]


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [((400, 402, 404, 410, 412, 413, 422, 451), ApiRejected),
     ((401, 403, 405, 411, 415, 425, 429, 431), ApiNotActed),
     ((301, 303, 307, 408, 409, 418, 500, 502, 503, 504), ApiInDoubt)],
)  # fmt: skip
async def test_each_status_says_one_thing(url: str, bank: Bank, statuses: tuple[int, ...], kind: type) -> None:
    for status in statuses:
        bank.answers = [(status, {"retry-after": "100"}, b'{"detail":"no money","code":51}')]
        with in_step(), pytest.raises(kind, match=f"HTTP {status}: no money") as caught:
            await call(url)
        error: Any = caught.value
        assert error.status == status
        if kind is ApiRejected:
            assert issubclass(kind, Rejected)
            assert error.problem == {"detail": "no money", "code": 51}
        else:
            assert error.retry_after == 100.0


async def test_what_rejects_can_be_chosen_and_what_is_accepted_too(url: str, bank: Bank) -> None:
    bank.answers = [(409, {}, b"exists")]
    with in_step(), pytest.raises(ApiRejected, match="exists"):
        await call(url, options={"rejects": (409,)})
    bank.answers = [(404, {}, b"")]
    with in_step():
        assert (await call(url, "DELETE", accept=(404,))).status_code == 404
        with pytest.raises(ApiInDoubt):
            await call(url, options={"rejects": ()})


async def test_who_cannot_be_reached_has_not_acted() -> None:
    with in_step(), pytest.raises(ApiNotActed):
        await call(f"http://127.0.0.1:{free_port()}", options={"patience": 0.0})


async def test_what_was_not_begun_is_tried_again_after_its_time(url: str, bank: Bank) -> None:
    bank.answers = [(429, {"retry-after": "0"}, b""), (429, {"retry-after": "1"}, b""), (200, {}, b"1")]
    began = time.monotonic()
    with in_step():
        assert (await call(url)).content == b"1"
    assert time.monotonic() - began >= 1.0
    assert [headers["idempotency-key"] for _, _, headers, _ in bank.asked] == ["k-1"] * 3


async def test_nobody_waits_beyond_the_deadline(url: str, bank: Bank) -> None:
    bank.answers = [(429, {"retry-after": "5"}, b"")]
    with in_step(deadline=time.time() + 3.0), pytest.raises(ApiNotActed):
        await call(url)
    with in_step(deadline=time.time() - 1.0), pytest.raises(ApiNotActed, match="deadline had passed"):
        await call(url)
    assert len(bank.asked) == 1


async def test_an_answer_that_does_not_come_leaves_it_in_doubt(url: str, bank: Bank) -> None:
    bank.delay = 5.0
    with in_step(deadline=time.time() + 0.3), pytest.raises(ApiInDoubt):
        await call(url)
    with in_step(), pytest.raises(ApiInDoubt):
        await call(url, options={"timeout": 0.1})


async def test_an_answer_that_breaks_off_leaves_it_in_doubt(url: str, bank: Bank) -> None:
    bank.cut = True
    with in_step(), pytest.raises(ApiInDoubt):
        await call(url)


async def test_an_answer_that_is_too_large_leaves_it_in_doubt(url: str, bank: Bank) -> None:
    bank.answers = [(200, {}, b"x" * 100_000)]
    with in_step(), pytest.raises(ApiInDoubt, match="max_answer"):
        await call(url, options={"max_answer": 1000})


async def test_a_client_of_one_s_own_stays_open(url: str, bank: Bank) -> None:
    async with httpx2.AsyncClient(auth=("shop", "secret"), base_url=url) as client:
        api = Api(url, client=client)
        for method in (api.get, api.post, api.put, api.patch, api.delete):
            await method("/x")
        await api.aclose()
        assert not client.is_closed
    assert [method for method, *_ in bank.asked] == ["GET", "POST", "PUT", "PATCH", "DELETE"]
    assert all("authorization" in headers for _, _, headers, _ in bank.asked)


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"patience": -1}, {"max_connections": 0}, {"max_answer": 0}])
def test_options_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError):
        Api("http://x", **wrong)


async def test_a_saga_pays_once_whatever_the_bank_answers(url: str, bank: Bank) -> None:
    """A 500 after it has acted is tried again with the same key; a no ends the step, and nothing is to be undone."""
    api = Api(url)
    undone: list[object] = []

    @step(retry=Retry(attempts=3, initial=0.01))
    async def charge(cents: int) -> int:
        return int((await api.post("/charges", json={"cents": cents})).json()["id"])

    @charge.compensator
    async def refund(cents: int, result: int | None) -> None:
        undone.append(result)

    @saga
    async def order(cents: int) -> int:
        return await charge(cents)

    bank.answers = [(500, {}, b""), (200, {}, b'{"id":7}'), (402, {}, b'{"detail":"no money"}')]
    async with Coordinator("memory:", sagas=[order]) as coordinator:
        assert await coordinator.run(order(5)) == 7
        keys = [headers["idempotency-key"] for _, _, headers, _ in bank.asked]
        assert len(keys) == 2
        assert len(set(keys)) == 1
        with pytest.raises(SagaCompensated, match="no money"):
            await coordinator.run(order(6))
    assert undone == []
    await api.aclose()
