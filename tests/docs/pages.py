"""Where the documentation's pages are."""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "CHECKING",
    "DEPLOYING",
    "DOCS",
    "ON_POSTGRES",
    "OWN",
    "PAGES",
    "PYTEST",
    "ROOT",
    "SHARED",
    "SIMULATING",
    "TUTORIAL",
    "name_of",
]

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# These are several files each, which test_tutorial.py writes.
TUTORIAL = DOCS / "tutorial.md"
CHECKING = DOCS / "how-to" / "check-statically.md"
DEPLOYING = DOCS / "how-to" / "deploy-new-versions.md"
OWN = DOCS / "how-to" / "write-your-own.md"
PYTEST = DOCS / "how-to" / "test-with-pytest.md"
SIMULATING = DOCS / "how-to" / "simulate-and-draw.md"
# What these show runs on the journal that the environment names, as a service of several processes would have it.
ON_POSTGRES = DOCS / "how-to" / "run-on-postgres.md"
SHARED = (ROOT / "README.md", ON_POSTGRES, DOCS / "how-to" / "start-from-a-web-process.md")
PAGES = sorted(page for page in (ROOT / "README.md", *DOCS.rglob("*.md")) if page.is_file())


def name_of(page: Path) -> str:
    """Names a page as a reader would: relative to the repository."""
    return page.relative_to(ROOT).as_posix()
