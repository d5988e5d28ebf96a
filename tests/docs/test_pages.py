"""The documentation is complete, and its parts fit each other and the code."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import tomllib
import typing
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Table

import sagas
from sagas import errors, transport
from sagas.core import commands, events
from sagas.stores import schema
from sagas.stores.tables import metadata
from tests.docs.pages import DOCS, PAGES, ROOT, name_of

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _prose(page: Path) -> str:
    """Gives a page without its code blocks, in which brackets and hashes mean something else."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Gives the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(_prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links(page: Path) -> list[str]:
    return [link for link in LINK.findall(_prose(page)) if "://" not in link and not link.startswith("mailto:")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _links(page):
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{link}: no such page"
        assert not anchor or anchor in _anchors(there), f"{link}: no such heading"


def test_every_page_can_be_reached_from_the_index() -> None:
    index = DOCS / "README.md"
    linked = {(DOCS / link).resolve() for link in _links(index)} | {index}
    assert [page for page in DOCS.rglob("*.md") if page not in linked and "examples" not in page.parts] == []


def _reference() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))


@pytest.mark.parametrize("name", sagas.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    assert re.search(rf"\b{name}\b", _reference())


def test_every_option_is_in_the_reference() -> None:
    text = _reference()
    for function in (
        sagas.step,
        sagas.saga,
        sagas.Coordinator.__init__,
        sagas.Client.__init__,
        sagas.Retry.__init__,
        sagas.Retention.__init__,
        sagas.Schedule.__init__,
    ):
        for name in list(inspect.signature(function).parameters)[1:]:
            assert f"`{name}`" in text or f"{name}=" in text, f"{function.__qualname__}({name}=)"


def test_every_method_of_the_coordinator_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "coordinator.md").read_text(encoding="utf-8")
    for name in dir(sagas.Coordinator):
        assert name.startswith("_") or f"`await {name}(" in text, name
    of_clients = text.partition("## `Client`")[2].partition("\n## ")[0]
    for name in dir(sagas.Client):
        assert name.startswith("_") or f"`{name}`" in of_clients, name


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=str)
def test_every_column_is_in_the_reference(table: Table) -> None:
    text = (DOCS / "reference" / "journal.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{table.name}` \|.*$", text, re.MULTILINE)
    assert [column.name for column in table.columns if f"`{column.name}`" not in row] == []


def test_the_versions_of_the_tables_are_those_that_the_reference_tells() -> None:
    text = (DOCS / "reference" / "journal.md").read_text(encoding="utf-8")
    assert f"`{schema.MIGRATION_TABLE}`" in text
    assert f"`{schema.VERSION_TABLE}`" in text
    oldest = schema._OLDEST_THAT_WORKS  # noqa: SLF001 - what the page tells of
    assert f"of version {schema.HEAD}, and work with libraries that know version {oldest}." in text


@pytest.mark.parametrize(
    "view",
    [
        sagas.SagaSummary, sagas.SagaView, sagas.StepView, sagas.LockView, sagas.SignalView, sagas.Standing,
        sagas.Happening, sagas.OrderView, sagas.AttemptView, sagas.StepContext, sagas.CoordinatorView,
        sagas.ScheduleView,
    ],
)  # fmt: skip
def test_every_field_of_a_view_is_in_the_reference(view: type) -> None:
    text = _reference()
    assert [name for name in _names(view) if f"`{name}`" not in text] == []


def _names(view: type) -> list[str]:
    return [field.name for field in dataclasses.fields(view) if field.name != "pulse"]


@pytest.mark.parametrize(
    "kind",
    [
        transport.StepRequest, transport.StepReply, transport.Message, transport.Delivery, transport.DeadLetter,
        transport.Capabilities,
    ],
)  # fmt: skip
def test_every_field_that_travels_is_in_the_reference(kind: type) -> None:
    text = (DOCS / "reference" / "transports.md").read_text(encoding="utf-8")
    assert [name for name in _names(kind) if f"`{name}`" not in text] == []
    assert [name for name in typing.get_args(transport.Outcome) if f"| `{name}` |" not in text] == []


def test_the_table_of_capabilities_is_what_the_queues_declare() -> None:
    text = (DOCS / "reference" / "transports.md").read_text(encoding="utf-8")
    declared = dataclasses.asdict(transport.MemoryQueue.ABLE)
    told = dict(re.findall(r"^\| `(\w+)` \| .* \| (\w+) \|$", text.partition("### Capabilities")[2], re.MULTILINE))
    shown = {True: "yes", False: "no", None: "no"}
    assert told == {name: shown.get(value, f"{value}".removesuffix(".0")) for name, value in declared.items()}


def test_every_event_and_command_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "journal.md").read_text(encoding="utf-8")
    assert [name for name in events.__all__ if name not in {"Attempt", "ErrorInfo", "Event"} and name not in text] == []
    noted = {"RunStep": "step", "RunUndo": "undo", "StartTimer": "timer", "MarkVersion": "change", "Halt": "halt"}
    noted |= {"TakeLock": "lock", "FreeLock": "unlock", "Emit": "emit"}
    for name in set(commands.__all__) - {"Command", "Complete", "RunLocal"}:
        assert f'`["{noted[name]}"' in text


# --- the tree of errors ------------------------------------------------------------------------------------------


def _drawn(text: str) -> dict[str, str]:
    """Reads a drawn tree: the parent of each name."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in text.splitlines():
        match = re.match(r"^([│ ├└─]*)(\w+)(?: {2,}.*)?$", line)
        if match is None or not (match[1] or match[2] == "SagaError"):
            continue
        depth = len(match[1]) // 4
        above = [*above[:depth], match[2]]
        if depth:
            parents[match[2]] = above[depth - 1]
    return parents


def _defined() -> dict[str, str]:
    """Reads the tree from the classes: the parent of each name."""
    kinds = [vars(errors)[name] for name in errors.__all__ if name != "SagaError"]
    return {kind.__name__: kind.__mro__[1].__name__ for kind in kinds}


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert _drawn(errors.__doc__ or "") == _defined()


def test_the_tree_in_the_reference_is_the_tree_of_the_classes() -> None:
    assert _drawn((DOCS / "reference" / "errors.md").read_text(encoding="utf-8")) == _defined()


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(sagas.__all__)


# --- what is generated, and what is named ------------------------------------------------------------------------


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_state_diagrams_are_up_to_date() -> None:
    diagrams = _script("make_diagrams")
    written = diagrams.PAGE.read_text(encoding="utf-8")
    assert written == diagrams.page(), "run `python docs/make_diagrams.py`"


def test_the_tables_of_faults_and_laws_are_up_to_date() -> None:
    testing = _script("make_testing")
    written = testing.PAGE.read_text(encoding="utf-8")
    assert written == testing.written(written), "run `python docs/make_testing.py`"


def test_files_and_modules_that_pages_name_exist() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:tests|sagas|docs|benchmarks)/[\w./-]*)`", _prose(page)):
            assert (ROOT / path).exists(), f"{name_of(page)} names {path}"


def test_extras_that_pages_name_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for page in PAGES:
        for extra in re.findall(r"(?:sagakit|'\.)\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(extra.split(",")) <= set(extras), name_of(page)


def test_the_eleven_laws_are_all_there() -> None:
    text = (DOCS / "explanation" / "semantics.md").read_text(encoding="utf-8")
    numbers = [int(number) for number in re.findall(r"^## (\d+)\.", text, re.MULTILINE)]
    assert numbers == list(range(1, 12))


def test_the_glossary_is_sorted() -> None:
    terms = [term.lower() for term in HEADING.findall(_prose(DOCS / "glossary.md"))[1:]]
    assert all(left < right for left, right in pairwise(terms)), terms
