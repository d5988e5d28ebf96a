"""Who may use the console, from where, and what every response says to a browser."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sagas import Client, Coordinator, receive, saga
from sagas.errors import DeclarationError
from sagas.stores import store_for
from sagas_adapters.console import Visitor, console_app
from sagas_adapters.console.looking import PAGES
from sagas_adapters.console.visitors import SESSION
from tests.adapters.operated import browsing, mark
from tests.adapters.test_http_mounts import on_fastapi, on_litestar, on_starlette

SECRET = "a secret of the host"  # noqa: S105 - of a console that lives for a moment
OPERATOR, VIEWER = "operator's token, long", "viewer's token, long"
TOKENS: Mapping[str, Any] = {OPERATOR: "operator", VIEWER: "viewer"}
ACTS = ("act", "act-all", "redrive", "schedule-act")


@pytest.fixture
def anyio_backend() -> str:
    """What is tested here is below none of the loops; the pages are tested on each."""
    return "asyncio"


@pytest.fixture
async def client() -> AsyncGenerator[Client]:
    async with Client(store_for("memory:"), migrate=True) as client:
        yield client


async def sign_in(browser: httpx2.AsyncClient, token: str, name: str = "grace", **more: str) -> httpx2.Response:
    form = await browser.get("login")
    return await browser.post("login", data={"csrf": mark(form), "name": name, "token": token, **more})


# --- without tokens: this machine only -------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8421", "[::1]:80", "sagas.localhost"])
async def test_whoever_is_on_this_machine_is_let_in(client: Client, host: str) -> None:
    async with browsing(console_app(client)) as browser:
        page = await browser.get("coordinators", headers={"host": host})
        assert page.status_code == 200
        assert "somebody on this machine" in page.text


async def test_a_name_that_is_made_to_point_here_is_refused(client: Client) -> None:
    async with browsing(console_app(client)) as browser:
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8421", ""):
            page = await browser.get("coordinators", headers={"host": host})
            assert page.status_code == 421, host
            assert "Coordinators" not in page.text


@pytest.mark.parametrize("path", [*PAGES, "events?of=./", "act?id=1&do=retry"])
async def test_from_elsewhere_nobody_sees_anything_before_the_console_knows_who_may(client: Client, path: str) -> None:
    async with browsing(console_app(client), peer="192.0.2.7") as browser:
        page = await browser.get(path)
        assert page.status_code == 403
        assert "--token" in page.text
    async with browsing(console_app(client)) as browser:
        for name in ("x-forwarded-for", "X-Forwarded-Proto", "forwarded", "x-real-ip", "via", "cf-connecting-ip"):
            page = await browser.get(path, headers={name: "127.0.0.1"})
            assert page.status_code == 403, name


async def test_nobody_at_all_is_let_in_if_told_so(client: Client) -> None:
    async with browsing(console_app(client, loopback=None)) as browser:
        assert (await browser.get("coordinators")).status_code == 403


# --- tokens ----------------------------------------------------------------------------------------------------------


async def test_without_a_token_every_page_asks_for_one(client: Client) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        for path in PAGES:
            page = await browser.get(path)
            assert page.status_code == 303, path
            assert page.headers["location"].startswith("login"), path
        for path in ("events?of=./", "coordinators"):
            page = await browser.get(path, headers={"accept": "*/*"})
            assert page.status_code == 401, path
            assert page.headers["www-authenticate"].startswith("Bearer")
        follow = await browser.get("coordinators", headers={"hx-request": "true"})
        assert (follow.status_code, follow.headers["hx-redirect"]) == (401, "login?to=coordinators")


async def test_a_token_opens_and_a_name_is_remembered(client: Client) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        done = await sign_in(browser, OPERATOR, "grace <b>", to="schedules?done=x")
        assert (done.status_code, done.headers["location"]) == (303, "schedules?done=x")
        cookie = done.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert "Path" not in cookie  # so only below where the console is
        page = await browser.get("coordinators")
        assert page.status_code == 200
        assert "grace &lt;b&gt;" in page.text


async def test_over_tls_cookies_never_travel_without(client: Client) -> None:
    async with browsing(console_app(client, tokens=TOKENS), url="https://ops.example") as browser:
        done = await sign_in(browser, OPERATOR)
        assert "Secure" in done.headers["set-cookie"]


@pytest.mark.parametrize("token", ["", "wrong", OPERATOR[:-1], OPERATOR + "x", "größe" * 5])
async def test_another_token_does_not_open(client: Client, token: str) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        refused = await sign_in(browser, token)
        assert refused.status_code == 401
        assert SESSION not in browser.cookies
        assert (await browser.get("coordinators")).status_code == 303


@pytest.mark.parametrize(
    "to",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "\\\\evil", "/", "a\r\nb: c"],
)
async def test_signing_in_leads_nowhere_else(client: Client, to: str) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        assert (await sign_in(browser, OPERATOR, to=to)).headers["location"] == "./"


async def test_a_session_that_is_made_up_or_altered_or_over_is_none(client: Client) -> None:
    app = console_app(client, tokens=TOKENS)
    async with browsing(app) as browser:
        await sign_in(browser, VIEWER)
        session = browser.cookies[SESSION]
        body, _, seal = session.rpartition(".")
        other = "1" if seal.endswith("0") else "0"
        for forged in ("", "x", f"{body}.{seal[:-1]}{other}", f"{body}A.{seal}", f"{body}.", f".{seal}"):
            page = await browser.get("coordinators", headers={"cookie": f"{SESSION}={forged}"})
            assert page.status_code == 303, forged
    # Another console's, whose tokens are others.
    async with browsing(console_app(client, tokens={"another token, as long": "operator"})) as browser:
        page = await browser.get("coordinators", headers={"cookie": f"{SESSION}={session}"})
        assert page.status_code == 303
    fewer = console_app(client, tokens={OPERATOR: "operator"}, secret=SECRET)
    more = console_app(client, tokens=TOKENS, secret=SECRET)
    async with browsing(more) as browser:
        await sign_in(browser, VIEWER)
        kept = browser.cookies[SESSION]
    for tokens_now, status in ((fewer, 303), (more, 200)):  # a token is taken back: whoever came by it is out
        async with browsing(tokens_now) as browser:
            page = await browser.get("coordinators", headers={"cookie": f"{SESSION}={kept}"})
            assert page.status_code == status
    async with browsing(console_app(client, tokens=TOKENS)) as browser:  # the same tokens in another process
        page = await browser.get("coordinators", headers={"cookie": f"{SESSION}={session}"})
        assert page.status_code == 200


async def test_a_session_ends(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagas_adapters.console.visitors.SESSION_AGE", 0)
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        done = await sign_in(browser, OPERATOR)
        cookie = done.headers["set-cookie"].partition(";")[0]
        assert (await browser.get("coordinators", headers={"cookie": cookie})).status_code == 303


async def test_whoever_signs_out_is_out(client: Client) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        await sign_in(browser, OPERATOR)
        page = await browser.get("coordinators")
        assert (await browser.post("logout", data={"csrf": "0"})).status_code == 403
        assert (await browser.post("logout", data={"csrf": mark(page)})).status_code == 303
        assert (await browser.get("coordinators")).status_code == 303


async def test_a_program_shows_its_token_in_a_header(client: Client) -> None:
    async with browsing(console_app(client, tokens=TOKENS), peer="192.0.2.7", url="http://ops.example") as browser:
        for token, status in ((OPERATOR, 200), (VIEWER, 200), ("wrong", 401)):
            page = await browser.get("coordinators", headers={"authorization": f"Bearer {token}", "accept": "*/*"})
            assert page.status_code == status


async def test_a_token_of_one_person_says_who_it_is(client: Client) -> None:
    app = console_app(client, tokens={OPERATOR: Visitor("ada", "operator")})
    async with browsing(app) as browser:
        await sign_in(browser, OPERATOR, name="somebody else")
        page = await browser.get("coordinators")
        assert "ada" in page.text
        assert "somebody else" not in page.text


# --- the host's own way ----------------------------------------------------------------------------------------------


async def test_the_hosts_own_way_says_who_it_is(client: Client) -> None:
    async def who(request: Any) -> Visitor | None:
        name = request.headers.get("x-user")
        return None if name is None else Visitor(name, "viewer")

    app = console_app(client, authenticate=who, login_url="https://example.org/login")
    async with browsing(app, peer="192.0.2.7", url="https://ops.example") as browser:
        page = await browser.get("coordinators", headers={"x-user": "grace"})
        assert (page.status_code, "grace" in page.text) == (200, True)
        page = await browser.get("coordinators")
        assert (page.status_code, page.headers["location"]) == (303, "https://example.org/login")
        page = await browser.get("coordinators", headers={"hx-request": "true"})
        assert (page.status_code, page.headers["hx-redirect"]) == (401, "https://example.org/login")
        for page in (
            await browser.get("coordinators", headers={"accept": "application/json"}),
            await browser.post("act", data={"do": "retry"}),
        ):
            assert (page.status_code, 'href="https://example.org/login">Sign in' in page.text) == (401, True)
    async with browsing(console_app(client, authenticate=who)) as browser:
        page = await browser.get("coordinators")
        assert (page.status_code, ">Sign in</a>" in page.text) == (401, False)
    async with browsing(app, peer="192.0.2.7", url="https://ops.example") as browser:
        assert (await browser.get("login")).status_code == 404


async def test_where_the_host_says_no_the_answer_is_the_hosts(client: Client) -> None:
    from fastapi import HTTPException

    def who(request: Any) -> Visitor:
        raise HTTPException(403, "not you")

    async with browsing(console_app(client, authenticate=who)) as browser:
        assert (await browser.get("coordinators")).status_code == 403


@pytest.mark.parametrize("mount", [on_starlette, on_fastapi, on_litestar], ids=["starlette", "fastapi", "litestar"])
async def test_wherever_it_is_mounted_it_leads_to_itself(client: Client, mount: Any) -> None:
    app = mount(console_app(client, tokens=TOKENS))
    async with browsing(app, url="http://localhost/in/here/") as browser:
        bare = await browser.get("http://localhost/in/here")
        assert bare.headers["location"].endswith("here/")
        asked = await browser.get("stuck")
        assert asked.headers["location"] == "login?to=stuck"
        done = await sign_in(browser, OPERATOR, to="./?status=stuck")
        assert done.headers["location"] == "./?status=stuck"
        page = await browser.get(done.headers["location"])
        assert page.status_code == 200
        for address in re.findall(r'(?:href|src|action|hx-get|sse-connect)="([^"#]+)"', page.text):
            reached = await browser.head(html.unescape(address)) if "events" not in address else page
            assert reached.status_code in (200, 405), address


async def test_what_the_page_has_a_program_send_is_taken(tmp_path: Path) -> None:
    """The fields and the header that it gives to curl; and what it says of who is unknown."""
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "console.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^curl -i http://127.0.0.1:8421/act(.*?)^```", text, re.MULTILINE | re.DOTALL)
    fields = dict(field.split("=", 1) for field in re.findall(r"--data-urlencode '([^']+)'", command))
    name, _, value = re.findall(r'-H "([^"]+)"', command)[0].partition(": ")
    header = {name: value.replace("$SAGAS_CONSOLE_TOKEN", OPERATOR)}
    async with Coordinator(f"sqlite:///{tmp_path / 'o.db'}", sagas=[approved]) as coordinator:
        handle = await coordinator.start(approved(), id=fields["id"])
        async with browsing(console_app(coordinator, tokens=TOKENS)) as program:
            del program.headers["accept"]
            for headers, status in ((header, 303), ({}, 401), ({**header, "accept": "text/html"}, 409)):
                done = await program.post("act", data=fields, headers=headers)
                assert done.status_code == status, done.text
                assert not done.cookies or status != 303
                if status == 303:
                    assert await handle.result() is True
            assert (await program.get("stuck")).status_code == 401
            assert (await program.get("stuck", headers={"accept": "text/html"})).headers["location"] == "login?to=stuck"
        view = await coordinator.get(fields["id"])
    assert [(one.by, one.reason) for one in view.decisions] == [("api token", fields["reason"])]


@saga
async def approved() -> bool:
    return await receive("approval", bool)


# --- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ACTS)
async def test_a_viewer_only_looks(client: Client, path: str) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        await sign_in(browser, VIEWER)
        page = await browser.get("coordinators")
        assert (await browser.get(f"{path}?id=1&do=retry&name=n&queue=0&all=yes")).status_code == 403
        refused = await browser.post(path, data={"csrf": mark(page), "id": "1", "do": "retry"})
        assert refused.status_code == 403
        assert "Only operators" in refused.text


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*ACTS, "login", "logout"])
async def test_a_form_from_elsewhere_is_refused(client: Client, path: str) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        await sign_in(browser, OPERATOR)
        # The mark of another browser, of nobody, and of somebody else in this browser.
        page = await browser.get("coordinators")
        ours, theirs = mark(page), mark(await browser.get("login"))
        if path == "login":
            ours, theirs = theirs, ours
        form = {"id": "1", "do": "retry", "name": "n", "token": OPERATOR, "queue": "0", "all": "yes"}
        for csrf in ("", "0" * 64, theirs):
            refused = await browser.post(path, data={**form, "csrf": csrf})
            assert refused.status_code == 403, csrf
            assert "not from here" in refused.text
        for name, value in (
            ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "https://evil.example"),
            ("origin", "null"),
        ):  # fmt: skip
            refused = await browser.post(path, data={**form, "csrf": ours}, headers={name: value})
            assert refused.status_code == 403, (name, value)
        browser.cookies.delete("sagas-console-form")
        assert (await browser.post(path, data={**form, "csrf": ours})).status_code == 403


async def test_a_header_that_opens_nothing_spares_nobody_the_mark(client: Client) -> None:
    async with browsing(console_app(client, tokens=TOKENS)) as browser:
        form = {"id": "1", "do": "retry", "expected": "0"}
        by_token = await browser.post("act", data=form, headers={"authorization": f"Bearer {OPERATOR}"})
        assert by_token.status_code == 404
        await sign_in(browser, OPERATOR)
        for header in ("Bearer wrong", "Basic Z3JhY2U6eA==", ""):
            refused = await browser.post("act", data=form, headers={"authorization": header})
            assert refused.status_code == 403, header


async def test_a_viewer_of_the_same_name_makes_no_mark_for_an_operator(client: Client) -> None:
    app = console_app(client, tokens=TOKENS)
    async with browsing(app) as browser:
        await sign_in(browser, VIEWER, name="grace")
        made = mark(await browser.get("coordinators"))
        await sign_in(browser, OPERATOR, name="grace")
        assert (await browser.post("act", data={"id": "1", "do": "retry", "csrf": made})).status_code == 403


async def test_a_form_is_a_form_and_not_too_large(client: Client) -> None:
    async with browsing(console_app(client)) as browser:
        assert (await browser.post("act", json={})).status_code == 415
        assert (await browser.post("act", data={"id": "x" * 300_000})).status_code == 413
        many = "&".join(["a=b"] * 3000)
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert (await browser.post("act", content=many, headers=form)).status_code == 400
        assert (await browser.post("act", content=b"id=\xff", headers=form)).status_code == 400


# --- what is said to browsers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [*PAGES, "login", "nothing", "static/console.css", "static/nothing", "static/..%2fapp.py"]
)
async def test_every_response_keeps_scripts_and_frames_out(client: Client, path: str) -> None:
    async with browsing(console_app(client)) as browser:
        page = await browser.get(path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == (
            "public, max-age=31536000, immutable" if path == "static/console.css" else "no-store"
        )
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=|javascript:|https?://", page.text)


# --- what makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"tokens": {"short": "operator"}},
        {"tokens": {"a token that is long enough": "admin"}},
        {"tokens": TOKENS, "authenticate": lambda _: None},
        {"trace_url": "javascript:alert('{trace_id}')"},
        {"trace_url": "http://jaeger/trace/"},
        {"refresh": 0},
        {"secret": "short"},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="console"):
        console_app(lambda: pytest.fail("not asked yet"), **options)


async def test_who_is_no_visitor_is_not_let_in(client: Client) -> None:
    def who(request: Any) -> Any:
        return {"name": "grace", "role": "operator"}

    async with browsing(console_app(client, authenticate=who)) as browser:
        assert (await browser.get("coordinators")).status_code == 500
