"""Every block of Python in the documentation runs, and does what the page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.docs.examples import blocks, run
from tests.docs.pages import (
    CHECKING,
    DEPLOYING,
    DOCS,
    OWN,
    PAGES,
    PYTEST,
    ROOT,
    SHARED,
    SIMULATING,
    TUTORIAL,
    name_of,
)

_SEVERAL = (CHECKING, DEPLOYING, OWN, PYTEST, SIMULATING, TUTORIAL)
WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and page not in _SEVERAL]


@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page not in SHARED], ids=name_of)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for reason in run(page, "asyncio"):
        assert reason, "a block is skipped for a reason"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("page", SHARED, ids=name_of)
def test_examples_for_several_processes_run_on_postgres(
    page: Path, backend: str, postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGAS_STORE", postgres_url)
    for reason in run(page, backend):
        assert reason, "a block is skipped for a reason"


@pytest.mark.parametrize("page", [DOCS / "how-to" / "parallel.md", DOCS / "how-to" / "undo-a-step.md"], ids=name_of)
def test_examples_run_under_trio_too(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(page, "trio")


def test_blocks_that_are_skipped_compile() -> None:
    for page in WITH_PYTHON:
        for block in blocks(page, "python"):
            compile(block, str(page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


_PART = re.compile(r"# (docs/examples/[\w/]+\.py)\n")


@pytest.mark.parametrize(
    "page", [page for page in WITH_PYTHON if page.stem == "decorate-your-microservices"], ids=name_of
)
def test_parts_of_examples_are_what_the_examples_have(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And all that is not run is such a part."""
    monkeypatch.chdir(tmp_path)
    parts = [(match[1], block[match.end() :]) for block in blocks(page, "python") if (match := _PART.match(block))]
    assert len(parts) == len(run(page, "asyncio")) > 0
    for file, text in parts:
        assert text.strip("\n") in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no longer\n{text}"
