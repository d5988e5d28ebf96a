"""Sagas over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas import Client, Coordinator, receive, saga, step
from sagas.errors import DeclarationError, Rejected
from sagas_adapters.http import MemoryResponses, RouterRequest, saga_router
from sagas_adapters.http.problems import Response
from sagas_adapters.http.router import saga_id_of
from tests.adapters.serving import serving


@step
async def reserve(item: str) -> str:
    if item == "nothing":
        raise Rejected("there is no such thing")
    return f"{item} is reserved"


@saga
async def place_order(item: str, quantity: int = 1) -> str:
    return await reserve(item)


@saga
async def wait_for_pay(item: str) -> int:
    await reserve(item)
    return await receive("paid/cents", int)


@reserve.compensator
async def release(item: str) -> None: ...


@contextmanager
def running(store: str, **options: Any) -> Generator[str]:
    """Serves a router beside its coordinator; the app's lifespan enters it."""

    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                async with Coordinator(store, sagas=[place_order, wait_for_pay]) as coordinator:
                    self.router = saga_router(coordinator, sagas=[place_order, wait_for_pay], **options)
                    await self.router(scope, receive, send)
            else:
                await self.router(scope, receive, send)

    with serving(App(), lifespan="on") as url:
        yield url


@pytest.fixture
def url() -> Generator[str]:
    with running("memory:") as found, httpx2.Client() as client:
        # The first request waits until the lifespan has begun.
        assert client.get(f"{found}/sagas").json() == {"sagas": []}
        yield found


def start(url: str, name: str = "place_order", key: str | None = None, wait: int = 0, **arguments: Any) -> Any:
    headers = {"Prefer": f"wait={wait}"} | ({} if key is None else {"Idempotency-Key": key})
    return httpx2.post(f"{url}/sagas/{name}", json=arguments, headers=headers)


def problem(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:sagas:problem:")


def test_a_saga_is_started_and_its_result_waited_for(url: str) -> None:
    response = start(url, item="lamp", wait=20)
    assert response.status_code == 200
    told = response.json()
    assert (told["status"], told["result"], told["name"]) == ("completed", "lamp is reserved", "place_order")
    there = httpx2.URL(f"{url}/sagas/place_order").join(response.headers["location"])
    assert httpx2.get(there).json() == told


def test_a_saga_that_is_not_over_is_promised(url: str) -> None:
    response = start(url, "wait_for_pay", item="lamp")
    assert response.status_code == 202
    assert response.json()["status"] == "running"


def test_a_saga_that_is_undone_is_told_as_it_is(url: str) -> None:
    told = start(url, item="nothing", wait=20).json()
    assert told["status"] == "compensated"
    assert "there is no such thing" in told["cause"]


def test_the_same_key_is_the_same_saga(url: str) -> None:
    first = start(url, key="a", wait=20, item="lamp")
    assert start(url, key="a", wait=20, item="lamp").json() == first.json()
    assert start(url, key='"a"', wait=20, item="lamp", quantity=1).json() == first.json()
    assert problem(start(url, key="a", item="desk")) == (422, "key-reused")
    assert start(url, key="b", wait=20, item="desk").json()["id"] != first.json()["id"]


def test_a_key_outlives_the_process(tmp_path: Any) -> None:
    told = list[Any]()
    for _ in range(2):
        with running(f"sqlite:///{tmp_path}/s.db") as url:
            told.append(start(url, key="a", wait=20, item="lamp").json())
    assert told[0] == told[1]


@given(st.text(), st.text(), st.text(min_size=1), st.text(min_size=1))
def test_keys_of_different_callers_are_different_sagas(whose: str, other: str, key: str, another: str) -> None:
    same = (whose, key) == (other, another)
    assert (saga_id_of("s", whose, key) == saga_id_of("s", other, another)) is same
    assert saga_id_of("s", whose, key) != saga_id_of("t", whose, key)


def test_signals_and_cancellations_reach_the_saga(url: str) -> None:
    one, two = (start(url, "wait_for_pay", item="lamp").json()["id"] for _ in range(2))
    assert httpx2.post(f"{url}/sagas/{one}/signals/paid%2Fcents", json=5).status_code == 202
    assert httpx2.post(f"{url}/sagas/{two}/cancel", json={"reason": "too late", "by": "me"}).status_code == 202
    with anyio.from_thread.start_blocking_portal() as portal:
        portal.call(_until, url, one, "completed")
        portal.call(_until, url, two, "compensated")
    assert httpx2.get(f"{url}/sagas/{one}").json()["result"] == 5
    assert problem(httpx2.post(f"{url}/sagas/{one}/cancel", json={"reason": "x"})) == (409, "conflict")
    rows = httpx2.get(f"{url}/sagas?status=compensated&limit=5").json()["sagas"]
    assert [row["id"] for row in rows] == [two]


async def _until(url: str, saga_id: str, status: str) -> None:
    """Asks until a saga is as it should be."""
    async with httpx2.AsyncClient() as client:
        with anyio.fail_after(30):
            while (await client.get(f"{url}/sagas/{saga_id}")).json()["status"] != status:  # noqa: ASYNC110 - see above
                await anyio.sleep(0.01)


def test_a_signal_with_a_key_is_sent_once(url: str) -> None:
    saga_id = start(url, "wait_for_pay", item="lamp").json()["id"]
    there, key = f"{url}/sagas/{saga_id}/signals/other", {"Idempotency-Key": '"s1"'}
    first = httpx2.post(there, json=1, headers=key)
    assert first.status_code == 202
    httpx2.post(f"{url}/sagas/{saga_id}/cancel", json={"reason": "x"})
    again = httpx2.post(there, json=1, headers=key)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert problem(httpx2.post(there, json=2, headers=key)) == (422, "key-reused")


@pytest.mark.parametrize(
    ("method", "path", "content", "told"),
    [
        ("POST", "/sagas/other", b"{}", (404, "unknown-saga")),
        ("POST", "/sagas/place_order", b"{", (400, "bad-json")),
        ("POST", "/sagas/place_order", b"[]", (422, "arguments")),
        ("POST", "/sagas/place_order", b'{"item":1}', (422, "arguments")),
        ("POST", "/sagas/place_order", b" " * 2_000_000, (413, "too-large")),
        ("GET", "/sagas/none", b"", (404, "unknown-saga")),
        ("POST", "/sagas/none/cancel", b'{"reason":"x"}', (404, "unknown-saga")),
        ("POST", "/sagas/none/cancel", b"{}", (400, "bad-request")),
        ("POST", "/sagas/none/cancel", b'{"reason":" "}', (400, "bad-request")),
        ("POST", "/sagas/none/signals/x", b"1", (404, "unknown-saga")),
        ("GET", "/sagas?status=odd", b"", (400, "bad-request")),
        ("GET", "/sagas?limit=0", b"", (400, "bad-request")),
        ("GET", "/sagas?limit=%C2%B2", b"", (400, "bad-request")),
        ("GET", "/sagas?colour=red", b"", (400, "bad-request")),
        ("DELETE", "/sagas/none", b"", (405, "method")),
        ("GET", "/", b"", (404, "not-found")),
    ],
)
def test_what_is_wrong_is_told(url: str, method: str, path: str, content: bytes, told: tuple[int, str]) -> None:
    assert problem(httpx2.request(method, url + path, content=content)) == told


def test_only_who_may_does() -> None:
    asked: list[tuple[str, str]] = []

    async def authorize(request: RouterRequest) -> bool | str:
        asked.append((request.action, request.subject))
        return request.headers.get("x-user", False)

    with running("memory:", authorize=authorize) as url:
        assert problem(start(url, item="lamp")) == (403, "forbidden")
        ids = {
            httpx2.post(
                f"{url}/sagas/place_order", json={"item": "lamp"}, headers={"x-user": user, "Idempotency-Key": "a"}
            ).json()["id"]
            for user in ("ann", "bob", "ann")
        }
    assert len(ids) == 2
    assert asked == [("start", "place_order")] * 4


def test_a_coordinator_that_is_not_there_is_told() -> None:
    with serving(saga_router(Coordinator("memory:"), sagas=[place_order])) as url:
        response = start(url, item="lamp")
        assert problem(response) == (503, "closed")
        assert response.headers["retry-after"] == "1"


def test_a_client_will_do(tmp_path: Any) -> None:
    store = f"sqlite:///{tmp_path}/s.db"

    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                async with Client(store, migrate=True) as client:
                    self.router = saga_router(client, sagas=[place_order])
                    await self.router(scope, receive, send)
            else:
                await self.router(scope, receive, send)

    with serving(App(), lifespan="on") as url:
        assert start(url, key="a", item="lamp").json()["waits_for"]


@pytest.mark.parametrize("wrong", [{"sagas": [reserve]}, {"sagas": [], "max_body": 0}, {"sagas": [], "wait": -1}])
def test_options_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(DeclarationError):
        saga_router(Coordinator("memory:"), **wrong)


# --- responses that are kept -----------------------------------------------------------------------------------------


async def test_a_response_is_kept_by_its_key() -> None:
    kept = MemoryResponses()
    assert await kept.begin("k", b"f") is None
    assert await kept.begin("k", b"f") == "running"
    assert await kept.begin("k", b"g") == "mismatch"
    await kept.finish("k", Response(202, b"{}"))
    assert await kept.begin("k", b"f") == Response(202, b"{}")
    await kept.forget("k")
    assert await kept.begin("k", b"g") is None


async def test_responses_are_kept_for_a_while_and_only_so_many() -> None:
    moment = [0.0]
    kept = MemoryResponses(max_entries=3, max_age=10.0, now=lambda: moment[0])
    for key in "abcd":
        await kept.begin(key, b"f")
        await kept.finish(key, Response(202))
    assert len(kept) == 3
    assert await kept.begin("a", b"g") is None
    moment[0] = 11.0
    assert await kept.begin("d", b"g") is None
    assert len(kept) == 1


def test_while_the_first_is_at_work_the_second_is_told_to_wait() -> None:
    begun, go = threading.Event(), threading.Event()

    class Held(Coordinator):
        async def signal(self, saga_id: str, name: str, payload: object = None, **_: Any) -> None:
            begun.set()
            await anyio.to_thread.run_sync(go.wait)

    with serving(saga_router(Held("memory:"), sagas=[])) as url:
        there, key = f"{url}/sagas/s/signals/x", {"Idempotency-Key": "k"}
        statuses: list[int] = []
        thread = threading.Thread(target=lambda: statuses.append(httpx2.post(there, headers=key).status_code))
        thread.start()
        begun.wait(30)
        assert problem(httpx2.post(there, headers=key)) == (409, "key-in-use")
        go.set()
        thread.join()
        assert statuses == [202]
        assert httpx2.post(there, headers=key).status_code == 202
