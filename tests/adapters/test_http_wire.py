"""What travels over HTTP arrives as it was sent."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas.core.events import ErrorInfo
from sagas.errors import KeyReused
from sagas.transport import StepReply, StepRequest
from sagas_adapters.http.fields import members, preferred_wait, quoted, retry_after_seconds, unquoted
from sagas_adapters.http.problems import HttpProblem
from sagas_adapters.http.replies import (
    Answer,
    is_final,
    is_turned_away,
    lost,
    open_envelope,
    read_reply,
    write_envelope,
    write_reply,
)
from sagas_adapters.http.requests import (
    header_table,
    read_request,
    request_body,
    request_headers,
    request_path,
    where_of,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ENCODED = st.builds(
    lambda value, plain, spaced: json.dumps(
        value, ensure_ascii=not plain, separators=(", ", " : ") if spaced else (",", ":")
    ).encode(),
    JSON, st.booleans(), st.booleans(),
)  # fmt: skip
OBJECTS = st.dictionaries(TEXTS, JSON, max_size=3).map(lambda value: json.dumps(value).encode())
ERRORS = st.builds(ErrorInfo, TEXTS.filter(bool), TEXTS, st.none() | ENCODED | OBJECTS, TEXTS)
SECONDS = st.none() | st.floats(0, 1e6)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=200)
# As HTTP lets them through: neither control characters nor white space at the ends.
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"])).filter(lambda text: text == text.strip())
HEADERS = st.dictionaries(st.from_regex(r"x-[a-z0-9-]{1,20}", fullmatch=True), VALUES, max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> StepRequest:
    kind: Any = draw(st.sampled_from(["action", "undo", "probe"]))
    undo = kind == "undo"
    return StepRequest(
        kind=kind,
        step=draw(NAMES),
        saga_id=draw(TEXTS),
        path=draw(TEXTS),
        idempotency_key=draw(TEXTS.filter(bool)),
        undoes=draw(TEXTS) if undo else None,
        attempt=draw(st.integers(1, 10**8)),
        arguments=draw(ENCODED),
        result=draw(st.none() | ENCODED) if undo else None,
        deadline=draw(st.none() | st.floats(0, 1e11)),
        headers=draw(HEADERS),
    )


def replies(kind: str) -> st.SearchStrategy[StepReply]:
    """Those that a request of a kind can have."""
    failures = st.builds(StepReply.failed, ERRORS, retry_after=SECONDS) | st.builds(
        StepReply.in_doubt, ERRORS, retry_after=SECONDS
    )
    every = failures | st.builds(StepReply.running, retry_after=SECONDS) | st.builds(StepReply.succeeded, ENCODED)
    return every | {
        "action": st.just(StepReply.fenced()) | st.builds(StepReply.rejected, ERRORS),
        "undo": st.just(StepReply.succeeded()),
        "probe": st.just(StepReply.not_applied()),
    }.get(kind, st.nothing())


def sent(request: StepRequest) -> StepRequest:
    """Writes a request as the client does, and reads it as a server does."""
    fields = [
        (name.encode(), value if isinstance(value, bytes) else value.encode("ascii"))
        for name, value in request_headers(request).items()
    ]
    path = tuple(
        part.decode() for part in map(bytes, map(_unquoted, request_path(request).encode().strip(b"/").split(b"/")))
    )
    where = where_of(path)
    assert where is not None
    assert where.kind is not None
    return read_request(where.kind, where.name, header_table(fields), request_body(request))


def _unquoted(part: bytes) -> bytes:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(part)


def answered(status: int, body: bytes = b"", kind: str = "application/problem+json", **headers: str) -> Answer:
    return Answer(status, {"content-type": kind, **{k.replace("_", "-"): v for k, v in headers.items()}}, body, 1000.0)


def received(reply: StepReply, request: StepRequest) -> Answer:
    """Writes a reply as a server does."""
    response = write_reply(reply, request)
    headers = {name.decode(): value.decode() for name, value in response.headers}
    return Answer(response.status, {"content-type": response.media_type.decode(), **headers}, response.body, 0.0)


@given(requests())
def test_a_request_arrives_as_it_was_sent(request_: StepRequest) -> None:
    assert sent(request_) == request_
    assert sent(request_).fingerprint() == request_.fingerprint()


@given(st.data())
def test_a_reply_comes_back_as_it_was_given(data: st.DataObject) -> None:
    request = data.draw(requests())
    reply = data.draw(replies(request.kind))
    assert read_reply(received(reply, request), request) == reply


@given(st.data())
def test_a_reply_that_is_called_back_is_the_same(data: st.DataObject) -> None:
    request = data.draw(requests())
    reply = data.draw(replies(request.kind))
    body = write_envelope(write_reply(reply, request))
    if reply.outcome != "running":
        assert read_reply(open_envelope(body, 0.0), request) == reply


@given(TEXTS)
def test_a_text_in_a_header_is_a_structured_string_and_comes_back(text: str) -> None:
    written = quoted(text)
    assert written[0] == written[-1] == '"'
    assert written.isascii()
    assert written.isprintable()
    assert not {'"', "\\"} & set(written[1:-1])
    assert unquoted(written.encode()) == text
    assert text != text.strip() or written[1:2] == '"' or unquoted(written[1:-1].encode()) == text


@pytest.mark.parametrize(
    ("written", "text"),
    [(b'"a\\"b\\\\c"', 'a"b\\c'), (b"bare-key", "bare-key"), (b'"50%25"', "50%"), ("ü".encode(), "ü"), (b'""', "")],
)
def test_what_others_write_is_read(written: bytes, text: str) -> None:
    assert unquoted(written) == text


@pytest.mark.parametrize("written", [b'"open', b'"', b'"50%"', b'"%zz"', b'"%ff"', b"\xff"])
def test_what_is_no_text_is_refused(written: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unquoted(written)


@given(st.dictionaries(TEXTS, ENCODED, max_size=4), st.sampled_from(["", " ", "\n\t "]))
def test_the_members_of_an_object_are_given_to_the_byte(given_: dict[str, bytes], space: str) -> None:
    gap = space.encode()
    body = gap + b"{" + gap
    body += (gap + b"," + gap).join(
        json.dumps(name).encode() + gap + b":" + gap + value for name, value in given_.items()
    )
    assert members(body + gap + b"}" + gap) == given_


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0 \\u', max_size=30).map(str.encode))
def test_members_of_anything_are_refused_or_what_json_says(body: bytes) -> None:
    try:
        found = members(body)
    except ValueError:
        return
    assert isinstance(json.loads(body), dict)
    assert {name: json.loads(value) for name, value in found.items()} == json.loads(body)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        members(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (" 0 ", 0.0), (formatdate(1030, usegmt=True), 30.0), (formatdate(900, usegmt=True), 0.0),
     ("soon", None), ("", None), (None, None), ("-3", None), ("Wed, 99 Nov 2026", None), ("1.5", None)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, 1000.0) == seconds


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [("wait=5", 5.0), ("respond-async, wait=10", 10.0), ('wait="3"; x, y', 3.0), ("WAIT = 2", 2.0), ("", None),
     ("respond-async", None), ("await=5", None), ("wait=soon", None), ("wait=-1", None)],
)  # fmt: skip
def test_the_preference_to_wait_is_read(prefer: str, seconds: float | None) -> None:
    assert preferred_wait(prefer) == seconds


# --- what others answer ----------------------------------------------------------------------------------------------

ACT = StepRequest(kind="action", step="pay", saga_id="s", path="1", idempotency_key="k")
UNDO = StepRequest(kind="undo", step="pay", saga_id="s", path="1", idempotency_key="k:undo", undoes="k")
PROBE = StepRequest(kind="probe", step="pay", saga_id="s", path="1", idempotency_key="k")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [*((status, "failed") for status in (400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 417, 421, 428, 429, 431)),
     *((status, "in_doubt") for status in (301, 302, 303, 307, 408, 409, 410, 418, 422, 500, 501, 502, 503, 504, 599))],
)  # fmt: skip
def test_what_a_status_alone_says(status: int, outcome: str) -> None:
    """From a proxy, say, which knows nothing of steps."""
    reply = read_reply(answered(status, b"<html>no</html>", "text/html", retry_after="12"), ACT)
    assert reply.outcome == outcome
    assert reply.error is not None
    assert str(status) in reply.error.message
    assert reply.retry_after == 12.0
    assert reply.reached is (status not in {502, 503, 504})


@pytest.mark.parametrize("status", [409, 422])
def test_a_problem_of_somebody_elses_is_a_rejection(status: int) -> None:
    body = orjson.dumps({"type": "https://pay.example/declined", "detail": "no money"})
    reply = read_reply(answered(status, body), ACT)
    assert reply == StepReply.rejected(ErrorInfo("problem:https://pay.example/declined", "no money"))
    assert read_reply(answered(status, b'{"title":"No"}'), ACT).error == ErrorInfo("problem:about:blank", "No")
    assert read_reply(answered(status, body), UNDO).outcome == "in_doubt"
    assert read_reply(answered(status, body), PROBE).outcome == "in_doubt"


@pytest.mark.parametrize("status", [500, 503])
def test_a_problem_of_somebody_elses_says_nothing_at_another_status(status: int) -> None:
    assert read_reply(answered(status, b'{"type":"https://pay.example/declined"}'), ACT).outcome == "in_doubt"


def test_successes_of_others_are_read() -> None:
    assert read_reply(answered(204), ACT) == StepReply.succeeded()
    assert read_reply(answered(200, b"", "text/plain"), UNDO) == StepReply.succeeded()
    assert read_reply(answered(201, b"7", "application/json; charset=utf-8"), ACT) == StepReply.succeeded(b"7")
    assert read_reply(answered(202, b"{}", "application/json", retry_after="3"), ACT) == StepReply.running(
        retry_after=3.0
    )
    assert read_reply(answered(200, b"<html>log in</html>", "text/html"), ACT).outcome == "in_doubt"


def test_a_key_that_was_used_is_an_error() -> None:
    with pytest.raises(KeyReused, match="'k'"):
        read_reply(answered(422, b'{"type":"urn:sagas:problem:key-reused"}'), ACT)


@given(st.integers(200, 599), st.binary(max_size=60) | ENCODED, st.sampled_from(["application/problem+json", "x"]))
def test_whatever_is_answered_is_a_reply(status: int, body: bytes, kind: str) -> None:
    assert read_reply(answered(status, body, kind, retry_after="x"), ACT).outcome in {
        "succeeded", "rejected", "failed", "in_doubt", "running",
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from(["type", "title", "detail", "error", "retry_after", "status"]), JSON))
def test_whatever_is_in_a_problem_is_a_reply(told: dict[str, object]) -> None:
    kinds = ["failed", "in-doubt", "rejected", "closed", "unheard-of"]
    for kind in kinds:
        problem = json.dumps({**told, "type": "urn:sagas:problem:" + kind}).encode()
        reply = read_reply(answered(422, problem), ACT)
        assert reply.error is not None
        assert isinstance(reply.error.message, str)
        assert reply.retry_after is None or reply.retry_after >= 0


def test_an_answer_that_is_fetched_may_be_about_the_question_only() -> None:
    unknown = answered(404, b'{"type":"urn:sagas:problem:unknown-request"}')
    assert lost(unknown)
    assert not is_final(unknown)
    assert not is_final(answered(401, b'{"type":"urn:sagas:problem:signature"}'))
    assert not is_final(answered(404, b"", "text/html"))
    assert is_final(answered(500, b'{"type":"urn:sagas:problem:failed"}'))
    assert is_final(answered(200, b"1", "application/json"))
    assert is_turned_away(answered(429, b"", "text/html"))
    assert not is_turned_away(answered(503, b'{"type":"urn:sagas:problem:closed"}'))


# --- what cannot be sent, or makes no sense --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{"x-a": "b\r\nx-c: d"}, {"x-a": " b"}, {"x a": "b"}, {"x-a": "b\0"}, {"X-A": "b"}, {"": "b"}]
)
def test_headers_that_would_be_something_else_are_not_sent(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be sent over HTTP"):
        request_headers(
            StepRequest(kind="probe", step="s", saga_id="s", path="1", idempotency_key="k", headers=headers)
        )


def test_what_is_http_s_own_does_not_travel() -> None:
    own = {"authorization": "x", "host": "y", "saga-attempt": "9", "cookie": "z", "content-length": "3"}
    fields = request_headers(
        StepRequest(kind="probe", step="s", saga_id="s", path="1", idempotency_key="k", headers=own)
    )
    assert fields["saga-attempt"] == "1"
    assert not {"authorization", "host", "cookie", "content-length"} & set(fields)
    table = {b"idempotency-key": b"k", b"authorization": b"x", b"cookie": b"y", b"traceparent": b"t", b"x-odd": b"\xff"}
    assert set(read_request("action", "s", table, b"{}").headers) == {"traceparent", "x-odd"}


@pytest.mark.parametrize(
    ("fields", "says"),
    [({}, "Idempotency-Key"), ({b"idempotency-key": b'""'}, "Idempotency-Key"),
     ({b"idempotency-key": b'"%"'}, "idempotency-key cannot be read"),
     ({b"idempotency-key": b"k", b"saga-attempt": b"0"}, "Saga-Attempt"),
     ({b"idempotency-key": b"k", b"saga-attempt": b"1e3"}, "Saga-Attempt"),
     ({b"idempotency-key": b"k", b"saga-attempt": "²".encode("latin-1")}, "Saga-Attempt"),
     ({b"idempotency-key": b"k", b"saga-deadline": b"nan"}, "Saga-Deadline"),
     ({b"idempotency-key": b"k", b"saga-deadline": b"1_0"}, "Saga-Deadline"),
     ({b"idempotency-key": b"k", b"saga-deadline": b"soon"}, "Saga-Deadline"),
     ({b"idempotency-key": b"k", b"saga-undoes": b"k"}, "Saga-Undoes")],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_a_problem(fields: dict[bytes, bytes], says: str) -> None:
    with pytest.raises(HttpProblem, match=says) as caught:
        read_request("action", "s", fields, b"{}")
    assert caught.value.response.status == 400


def test_deadlines_travel_to_the_microsecond() -> None:
    moment = time.time() + 0.123456
    request = StepRequest(kind="action", step="s", saga_id="s", path="1", idempotency_key="k", deadline=moment)
    assert sent(request).deadline == moment
