"""What the console's pages show, what an operator has done by them, and that nothing a saga says is ever markup."""

from __future__ import annotations

import html
import json
import re
from collections.abc import AsyncGenerator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import anyio
import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider

from sagas import Client, Coordinator, Retry, SagaStuck, Schedule, saga, step
from sagas.transport import Message
from sagas_adapters.console import console_app
from sagas_adapters.console.deeds import DEEDS
from sagas_adapters.console.looking import PAGES
from sagas_adapters.sql import SqlQueue
from tests.adapters.operated import CARD, EVIL, SAGAS, Warehouse, browsing, mark, settled, ship, start_all

# What a page is made of; anything else would be an attack that has worked.
TAGS = frozenset({
    "html", "head", "meta", "title", "link", "script", "body", "a", "header", "p", "nav", "ul", "li", "div",
    "span", "form", "input", "button", "main", "footer", "h1", "h2", "h3", "table", "caption", "thead", "tbody",
    "tr", "th", "td", "time", "strong", "details", "summary", "pre", "section", "dl", "dt", "dd", "ol", "label",
    "select", "option", "textarea", "br", "svg", "g", "rect", "circle", "path", "line", "text", "tspan", "desc",
    "polyline", "polygon", "defs", "marker", "use", "code",
})  # fmt: skip


class Site(NamedTuple):
    """A console with something to see.

    Attributes:
        browser: Of an operator on this machine.
        coordinator: That drives the sagas.
        ids: Of sagas: ``stuck``, ``waiting``, ``ended``.
        queue: Whose dead letters are shown.
    """

    browser: httpx2.AsyncClient
    coordinator: Coordinator
    ids: dict[str, str]
    queue: SqlQueue


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    Warehouse.is_up = False
    store, url = f"sqlite:///{tmp_path / 'orders.db'}", f"sqlite:///{tmp_path / 'queue.db'}"
    nightly = Schedule(f"nightly{EVIL}", lambda at: ship("lamp"), every=86_400)
    tracing, name = TracerProvider(), f"one{EVIL}"
    async with Coordinator(store, sagas=SAGAS, schedules=[nightly], name=name, tracer_provider=tracing) as coordinator:
        ids = await start_all(coordinator)
        queue = SqlQueue(url, "payments", max_deliveries=1)
        await queue.send(Message(body=b'{"card": "%s", "note": "<b>"}' % CARD.encode(), headers={"ce-type": "<i>&"}))
        await queue.nack((await queue.receive())[0], reason=EVIL)
        console = console_app(
            coordinator, queues=[f"{url}?queue=payments&max_deliveries=1", f"{url}?queue=none"], refresh=0.01,
            trace_url="http://jaeger/trace/{trace_id}",
        )  # fmt: skip
        async with browsing(console) as browser:
            yield Site(browser, coordinator, ids, queue)
        await queue.close()


class _Tags(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def refuse_markup(page: httpx2.Response) -> None:
    """Makes sure that a page is made of its own elements only."""
    parser = _Tags()
    parser.feed(page.text)
    assert parser.tags <= TAGS, parser.tags - TAGS
    assert not {name for name in parser.attributes if name.startswith("on") or name == "style"}
    assert "<script>" not in page.text
    assert CARD not in page.text, "what is secret is hidden"


def addresses(ids: dict[str, str]) -> dict[str, str]:
    """Gives an address of every page that shows something."""
    stuck = quote(ids["stuck"], safe="")
    return {
        "./": f"./?text={quote(EVIL)}", "stuck": "stuck", "saga": f"saga?id={stuck}", "journal": f"journal?id={stuck}",
        "coordinators": "coordinators", "queues": "queues", "letter": "letter?queue=0&id=1", "schedules": "schedules",
        "locks": "locks",
    }  # fmt: skip


# --- looking ---------------------------------------------------------------------------------------------------------


async def test_every_page_shows_what_there_is_and_never_as_markup(site: Site) -> None:
    pages = addresses(site.ids)
    assert pages.keys() == PAGES.keys()
    for path, address in pages.items():
        page = await site.browser.get(address)
        assert page.status_code == 200, (path, page.text)
        refuse_markup(page)
        if path not in ("queues", "letter"):
            assert html.escape(EVIL, quote=False)[:30] in html.unescape(page.text).replace("<", "&lt;").replace(
                ">", "&gt;"
            ), path
    for do in DEEDS:
        refuse_markup(await site.browser.get(f"act?id={quote(site.ids['stuck'], safe='')}&do={do}&path={quote(EVIL)}"))


async def test_the_list_is_filtered(site: Site) -> None:
    async def shown(query: str) -> set[str]:
        page = await site.browser.get(f"./?{query}")
        return {html.unescape(one) for one in re.findall(r'<a id="saga-([^"]+)"', page.text)}

    stuck = {f"stuck-{number}{EVIL}" for number in range(2)}
    waiting = {"waiting-0", "waiting-1"}
    assert await shown("") == {*stuck, *waiting, "shipped"}
    assert await shown("status=stuck") == stuck
    assert await shown("status=open") == {*stuck, *waiting}
    assert await shown("name=ship") == {"shipped"}
    assert await shown("version=2") == set()
    assert await shown("step=reserve") == stuck
    assert await shown("id=waiting-") == waiting
    assert await shown("text=WAREHOUSE") == stuck
    assert await shown("age=10m") == {*stuck, *waiting, "shipped"}
    assert await shown("age=over-10m") == set()


async def test_what_makes_no_sense_in_the_address_of_the_list_is_said(site: Site) -> None:
    for query, text in (
        ("status=nonsense", "status='nonsense' is none; use one of open, running, compensating, stuck, ended, compl"),
        ("age=yesterday", "age='yesterday' is none; use one of 10m, 1h, 24h, 7d, over-10m"),
        ("before=waiting-0", "before='waiting-0' is no place in the list: follow its links, or leave it out"),
        (f"age={quote(EVIL)}", "is none; use one of"),
    ):
        page = await site.browser.get(f"./?{query}")
        (alert,) = re.findall(r'<p class="alert" role="alert">(.*?)</p>', page.text)
        assert text in html.unescape(alert)
        assert '<a id="saga-' not in page.text
        refuse_markup(page)


async def test_a_long_list_has_pages(site: Site) -> None:
    for number in range(60):
        await site.coordinator.run(ship("lamp"), id=f"shipped-{number}")
    seen: list[str] = []
    address = "./?name=ship"
    while True:
        page = await site.browser.get(address)
        seen += re.findall(r'<a id="saga-([^"]+)"', page.text)
        older = re.search(r'id="older" href="([^"]+)"', page.text)
        if older is None:
            break
        address = html.unescape(older[1])
    assert len(seen) == len(set(seen)) == 61


async def test_a_saga_tells_why_it_is_stuck_and_leads_to_its_trace(site: Site) -> None:
    page = await site.browser.get(f"saga?id={quote(site.ids['stuck'])}")
    told = html.unescape(page.text)
    assert "Why it is stuck" in told
    assert "The undo of <strong>reserve</strong> (1) failed" in told
    assert "the warehouse does not answer" in told
    trace = (await site.coordinator.get(site.ids["stuck"])).trace_id
    assert trace
    assert f'href="http://jaeger/trace/{trace}"' in page.text


async def test_a_saga_tells_which_signal_it_waits_for(site: Site) -> None:
    page = await site.browser.get("saga?id=waiting-0")
    assert 'waits for <strong>paid</strong> (2), which has to carry <span class="mono">str</span>' in page.text
    asked = await site.browser.get("act?id=waiting-0&do=signal")
    assert 'name="signal" required maxlength="200" value="paid"' in asked.text
    stuck = await site.browser.get(f"saga?id={quote(site.ids['stuck'])}")
    assert "waits for <strong>" not in stuck.text


async def test_what_is_not_there_is_said_to_be_missing(site: Site) -> None:
    for address, status in (
        ("saga?id=nothing", 404), ("saga", 400), ("journal?id=nothing", 404), ("act?do=retry&id=nothing", 404),
        ("act?do=explode&id=shipped", 400), ("letter?queue=7&id=1", 404), ("letter?queue=0&id=99", 404),
        ("letter?queue=x", 404), ("act-all?cause=nothing&do=retry", 404), ("act-all?cause=x&do=cancel", 400),
        ("redrive?queue=0", 400), ("redrive?queue=9&all=yes", 404), ("schedule-act?name=x&do=x", 400),
        ("saga?id=%00", 400), ("events?of=nothing", 404), ("events?of=https://evil.example/", 404), ("nothing", 404),
    ):  # fmt: skip
        page = await site.browser.get(address)
        assert page.status_code == status, (address, page.text)
        refuse_markup(page)
    assert (await site.browser.post("stuck", data={})).status_code == 405


# --- acting ----------------------------------------------------------------------------------------------------------


async def form(site: Site, address: str) -> dict[str, str]:
    """Gives the fields of the form that asks."""
    page = await site.browser.get(address)
    assert page.status_code == 200, page.text
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.text)
    return {name: html.unescape(value) for name, value in fields}


async def test_an_operator_skips_an_undo_and_the_journal_says_who_and_why(site: Site) -> None:
    saga_id = site.ids["stuck"]
    fields = await form(site, f"act?id={quote(saga_id)}&do=skip&path=1")
    lacking = await site.browser.post("act", data={**fields, "reason": " "})
    assert (lacking.status_code, "Say why" in lacking.text) == (422, True)
    done = await site.browser.post("act", data={**fields, "reason": f"put back by hand {EVIL}"})
    assert done.status_code == 303, done.text
    view = await settled(site.coordinator, saga_id, lambda view: view.ended_at is not None)
    assert view.status == "compensated"
    decision = view.decisions[-1]
    assert (decision.by, decision.reason) == ("somebody on this machine", f"put back by hand {EVIL}")
    page = await site.browser.get(done.headers["location"])
    assert "Skip: done, and written to the journal" in page.text
    assert "put back by hand" in page.text
    refuse_markup(page)


@pytest.mark.parametrize("do", ["retry", "skip", "resume"])
async def test_a_stale_page_does_nothing(site: Site, do: str) -> None:
    saga_id = site.ids["stuck"]
    fields = {**await form(site, f"act?id={quote(saga_id)}&do={do}"), "reason": "because"}
    await site.coordinator.retry(saga_id)
    moved = await settled(site.coordinator, saga_id, lambda view: view.revision > int(fields["expected"]) + 1)
    await settled(site.coordinator, saga_id, lambda view: view.status == "stuck")
    refused = await site.browser.post("act", data=fields)
    assert refused.status_code == 409, refused.text
    assert "Nothing was done" in refused.text
    assert [one.by for one in (await site.coordinator.get(saga_id)).decisions] == [one.by for one in moved.decisions]
    blind = await site.browser.post("act", data={**fields, "expected": ""})
    assert blind.status_code == 400


async def test_a_signal_reaches_a_saga(site: Site) -> None:
    fields = await form(site, "act?id=waiting-0&do=signal")
    for wrong in (
        {"signal": "", "payload": "1"}, {"signal": "paid", "payload": "{"}, {"signal": "paid", "payload": "5"},
    ):  # fmt: skip
        refused = await site.browser.post("act", data={**fields, **wrong})
        assert refused.status_code == 422
        refuse_markup(refused)
    other = await site.browser.post("act", data={**fields, "signal": EVIL, "payload": json.dumps(EVIL), "reason": EVIL})
    assert other.status_code == 303, other.text
    await settled(site.coordinator, "waiting-0", lambda view: bool(view.decisions))
    for page in ("saga", "journal"):
        refuse_markup(await site.browser.get(f"{page}?id=waiting-0"))
    done = await site.browser.post("act", data={**fields, "signal": "paid", "payload": '"in full"', "reason": "called"})
    assert done.status_code == 303, done.text
    view = await settled(site.coordinator, "waiting-0", lambda view: view.ended_at is not None)
    assert view.result == "lamp: in full"
    again = await site.browser.post("act", data={**fields, "signal": "paid", "payload": '"twice"'})
    assert again.status_code == 409


async def test_an_order_is_followed_until_it_is_carried_out_or_refused(tmp_path: Path) -> None:
    """By a console in another process, which cannot tell whether a signal fits."""
    store = f"sqlite:///{tmp_path / 'orders.db'}"
    async with Coordinator(store, sagas=SAGAS) as coordinator:
        await start_all(coordinator)
    async with Client(store) as client, browsing(console_app(client)) as browser:

        async def send(payload: str) -> str:
            asked = await browser.get("act?id=waiting-0&do=signal")
            found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', asked.text)
            fields = {name: html.unescape(value) for name, value in found}
            done = await browser.post("act", data={**fields, "signal": "paid", "payload": payload, "reason": EVIL})
            assert done.status_code == 303, done.text
            return done.headers["location"]

        async def told(where: str, what: str) -> httpx2.Response:
            with anyio.fail_after(30):
                while what not in (page := await browser.get(where)).text:  # noqa: ASYNC110 - a page gives no sign
                    await anyio.sleep(0.01)
            refuse_markup(page)
            return page

        misfit = await send("7")
        page = await told(misfit, "posted to the saga's coordinator, which has not taken it yet; none that is alive")
        assert "signal paid by <strong>somebody on this machine</strong>" in page.text
        async with Coordinator(store, sagas=SAGAS, name="one", poll=0.01):
            page = await told(misfit, "nothing came of it. The saga's coordinator one found nothing left")
            assert "a signal for saga waiting-0 is dropped" in page.text
            assert "no coordinator has taken yet" not in page.text
            await told(await send('"in full"'), "Send a signal: done, and written to the journal")


async def test_a_link_does_not_fill_in_why_or_how_the_saga_stood(site: Site) -> None:
    fields = await form(site, "act?id=waiting-1&do=cancel&status=stuck&expected=77&reason=PRE")
    assert (fields["status"], fields.get("reason", "")) == ("running", "")
    assert fields["expected"] != "77"


async def test_a_cancelled_saga_says_by_whom(site: Site) -> None:
    fields = await form(site, "act?id=waiting-1&do=cancel")
    assert (await site.browser.post("act", data={**fields, "reason": "not wanted"})).status_code == 303
    view = await settled(site.coordinator, "waiting-1", lambda view: view.ended_at is not None)
    assert (view.status, view.decisions[0].by) == ("compensated", "somebody on this machine")
    assert (await site.browser.post("act", data={**fields, "reason": "again"})).status_code == 409


async def test_all_of_a_group_are_tried_again_but_those_that_moved_on(site: Site) -> None:
    page = await site.browser.get("stuck")
    causes = set(re.findall(r"act-all\?cause=([0-9a-f]+)&amp;do=retry", page.text))
    assert len(causes) == 1
    asked = await site.browser.get(f"act-all?cause={causes.pop()}&do=retry")
    refuse_markup(asked)
    members = [html.unescape(one) for one in re.findall(r'name="saga" value="([^"]+)"', asked.text)]
    assert len(members) == 2
    assert re.findall(r'stuck-1.*?</a> <span class="muted small"><time class="ago"[^>]*>\d+ s ago</time>', asked.text)
    broken = {"csrf": mark(asked), "do": "retry", "cause": "", "reason": "x", "saga": [members[0], "x y"]}
    refused = await site.browser.post("act-all", data=broken)
    assert refused.status_code == 400
    assert (await site.coordinator.get(members[0].partition(" ")[2])).decisions == ()
    moved = members[0].partition(" ")[2]
    await site.coordinator.retry(moved)
    await settled(site.coordinator, moved, lambda view: view.revision > int(members[0].partition(" ")[0]) + 1)
    await settled(site.coordinator, moved, lambda view: view.status == "stuck")
    Warehouse.is_up = True
    fields = {"csrf": mark(asked), "do": "retry", "cause": "", "reason": "it is up again", "saga": members}
    done = await site.browser.post("act-all", data=fields)
    assert done.status_code == 409
    assert "1 were written down" in done.text
    refuse_markup(done)
    other = members[1].partition(" ")[2]
    view = await settled(site.coordinator, other, lambda view: view.ended_at is not None)
    assert (view.status, view.decisions[-1].reason) == ("compensated", "it is up again")
    assert (await site.coordinator.get(moved)).status == "stuck"


async def test_dead_letters_are_sent_back(site: Site) -> None:
    page = await site.browser.get("queues")
    assert "payments" in page.text
    letter = re.search(r"letter\?queue=0&amp;id=([^\"]+)", page.text)
    assert letter
    shown = await site.browser.get(f"letter?queue=0&id={letter[1]}")
    refuse_markup(shown)
    asked = await site.browser.get(f"redrive?queue=0&letter={letter[1]}")
    fields = {"csrf": mark(asked), "queue": "0", "letter": letter[1]}
    done = await site.browser.post("redrive", data=fields)
    assert (done.status_code, done.headers["location"]) == (303, "queues?done=1")
    assert not await site.queue.dead_letters()
    every = await site.browser.post("redrive", data={"csrf": mark(asked), "queue": "0", "all": "yes"})
    assert every.headers["location"] == "queues?done=0"


async def test_a_schedule_is_paused_and_resumed(site: Site) -> None:
    name = f"nightly{EVIL}"
    for do, paused in (("pause", True), ("resume", False)):
        asked = await site.browser.get(f"schedule-act?name={quote(name)}&do={do}")
        refuse_markup(asked)
        done = await site.browser.post("schedule-act", data={"csrf": mark(asked), "name": name, "do": do})
        assert done.status_code == 303
        assert [one.paused for one in await site.coordinator.schedules()] == [paused]
    asked = await site.browser.get(f"schedule-act?name={quote(name)}&do=pause")
    unknown = await site.browser.post("schedule-act", data={"csrf": mark(asked), "name": "nothing", "do": "pause"})
    assert unknown.status_code == 400
    assert (await site.browser.get("schedule-act?name=nothing&do=pause")).status_code == 404
    refused = await site.browser.get(f"schedule-act?name={quote(name)}&do=resume")
    assert (refused.status_code, "is active already" in refused.text) == (409, True)


async def test_what_cannot_be_done_is_not_even_asked(site: Site) -> None:
    stuck = quote(site.ids["stuck"], safe="")
    for address, why in (
        ("act?id=shipped&do=cancel", "It has ended: completed."),
        ("act?id=shipped&do=signal", "It has ended: completed."),
        ("act?id=waiting-0&do=retry", "It is running, not stuck, so there is nothing to retry."),
        ("act?id=waiting-0&do=skip&path=1", "It is running, not stuck, so there is nothing to skip."),
        (f"act?id={stuck}&do=cancel", "It is being undone already."),
        (f"act?id={stuck}&do=skip&path=2", "Nothing at 2 waits for an operator."),
    ):
        page = await site.browser.get(address)
        assert page.status_code == 409, address
        assert f"Nothing was done: {why}" in page.text
        assert "<form" not in page.text
        assert ">Look at the saga again</a>" in page.text
        refuse_markup(page)


class Gone(Exception):
    """Nobody knows whether it acted."""


@step(pivot=True, retry=Retry(attempts=1))
async def hand_over(*, fails: bool) -> None:
    if fails:
        raise Gone


@step(retry=Retry(attempts=1))
async def book(*, fails: bool) -> None:
    if fails:
        raise Gone


@saga
async def deliver(*, early: bool) -> None:
    await hand_over(fails=early)
    await book(fails=not early)


async def test_only_what_failed_beyond_a_pivot_is_said_to_have_no_way_back() -> None:
    async with (
        Coordinator("memory:", sagas=[deliver]) as coordinator,
        browsing(console_app(coordinator)) as browser,
    ):
        told: list[str] = []
        for early in (True, False):
            with pytest.raises(SagaStuck):
                await coordinator.run(deliver(early=early), id=f"early-{early}")
            page = await browser.get(f"saga?id=early-{early}")
            told += re.findall(r"The step .*?</p>", page.text)
            cancel = await browser.get(f"act?id=early-{early}&do=cancel")
            assert cancel.status_code == (200 if early else 409)
    assert "<strong>hand_over</strong> (1) may have acted, and cannot be undone, so the saga can go nei" in told[0]
    assert "<strong>book</strong> (2) failed after the pivot, where there is no way back" in told[1]


# --- following -------------------------------------------------------------------------------------------------------


async def test_a_page_hears_of_a_change_and_of_nothing_else(site: Site) -> None:
    # Not by the client, which waits for the end of a response: as a server would ask it.
    page = await site.browser.get("saga?id=waiting-0")
    stream = html.unescape(re.search(r'sse-connect="([^"]+)"', page.text)[1])  # type: ignore[index]  # else it fails
    events: list[str] = []
    async with following(site, stream, events) as heard:
        await heard("retry:")
        for _ in range(10):  # it looks again and again, and nothing has changed
            await anyio.sleep(0.01)
        assert not [event for event in events if "changed" in event]
        await site.coordinator.signal("waiting-0", "paid", "in full")
        await heard("event: changed")
    # That something cannot be read is news, too, and ends nothing.
    async with following(site, "events?of=saga%3Fid%3Dgone&seen=older", []) as heard:
        await heard("event: changed")
    # Whoever shows something older hears of it at once.
    async with following(site, "events?of=saga%3Fid%3Dwaiting-0&seen=older", []) as heard:
        await heard("event: changed")


class following:  # noqa: N801 - used as a function
    """Asks for events as a browser does, until it is left."""

    def __init__(self, site: Site, address: str, events: list[str]) -> None:
        self._app: Any = site.browser._transport.app  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way to it
        path, _, query = address.partition("?")
        self._scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
            "path": f"/{path}", "raw_path": f"/{path}".encode(), "root_path": "", "scheme": "http",
            "query_string": query.encode(), "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }  # fmt: skip
        self._events = events

    async def __aenter__(self) -> Any:
        self._more = anyio.Event()
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._app, self._scope, self._receive, self._send)
        return self._heard

    async def __aexit__(self, *error: object) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)

    async def _receive(self) -> dict[str, Any]:
        await anyio.sleep_forever()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._events.append(message.get("body", b"").decode())
        self._more.set()

    async def _heard(self, text: str) -> None:
        with anyio.fail_after(30):
            while not any(text in event for event in self._events):
                self._more = anyio.Event()
                await self._more.wait()


# --- what is asked is asked of whoever is there ----------------------------------------------------------------------


async def test_a_function_may_say_whose_sagas_these_are(tmp_path: Path) -> None:
    at_hand: list[Coordinator] = []
    app = console_app(lambda: at_hand[0])
    async with Coordinator(f"sqlite:///{tmp_path / 'o.db'}", sagas=SAGAS) as coordinator, browsing(app) as browser:
        at_hand.append(coordinator)
        assert (await browser.get("./")).status_code == 200
    async with browsing(app) as browser:
        closed = await browser.get("./")
        assert closed.status_code == 503
