"""The console in a real browser, served by ``sagas console``: an operator at work, and who else has to be able to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pytest

from sagas import Coordinator
from tests.adapters.operated import EVIL, SAGAS, Warehouse, settled, start_all
from tests.support.chromium import chromium, need_chromium, violations

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.timeout(180)

TOKEN = "a token for operators"  # noqa: S105 - of a console that lives for seconds
PAGES = (
    "./", "stuck", "saga?id={stuck}", "saga?id=shipped", "journal?id=shipped", "coordinators", "queues", "schedules",
    "locks", "act?id={stuck}&do=skip", "act?id=waiting-1&do=signal",
)  # fmt: skip


class Site(NamedTuple):
    """A console that is served.

    Attributes:
        url: Of it.
        coordinator: That drives the sagas.
        ids: Of sagas: ``stuck``, ``waiting``, ``ended``.
    """

    url: str
    coordinator: Coordinator
    ids: dict[str, str]

    def address(self, page: str) -> str:
        return self.url + page.format(stuck=quote(self.ids["stuck"]))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Playwright runs on no other."""
    return "asyncio"


@contextmanager
def console(store: str) -> Generator[str]:
    """Runs ``sagas console`` as somebody would; gives its URL."""
    command = [sys.executable, "-m", "sagas", "console", "--store", store, "--port", "0", "--secret", "card"]
    with subprocess.Popen(
        [*command, "--trace-url", "http://localhost/{trace_id}"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "SAGAS_CONSOLE_TOKEN": TOKEN},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[4]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[Browser]:
    need_chromium()
    async with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
async def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Site]:
    """Each test has sagas of its own, since starting a server takes longer than any of them."""
    Warehouse.is_up = False
    store = f"sqlite:///{tmp_path_factory.mktemp('console') / 'orders.db'}"
    async with Coordinator(store, sagas=SAGAS, name="one") as coordinator:
        ids = await start_all(coordinator)
        with console(store) as url:
            yield Site(url, coordinator, ids)


@asynccontextmanager
async def signed_in(browser: Browser, site: Site, **options: Any) -> AsyncGenerator[Page]:
    """Gives a page of somebody who has signed in; whatever the browser complains of fails the test."""
    context = await browser.new_context(**options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    await page.goto(site.url)
    await page.get_by_label("Your name").fill("grace")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Sign out").wait_for()
    yield page
    await context.close()
    assert not complaints


async def test_an_operator_finds_a_stuck_saga_reads_why_skips_its_undo_and_sees_it_end(
    site: Site, browser: Browser
) -> None:
    async with signed_in(browser, site) as page:
        mended = site.ids["stuck"].replace("stuck-0", "stuck-1")
        # Finds it: only what is stuck is listed, without the page being loaded again.
        await page.get_by_role("link", name="shipped").wait_for()
        await page.get_by_label("Status").select_option("stuck")
        await page.get_by_role("link", name="shipped").wait_for(state="detached")
        assert "status=stuck" in page.url
        await page.get_by_role("link", name=mended).click()
        # Reads why.
        alert = page.locator(".alert").first
        assert "The undo of reserve (1) failed, 2 times" in await alert.inner_text()
        assert "the warehouse does not answer" in await alert.inner_text()
        # Skips the undo, and says why.
        await page.get_by_role("link", name="Skip its undo…").click()
        await page.get_by_label("Why").fill("put back by hand")
        await page.get_by_role("button", name="Skip").click()
        # Sees it end.
        await page.locator("#live .state-compensated").first.wait_for()
        assert "put back by hand" in await page.locator("#live").inner_text()
        decision = (await site.coordinator.get(mended)).decisions[-1]
        assert (decision.by, decision.reason) == ("grace", "put back by hand")
        # And so does the list of what is stuck, which had two.
        await page.get_by_role("link", name="Stuck").click()
        await page.get_by_text("1 \N{MULTIPLICATION SIGN} ").wait_for()


async def test_a_page_follows_by_itself_until_it_is_paused(site: Site, browser: Browser) -> None:
    async with signed_in(browser, site) as page:
        await page.goto(site.address("saga?id=waiting-0"))
        await page.locator("details#input").click()  # which stays open
        pause = page.get_by_role("button", name="Pause live updates")
        await pause.click()
        assert await pause.get_attribute("aria-pressed") == "true"
        await site.coordinator.signal("waiting-0", "paid", "in full")
        await settled(site.coordinator, "waiting-0", lambda view: view.ended_at is not None)
        await page.wait_for_timeout(1500)  # longer than it would take: nothing comes, and that cannot be waited for
        assert await page.locator("#live .state-completed").count() == 0
        await pause.click()
        await page.locator("#live .state-completed").first.wait_for()
        assert await page.locator("details#input").get_attribute("open") is not None


async def test_nobody_is_kept_out_in_light_or_dark(site: Site, browser: Browser) -> None:
    async with signed_in(browser, site) as page:
        for address in PAGES:
            await page.goto(site.address(address))
            assert not await violations(page), address
        await page.context.clear_cookies()
        await page.goto(site.url)
        assert not await violations(page)


async def test_it_fits_a_phone_and_a_keyboard(site: Site, browser: Browser) -> None:
    async with signed_in(browser, site, viewport={"width": 360, "height": 740}) as page:
        for address in PAGES:
            await page.goto(site.address(address))
            wide: int = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, f"{address} is {wide} wide"
        await page.goto(site.address("saga?id={stuck}"))
        inside: list[int] = await page.locator("#timeline").evaluate("one => [one.scrollWidth, one.clientWidth]")
        assert inside[0] <= inside[1], "what happened is read without moving it sideways"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")  # skips to the content
        assert await page.evaluate("document.activeElement.id") == "content"
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.id") == "do-retry"
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Try again").wait_for()


async def test_without_scripts_everything_can_be_done(site: Site, browser: Browser) -> None:
    async with signed_in(browser, site, java_script_enabled=False) as page:
        await page.get_by_label("Id begins with").fill("waiting-1")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("link", name="waiting-1").click()
        await page.get_by_role("link", name="Cancel…").click()
        await page.get_by_label("Why").fill(f"not wanted {EVIL}")
        await page.get_by_role("button", name="Cancel").click()
        await page.get_by_text("posted to the saga's coordinator").or_(page.get_by_text("done, and written")).wait_for()
        view = await settled(site.coordinator, "waiting-1", lambda view: view.ended_at is not None)
        assert (view.status, view.decisions[0].by) == ("compensated", "grace")
        await page.reload()
        assert EVIL in await page.locator("#live").inner_text()
        assert "done, and written to the journal" in await page.locator("#aftermath").inner_text()
