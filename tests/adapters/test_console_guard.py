"""What the console does with what no page of its own would send, and with more than it can take."""

from __future__ import annotations

import re
import string
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import anyio
import anyio.lowlevel
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import example, given
from hypothesis import strategies as st

from sagas import Client, Coordinator
from sagas.errors import SagaNotFound
from sagas.stores import store_for
from sagas.transport import MemoryQueue, Message
from sagas_adapters.console import console_app
from sagas_adapters.console import events as console_events
from sagas_adapters.console import queues as console_queues
from sagas_adapters.console.events import Changes, Stream
from sagas_adapters.console.forms import Refusal
from sagas_adapters.console.looking import PAGES
from sagas_adapters.console.queues import Queues
from sagas_adapters.sql import SqlQueue
from tests.adapters.operated import SAGAS, Warehouse, browsing, mark, start_all

TOKEN = "a token that is long enough"  # noqa: S105 - of a console that lives for a moment


@pytest.fixture
def anyio_backend() -> str:
    """What is tested here is below none of the loops; the pages are tested on each."""
    return "asyncio"


@pytest.fixture
async def client() -> AsyncGenerator[Client]:
    async with Client(store_for("memory:"), migrate=True) as client:
        yield client


# --- pages of other sites --------------------------------------------------------------------------------------------

LEADS_HERE = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
@pytest.mark.parametrize("path", ["./", "events?of=./", "queues", "static/console.css", "nothing"])
async def test_a_page_of_another_site_has_nothing_done_here(client: Client, path: str, site: str) -> None:
    async with browsing(console_app(client)) as browser:
        for more in (
            {"sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
            {"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"},
            {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
            {},
        ):
            page = await browser.get(path, headers={"sec-fetch-site": site, **more})
            assert (page.status_code, "another site" in page.text) == (403, True), (path, more)
            assert "content-security-policy" in page.headers
        posted = await browser.post(path, headers={"sec-fetch-site": site, **LEADS_HERE})
        assert posted.status_code == 403


async def test_whoever_follows_a_link_or_a_bookmark_gets_here(client: Client) -> None:
    async with browsing(console_app(client)) as browser:
        for site, more in (("cross-site", LEADS_HERE), ("same-origin", {"sec-fetch-mode": "cors"}), ("none", {})):
            page = await browser.get("coordinators", headers={"sec-fetch-site": site, **more})
            assert page.status_code == 200, site


# --- streams ---------------------------------------------------------------------------------------------------------


async def _told(stream: Stream) -> str:
    """Gives what a stream sends until it ends by itself."""
    sent: list[bytes] = []

    async def receive() -> Any:
        await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    with anyio.fail_after(30):
        await stream({"type": "http", "asgi": {"spec_version": "2.4"}}, receive, send)
    return b"".join(sent).decode()


def _loader(*answers: object) -> Callable[[], Any]:
    """Gives something to load that answers one after the other, and the last one for ever."""
    left = list(answers)

    async def load() -> object:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return load


@pytest.mark.parametrize("error", [Refusal(400, "Which saga?", "It lacks its id."), ZeroDivisionError("a bug")])
async def test_a_page_that_refuses_after_a_while_ends_its_stream(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    changes = Changes(0.001)
    told = await _told(await changes.open("ana", "stuck", "", _loader("one", "two", SagaNotFound("for now"), error)))
    assert told.endswith(f"event: changed\ndata: {type(error).__name__}\n\n")
    assert ("a bug" in caplog.text) is isinstance(error, ZeroDivisionError)
    assert not changes._followed  # noqa: SLF001 - nothing may be left behind
    assert not changes._streams  # noqa: SLF001


async def test_a_page_that_refuses_at_once_has_no_stream(client: Client) -> None:
    changes = Changes(1)
    with pytest.raises(Refusal):
        await changes.open("ana", "saga", "", _loader(Refusal(400, "Which saga?", "It lacks its id.")))
    assert not changes._streams  # noqa: SLF001 - likewise
    async with browsing(console_app(client)) as browser:
        page = await browser.get("events?of=saga")
        assert (page.status_code, "Which saga?" in page.text) == (400, True)


async def test_one_visitor_leaves_streams_for_others_and_all_together_leave_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console_events, "_MOST_EACH", 2)
    monkeypatch.setattr(console_events, "_MOST", 3)
    changes = Changes(1)
    streams = [await changes.open("ana", f"page {number}", "", _loader("one")) for number in range(2)]
    with pytest.raises(Refusal) as refused:
        await changes.open("ana", "page 2", "", _loader("one"))
    assert refused.value.status == 429
    streams.append(await changes.open("bea", "page 1", "", _loader("one")))
    with pytest.raises(Refusal) as refused:
        await changes.open("cem", "page 1", "", _loader("one"))
    assert refused.value.status == 503
    for stream in streams:  # whoever is gone makes room
        with anyio.move_on_after(0):
            await _told(stream)
    assert not changes._followed  # noqa: SLF001 - likewise
    await changes.open("ana", "page 2", "", _loader("one"))


# --- requests that no browser makes ----------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A request as a server hands it over."""

    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    method: str = "GET"
    body: bytes = b""


class Answer(NamedTuple):
    """The answer to it."""

    status: int
    body: bytes


async def _ask(app: Any, asked: Asked) -> Answer:
    """Asks, and is gone at once."""
    told = [{"type": "http.request", "body": asked.body, "more_body": False}]
    status, body = [], b""

    async def receive() -> Any:
        return told.pop() if told else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal body
        body += message.get("body", b"")
        if "status" in message:
            status.append(message["status"])
            for name, value in message["headers"]:
                assert not {*b"\r\n\0"} & {*name, *value}

    headers = asked.headers if any(name == b"host" for name, _ in asked.headers) else ((b"host", b"h"), *asked.headers)
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "scheme": "http",
        "method": asked.method, "path": asked.path, "raw_path": quote(asked.path).encode(), "root_path": "",
        "query_string": asked.query, "headers": headers, "client": ("127.0.0.1", 1), "server": ("h", 80),
    }  # fmt: skip
    with anyio.fail_after(30):
        await app(scope, receive, send)
    return Answer(status[0], body)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Asked], list[Answer]]]:
    """Asks a console that lets everybody in by a token, one that lets this machine in, and one of the host's own."""
    Warehouse.is_up = False
    place = tmp_path_factory.mktemp("guard")
    queue = f"sqlite:///{place / 'queue.db'}?queue=payments"
    with start_blocking_portal("asyncio") as portal:
        coordinator: AbstractAsyncContextManager[Coordinator] = Coordinator(
            f"sqlite:///{place / 'orders.db'}", sagas=SAGAS
        )
        with portal.wrap_async_context_manager(coordinator) as running:
            portal.call(start_all, running)
            apps = [
                console_app(running, tokens={TOKEN: "operator"}, queues=[queue], refresh=0.01),
                console_app(running, hosts=["h"], queues=[queue], refresh=0.01),
            ]
            yield lambda asked: [portal.call(_ask, app, asked) for app in apps]


BEARER = (b"authorization", f"Bearer {TOKEN}".encode())
FORM = (b"content-type", b"application/x-www-form-urlencoded")
_ODD = st.sampled_from([
    "", "[", "//[", "http://[", "http://[::1", "//[]:x@", "\0", "\r\nX: y", "%", "%00", "%ff", "\ud800", "-1",
    "\N{FULLWIDTH DIGIT NINE}",
    "9" * 40, "1e999", "../app.py", "..\\app.py", "a" * 300, "./", "saga", "stuck", "null", "[" * 5000, "1" * 5000,
    "nan", "{}", "waiting-0", "retry", "skip", "signal", "cancel", "paid", "pause", "yes", "0", "1", "7 waiting-0",
])  # fmt: skip
_TEXTS = st.one_of(_ODD, st.text(max_size=8), st.text(string.printable, max_size=8))
_PATHS = st.sampled_from([*(path.removeprefix("./") for path in PAGES), "events", "static/", "login", "logout", "act",
                          "act-all", "redrive", "schedule-act", "static/console.css"])  # fmt: skip
_NAMES = st.sampled_from([
    "of", "id", "do", "path", "to", "status", "name", "version", "step", "age", "text", "before", "after", "queue",
    "letter", "all", "cause", "saga", "seen", "done", "expected", "reason", "signal", "payload", "csrf", "token",
    "more",
])  # fmt: skip
_PAIRS = st.lists(st.tuples(_NAMES, _TEXTS), max_size=5)
_ENCODED = _PAIRS.map(
    lambda pairs: "&".join(f"{name}={quote_plus(text, errors='surrogatepass')}" for name, text in pairs).encode()
)
_FIELDS = st.sampled_from([
    b"host", b"origin", b"cookie", b"authorization", b"sec-fetch-site", b"sec-fetch-mode", b"content-type", b"accept",
    b"hx-request", b"content-length", b"range", b"if-none-match", b"x-forwarded-proto",
])  # fmt: skip
_VALUES = _TEXTS.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=12)
_HEADERS = st.lists(st.tuples(_FIELDS, _VALUES), max_size=3).map(tuple)


def _joined(parts: tuple[str, str]) -> str:
    """Puts a path together that a server would decode."""
    return "/" + "".join(parts).encode("utf-8", "replace").decode()


@given(
    st.builds(
        Asked,
        path=st.tuples(_PATHS, st.one_of(st.just(""), _TEXTS)).map(_joined),
        query=_ENCODED | st.binary(max_size=12),
        headers=st.tuples(_HEADERS, st.sampled_from([(), (BEARER,), (BEARER, FORM), (FORM,)])).map(
            lambda parts: parts[0] + parts[1]
        ),
        method=st.sampled_from(["GET", "GET", "HEAD", "POST", "POST", "PUT"]),
        body=_ENCODED | st.binary(max_size=12),
    )
)
@example(Asked("/static/" + "a" * 300))
@example(Asked("/static/\0"))
@example(Asked("/events", b"of=//[", (BEARER,)))
@example(Asked("/act", b"", ((b"origin", b"http://["), FORM), "POST"))
@example(Asked("/login", b"to=http://["))
@example(Asked("/stuck", b"", ((b"host", b"["), BEARER)))
@example(Asked("/stuck", b"\xff", (BEARER,)))
@example(Asked("/", b"before=" + b"9" * 5000, (BEARER,)))
@example(
    Asked("/act", b"", (BEARER, FORM), "POST", b"do=signal&id=waiting-0&status=running&signal=s&payload=" + b"[" * 9)
)
@example(Asked("/act", b"", (BEARER, FORM), "POST", b"do=retry&expected=1&id=a%00"))
@example(Asked("/schedule-act", b"", (BEARER, FORM), "POST", b"do=pause&name=a%00%ED%A0%80"))
def test_no_request_makes_the_console_fail(ask: Callable[[Asked], list[Answer]], asked: Asked) -> None:
    for answer in ask(asked):
        assert answer.status < 500, (answer, asked)
        assert b"Traceback" not in answer.body


async def test_a_form_that_names_too_many_sagas_is_not_cut(client: Client) -> None:
    members = [f"1 saga-{number}" for number in range(501)]
    async with browsing(console_app(client, queues=["nats://host?queue=x"])) as browser:
        form = {"csrf": mark(await browser.get("redrive?queue=0&all=yes")), "do": "retry"}
        refused = await browser.post("act-all", data={**form, "saga": members})
        assert (refused.status_code, "Nothing was done: these are 501 sagas" in refused.text) == (413, True)
        done = await browser.post("act-all", data={**form, "saga": members[:500]})
        assert "0 of 500" in done.text


# --- queues ----------------------------------------------------------------------------------------------------------


async def _dead(queue: SqlQueue, count: int) -> None:
    """Puts dead letters into a queue."""
    for number in range(count):
        await queue.send(Message(body=b"%d" % number))
    while found := await queue.receive(100):
        for delivery in found:
            await queue.nack(delivery, reason="broken")


async def _redrive_all(browser: httpx2.AsyncClient) -> httpx2.Response:
    """Has all dead letters sent back."""
    form = {"csrf": mark(await browser.get("redrive?queue=0&all=yes")), "queue": "0", "all": "yes"}
    return await browser.post("redrive", data=form)


async def test_all_dead_letters_are_sent_back_or_it_says_that_more_are_left(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'queue.db'}"
    queue = SqlQueue(url, "payments", max_deliveries=1)
    await _dead(queue, 25)
    app = console_app(client, queues=[f"{url}?queue=payments&max_deliveries=1"])
    async with browsing(app) as browser:
        monkeypatch.setattr(console_queues, "_TOGETHER", 10)
        monkeypatch.setattr(console_queues, "_LONGEST", 0.0)
        none = await _redrive_all(browser)
        assert none.headers["location"] == "queues?done=0&more=yes"
        page = await browser.get("queues?done=10&more=yes")
        assert "10 sent back. More are there" in page.text
        monkeypatch.setattr(console_queues, "_LONGEST", 20.0)
        done = await _redrive_all(browser)
        assert done.headers["location"] == "queues?done=25"
        assert not await queue.dead_letters()
    await queue.close()


class Stalling(MemoryQueue):
    """A queue that stops to answer, or whose messages die at once."""

    def __init__(self, *, answers: int = 1000) -> None:
        super().__init__("payments", max_deliveries=1)
        self.answers = answers
        self.redriven = 0

    async def redrive(self, ids: Any = None) -> int:
        self.answers -= 1
        if self.answers < 0:
            await anyio.sleep_forever()
        count = await super().redrive(ids)
        self.redriven += count
        while found := await self.receive(100):
            for delivery in found:
                await self.nack(delivery, reason="broken")
        return count


@pytest.fixture
def stalling(monkeypatch: pytest.MonkeyPatch) -> Stalling:
    queue = Stalling()
    monkeypatch.setattr("sagas.transport.open_queue", lambda _: queue)
    monkeypatch.setattr(queue, "close", anyio.lowlevel.checkpoint)
    monkeypatch.setattr(console_queues, "_PATIENCE", 0.05)
    monkeypatch.setattr(console_queues, "_TOGETHER", 2)
    return queue


async def _fill(queue: MemoryQueue) -> None:
    await queue.send(*(Message(body=b"%d" % number) for number in range(5)))
    for delivery in await queue.receive(10):
        await queue.nack(delivery, reason="broken")


async def test_a_queue_that_stops_to_answer_is_told_with_what_went_before(client: Client, stalling: Stalling) -> None:
    await _fill(stalling)
    stalling.answers = 1
    async with browsing(console_app(client, queues=["memory:?queue=payments"])) as browser:
        cut = await _redrive_all(browser)
        assert cut.status_code == 502
        assert "2 were sent back, and more are left: the queue payments did not answer within 0.05 s" in cut.text
        nothing = await _redrive_all(browser)
        assert (nothing.status_code, "sent back, and" in nothing.text) == (502, False)


async def test_what_dies_again_at_once_is_not_sent_back_again_and_again(stalling: Stalling) -> None:
    await _fill(stalling)
    with anyio.fail_after(30):
        done = await Queues(["memory:?queue=payments"]).redrive("0", None)
    assert (done.more, done.problem) == (True, "")
    assert stalling.redriven == done.sent <= 5


@pytest.mark.parametrize("password", ["s3cr/t", "s3cr#t", "s3cr?t", "[s3crt", "s3cr@t", "53/x@s3cret"])
async def test_no_page_shows_the_password_of_a_queue(client: Client, password: str) -> None:
    schemes = ("nats", "redis", "amqp", "kafka", "postgresql")
    urls = [f"{scheme}://us3r:{password}@127.0.0.1:1/x?queue=payments" for scheme in schemes]
    async with browsing(console_app(client, queues=urls)) as browser:
        for path in ("queues", "redrive?queue=0&all=yes", "letter?queue=0&id=1"):
            page = await browser.get(path)
            assert page.status_code in (200, 502), path
            assert not re.search("s3|cr.?t|cret", page.text.replace("script", "").replace("us3r:***", "")), path
    assert Queues(urls).named("0").where == "nats://127.0.0.1:1/x"


async def test_what_a_library_says_of_a_queue_is_for_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(url: str) -> Any:
        raise KeyError(f"cannot read {url}")

    monkeypatch.setattr("sagas.transport.open_queue", broken)
    async with browsing(console_app(client, queues=["nats://me:s3cret@host?queue=payments"])) as browser:
        page = await browser.get("queues")
    assert "KeyError" in page.text
    assert "s3cret" not in page.text
    assert "s3cret" in caplog.text
