"""What every test may use: the event loops, hypothesis' profiles, and randomness that can be repeated."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.postgres import Databases, shared_databases

# A run may find what another missed: none is derandomized, and what fails prints how to repeat it.
# No deadline: a test that waits for a disk or for another process is slow at times, and not wrong.
settings.register_profile("dev", deadline=None, print_blob=True, derandomize=False, max_examples=100)
settings.register_profile(
    "ci",
    settings.get_profile("dev"),
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow],  # two cores, shared with the other half of the tests
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Chooses the seed of the whole run, before hypothesis and the workers ask for it."""
    if config.getoption("--hypothesis-seed") is None:
        config.option.hypothesis_seed = str(random.SystemRandom().randrange(2**32))


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: repeat this run's random choices with --hypothesis-seed={_seed(config)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    # The header may be far away, or left out by -q.
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        terminalreporter.write_line(pytest_report_header(terminalreporter.config))


def _seed(config: pytest.Config) -> str:
    return str(config.getoption("--hypothesis-seed"))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness of this test's own, the same whenever the run's seed is."""
    return random.Random(f"{_seed(request.config)} {request.node.nodeid}")


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ],
    scope="module",
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Every test that is an ``async def`` runs under each of these."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


# Where uvloop may show what asyncio does not. What it replaces is below what is tested elsewhere.
_WITH_UVLOOP = {"coordinator"}
# What takes half a minute, and whose like is tried all the same.
_LONG = {
    "test_a_mutant_is_caught[cut_off_block_not_left]",
    "test_a_mutant_is_caught[scope_not_undone]",
    "test_a_transactional_step_writes_once_between_whichever_statements_it_is_interrupted[cut-one]",
    "test_a_transactional_step_writes_once_between_whichever_statements_it_is_interrupted[kill-undone]",
    "test_what_a_reader_wrote_passes_the_contracts[my_store-100]",
    "test_what_a_reader_wrote_passes_the_contracts[my_transport-60]",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spares tests that tell little that is new, or take long for it; ``SAGAS_TEST_EVERYTHING=1`` runs them all."""
    spared = [] if os.environ.get("SAGAS_TEST_EVERYTHING") else [item for item in items if _is_spared(item)]
    if spared:
        config.hook.pytest_deselected(items=spared)
        items[:] = [item for item in items if not _is_spared(item)]


def _is_spared(item: pytest.Item) -> bool:
    """Says whether a test takes long, runs under uvloop where that is of no interest, or with a further seed."""
    if item.name in _LONG:
        return True
    call: Any = getattr(item, "callspec", None)
    if call is None:
        return False
    folder = item.path.parent.name
    is_uvloop = call.params.get("anyio_backend") == ("asyncio", {"use_uvloop": True})
    return (is_uvloop and folder not in _WITH_UVLOOP) or (call.params.get("seed") in {2, 3} and folder == "adapters")


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The PostgreSQL server of this run; tests that kill theirs start one of their own (``PostgresServer``).

    The environment variable ``SAGAS_POSTGRES_URL`` names one that runs already, for a user who may create databases.
    """
    if url := os.environ.get("SAGAS_POSTGRES_URL"):
        yield Databases(url)
        return
    own = tmp_path_factory.getbasetemp()
    with shared_databases(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) as databases:
        yield databases


@pytest.fixture
def postgres_url(postgres_server: Databases) -> Iterator[str]:
    """An empty PostgreSQL database of this test's own."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)
