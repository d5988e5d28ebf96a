"""What a participant answers over HTTP, whoever asks."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Generator
from typing import Any

import anyio
import httpx2
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas.errors import DeclarationError, TransportClosed
from sagas.testing.contracts import Participant
from sagas.transport import Beat, StepReply, StepRequest
from sagas_adapters.http import asgi, participant_app
from tests.adapters.serving import LocalParticipant, raw_exchange, serving

PATIENCE = 30.0
KEY = {"Idempotency-Key": '"k"'}
LAMP = b'{"item":"lamp"}'


class Slow:
    """A participant whose one step acts when it is let."""

    steps = ("wait",)

    def __init__(self, *, beats: bool = False) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.performed: list[StepRequest] = []
        self.closed = False
        self._beats = beats

    async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
        if self.closed:
            raise TransportClosed("the participant is being stopped")
        self.begun.release()
        while not self.go.is_set():
            await anyio.sleep(0.005)
            if self._beats and beat is not None:
                beat()
        self.performed.append(request)
        return StepReply.succeeded(b'"done"')


@pytest.fixture
def shelf() -> Participant:
    return Participant()


@pytest.fixture
def url(shelf: Participant) -> Generator[str]:
    with serving(participant_app(LocalParticipant(shelf.steps), max_body=1000)) as found:
        yield found


def post(url: str, content: Any = LAMP, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.post(url, content=content, headers={"content-type": "application/json", **(headers or KEY)})


def problem(response: httpx2.Response) -> tuple[int, str]:
    """Gives the status and the type of a problem, which says what is wrong."""
    assert response.headers["content-type"] == "application/problem+json"
    told = response.json()
    assert told["status"] == response.status_code
    assert told["title"]
    assert told["detail"]
    return response.status_code, told["type"].removeprefix("urn:sagas:problem:")


# --- each rule -------------------------------------------------------------------------------------------------------


def test_a_step_is_a_post_away(url: str, shelf: Participant) -> None:
    """With no more than curl has to send."""
    response = post(f"{url}/steps/reserve")
    assert (response.status_code, response.content) == (200, b'"ticket 1"')
    assert response.headers["content-type"] == "application/json"
    assert post(f"{url}/steps/reserve", headers={"Idempotency-Key": "k"}).content == b'"ticket 1"'
    assert shelf.acted == ["k"]


def test_an_undo_that_undid_has_nothing_to_say(url: str, shelf: Participant) -> None:
    post(f"{url}/steps/reserve")
    keys = {"Idempotency-Key": '"u"', "Saga-Undoes": '"k"'}
    response = post(f"{url}/steps/reserve/undo", b'{ "result" : "ticket 1", "arguments" : {"item": "lamp"} }', keys)
    assert (response.status_code, response.content) == (204, b"")
    assert shelf.undone == [("k", "ticket 1")]


@pytest.mark.parametrize(
    ("path", "content", "headers", "told"),
    [
        ("steps/reserve", LAMP, {}, (400, "bad-request")),
        ("steps/reserve", LAMP, {"Idempotency-Key": '"%zz"'}, (400, "bad-request")),
        ("steps/reserve", LAMP, {**KEY, "Saga-Attempt": "x"}, (400, "bad-request")),
        ("steps/reserve", LAMP, {**KEY, "Saga-Deadline": "5"}, (412, "deadline-passed")),
        ("steps/reserve", b'{"item":', KEY, (400, "bad-json")),
        ("steps/reserve", b"", KEY, (400, "bad-json")),
        ("steps/reserve", b"\xff", KEY, (400, "bad-json")),
        ("steps/reserve", b"[]", KEY, (422, "arguments")),
        ("steps/reserve", b'{"item":1}', KEY, (422, "arguments")),
        ("steps/reserve", LAMP, {**KEY, "content-type": "text/plain"}, (415, "unsupported")),
        ("steps/reserve", b" " * 1001, KEY, (413, "too-large")),
        ("steps/reserve/undo", LAMP, {**KEY, "Saga-Undoes": '"k"'}, (400, "bad-request")),
        ("steps/reserve/undo", b"{", {**KEY, "Saga-Undoes": '"k"'}, (400, "bad-json")),
        ("steps/reserve/undo", b'{"arguments":{}}', KEY, (400, "bad-request")),
        ("steps/nothing", LAMP, KEY, (404, "unknown-step")),
        ("steps/decline", LAMP, KEY, (422, "rejected")),
        ("steps/refuse", LAMP, KEY, (500, "failed")),
        ("steps/break_off", LAMP, KEY, (500, "in-doubt")),
        ("steps/reserve/probe", LAMP, KEY, (404, "not-applied")),
        ("steps/reserve/other", LAMP, KEY, (404, "not-found")),
        ("steps/%ff", LAMP, KEY, (404, "not-found")),
        ("elsewhere", LAMP, KEY, (404, "not-found")),
        ("requests/x", LAMP, KEY, (405, "method")),
    ],
)
def test_what_is_wrong_is_told(
    url: str, shelf: Participant, path: str, content: bytes, headers: dict[str, str], told: tuple[int, str]
) -> None:
    assert problem(post(f"{url}/{path}", content, headers or {"x-none": "1"})) == told
    assert shelf.acted == (["k"] if told[1] == "in-doubt" else [])


def test_a_method_that_is_not_there_is_told_with_the_one_that_is(url: str) -> None:
    response = httpx2.get(f"{url}/steps/reserve")
    assert problem(response) == (405, "method")
    assert response.headers["allow"] == "POST"
    assert problem(httpx2.get(f"{url}/requests/x")) == (404, "unknown-request")


def test_a_key_that_comes_again_with_something_else_is_told(url: str, shelf: Participant) -> None:
    post(f"{url}/steps/reserve")
    assert problem(post(f"{url}/steps/reserve", b'{"item":"desk"}')) == (422, "key-reused")
    assert shelf.acted == ["k"]


def test_an_action_after_its_undo_is_fenced(url: str) -> None:
    post(f"{url}/steps/reserve/undo", b'{"arguments":{"item":"lamp"}}', {"Idempotency-Key": "u", "Saga-Undoes": "k"})
    assert problem(post(f"{url}/steps/reserve")) == (409, "fenced")


def test_a_rejection_tells_its_fields(url: str) -> None:
    error = post(f"{url}/steps/decline").json()["error"]
    assert error["fields"] == {"args": ["lamp", 3], "attributes": {"item": "lamp", "left": 3}}
    assert error["type"].endswith(":OutOfStock")


def test_a_body_in_pieces_has_the_same_limit(url: str, shelf: Participant) -> None:
    """Chunked, so that no header tells how long it is."""
    assert post(f"{url}/steps/reserve", iter([b'{"item":', b'"lamp"}'])).status_code == 200
    pieces = iter([b'{"item":"', *[b"x" * 100] * 20, b'"}'])
    with contextlib.suppress(httpx2.WriteError):  # the server does not wait for the rest
        assert problem(post(f"{url}/steps/reserve", pieces, {"Idempotency-Key": "j"})) == (413, "too-large")
    assert shelf.acted == ["k"]


def test_a_body_that_does_not_come_is_not_waited_for(
    url: str, shelf: Participant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly it comes, a byte at a time say; the connection ends with that."""
    monkeypatch.setattr(asgi, "BODY_WITHIN", 0.2)
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(b"POST /steps/reserve HTTP/1.1\r\nHost: x\r\nIdempotency-Key: a\r\nContent-Length: 15\r\n\r\n{")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"urn:sagas:problem:slow" in answer
    assert shelf.acted == []


async def test_a_header_of_the_protocol_that_comes_twice_is_refused(url: str, shelf: Participant) -> None:
    sent = b"POST /steps/reserve HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: a\r\n"
    sent += b"Idempotency-Key: b\r\nContent-Length: 15\r\n\r\n" + LAMP
    answer = await raw_exchange(url, sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"came twice" in answer
    assert shelf.acted == []


def test_tracebacks_stay_at_home_if_that_is_wanted(shelf: Participant) -> None:
    with serving(participant_app(LocalParticipant(shelf.steps), tracebacks=False)) as url:
        assert "traceback" not in post(f"{url}/steps/break_off").json()["error"]


def test_headers_of_the_saga_reach_the_step_s_request(shelf: Participant) -> None:
    participant = LocalParticipant(shelf.steps)
    with serving(participant_app(participant)) as url:
        post(f"{url}/steps/reserve", headers={**KEY, "traceparent": "00-a-b-01", "Authorization": "secret"})
    (request,) = participant.requests
    assert request.headers["traceparent"] == "00-a-b-01"
    assert "authorization" not in request.headers


# --- what takes long -------------------------------------------------------------------------------------------------


def test_what_takes_long_is_promised_and_can_be_fetched() -> None:
    slow = Slow()
    with serving(participant_app(slow)) as url:
        first = post(f"{url}/steps/wait", headers={**KEY, "Prefer": "wait=0"})
        assert first.status_code == 202
        assert first.headers["retry-after"] == "0"
        there = str(httpx2.URL(f"{url}/steps/wait").join(first.headers["location"]))
        again = httpx2.get(there, headers={"Prefer": "wait=0"})
        assert again.status_code == 202
        assert str(httpx2.URL(there).join(again.headers["location"])) == there
        slow.go.set()
        for _ in range(2):
            assert httpx2.get(there, headers={"Prefer": "wait=20"}).content == b'"done"'
    assert len(slow.performed) == 1


def test_a_duplicate_waits_for_the_first_and_gets_the_same() -> None:
    slow = Slow()
    app = participant_app(slow)
    with serving(app) as url:
        promised = [post(f"{url}/steps/wait", headers={**KEY, "Prefer": "wait=0"}) for _ in range(2)]
        assert promised[0].headers["location"] == promised[1].headers["location"]
        assert problem(post(f"{url}/steps/wait", b"{}")) == (422, "key-reused")
        assert app.running == 1
        slow.go.set()
        assert post(f"{url}/steps/wait").content == b'"done"'
    assert [request.idempotency_key for request in slow.performed] in (["k"], ["k", "k"])  # the second if it came late


async def test_a_step_goes_on_when_its_caller_is_gone() -> None:
    slow = Slow()
    with serving(participant_app(slow)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            head = b"POST /steps/wait HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nContent-Length: 15\r\n\r\n"
            await stream.send(head + LAMP)
            await anyio.to_thread.run_sync(slow.begun.acquire)
        slow.go.set()
        with anyio.fail_after(PATIENCE):
            while not slow.performed:  # noqa: ASYNC110 - it is what is waited for
                await anyio.sleep(0.01)


def test_there_is_room_for_so_many() -> None:
    slow = Slow()
    with serving(participant_app(slow, max_running=2)) as url:
        for key in ("a", "b"):
            post(f"{url}/steps/wait", headers={"Idempotency-Key": key, "Prefer": "wait=0"})
        full = post(f"{url}/steps/wait", headers={"Idempotency-Key": "c"})
        assert problem(full) == (503, "busy")
        assert full.headers["retry-after"] == "1"
        slow.go.set()
    assert {request.idempotency_key for request in slow.performed} <= {"a", "b"}


def test_a_participant_that_is_being_stopped_says_so_and_when_to_come_again() -> None:
    slow = Slow()
    with serving(participant_app(slow)) as url:
        first = post(f"{url}/steps/wait", headers={**KEY, "Prefer": "wait=0"})
        slow.closed = True
        closed = post(f"{url}/steps/wait", headers={"Idempotency-Key": "j"})
        assert problem(closed) == (503, "closed")
        assert closed.headers["retry-after"] == "1"
        slow.go.set()  # what was begun is still answered
        assert httpx2.get(str(httpx2.URL(f"{url}/steps/wait").join(first.headers["location"]))).content == b'"done"'


def test_a_participant_that_breaks_leaves_its_step_in_doubt() -> None:
    class Broken(Slow):
        async def perform(self, request: StepRequest, *, beat: Beat | None = None) -> StepReply:
            raise LookupError("the database is gone")

    with serving(participant_app(Broken())) as url:
        response = post(f"{url}/steps/wait")
        assert problem(response) == (500, "in-doubt")
        assert response.json()["detail"] == "the database is gone"


@pytest.mark.parametrize("wrong", [{"max_body": 0}, {"wait": 0}, {"wait": float("inf")}, {"callbacks_allowed": "x"}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        participant_app(Slow(), **wrong)


# --- anything --------------------------------------------------------------------------------------------------------

_TOKENS = st.from_regex(r"[A-Za-z-]{1,12}", fullmatch=True)
_ODD = st.sampled_from(
    ["Idempotency-Key", "Saga-Undoes", "Saga-Attempt", "Saga-Deadline", "Prefer", "Saga-Beats", "Content-Type",
     "Saga-Callback", "Saga-Signature"]
)  # fmt: skip
_BYTES = st.binary(max_size=40).map(lambda value: bytes(byte for byte in value if byte not in b"\r\n\0"))
_PATHS = st.sampled_from(
    ["/steps/reserve", "/steps/reserve/undo", "/steps/reserve/probe", "/requests/x", "/", "//", "/steps",
     "/steps//undo", "/steps/%00", "/steps/..%2f..", "/%2e%2e/steps/reserve", "/steps/reserve?x=1"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.sampled_from(["POST", "GET", "PUT", "OPTIONS"]), _PATHS,
    st.lists(st.tuples(_TOKENS | _ODD, _BYTES), max_size=4), st.binary(max_size=60) | st.just(LAMP),
)  # fmt: skip
def test_whatever_is_sent_is_answered(
    url: str, method: str, path: str, headers: list[tuple[str, bytes]], content: bytes
) -> None:
    """With a problem if it is one; and the server goes on."""
    head = [("Host", b"x"), ("Connection", b"close"), ("Content-Length", b"%d" % len(content)), *headers]
    sent = f"{method} {path} HTTP/1.1\r\n".encode() + b"".join(
        name.encode() + b": " + value + b"\r\n" for name, value in head
    )
    answer = anyio.run(raw_exchange, url, sent + b"\r\n" + content)
    top, _, body = answer.partition(b"\r\n\r\n")
    status = int(top.split(b" ")[1])
    if b"urn:sagas:" in body:
        assert orjson.loads(body)["status"] == status
    else:
        assert status < 300 or body == b"Invalid HTTP request received."  # by uvicorn itself


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_http_do_not_hurt(url: str, shelf: Participant, sent: bytes) -> None:
    anyio.run(raw_exchange, url, sent)
    assert post(f"{url}/steps/reserve").status_code == 200
    assert len(shelf.acted) == 1
