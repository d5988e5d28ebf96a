"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

__all__ = ["BINARY", "chromium", "need_chromium", "violations"]

BINARY = Path("/usr/bin/chromium")
_AXE = Path(__file__).parent / "axe" / "axe-4.14.1.min.js"
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


def need_chromium() -> None:
    """Leaves a test out where there is no Chromium; in CI there has to be one, if ``.ci/run`` could install it."""
    if not BINARY.exists() and (not os.environ.get("CI") or os.environ.get("SAGAS_NO_CHROMIUM")):
        pytest.skip(f"no Chromium: {BINARY} is missing (Debian's package chromium)")


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """Runs one, without a window."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=BINARY, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


async def violations(page: Page) -> list[str]:
    """Says what axe finds on a page that keeps people out: what is serious or critical, and where, in light or dark."""
    # Not by a tag in the page, which its policy would refuse.
    await page.evaluate(_AXE.read_text(encoding="utf-8"))
    found = [("", one) for one in await _run(page, "{}")]
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found += [(scheme, one) for one in await _run(page, "{runOnly: {type: 'rule', values: ['color-contrast']}}")]
    return [
        f"{scheme} {one['id']} ({one['impact']}): {[node['html'] for node in one['nodes']]}"
        for scheme, one in found
        if one["impact"] in ("serious", "critical")
    ]


async def _run(page: Page, options: str) -> list[dict[str, Any]]:
    """Runs axe."""
    found: dict[str, Any] = await page.evaluate(f"axe.run(document, {{...{options}, resultTypes: ['violations']}})")
    violated: list[dict[str, Any]] = found["violations"]
    return violated
