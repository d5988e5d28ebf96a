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
    max_examples=150,
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
# What takes long, and whose like is tried all the same: on another store, by another mutant, with fewer faults.
LONG = {
    "test_a_client_that_dies_around_a_commit_leaves_whole_sagas[postgres-before]",
    "test_a_client_that_is_killed_at_random_moments_leaves_whole_sagas[postgres]",
    "test_a_limit_across_processes_holds_when_one_of_them_is_killed[sqlite]",
    "test_a_line_that_no_run_comes_by_is_told",
    "test_a_mutant_is_caught[cut_off_block_not_left]",
    "test_a_mutant_is_caught[scope_not_undone]",
    "test_a_mutant_is_caught[signal_received_twice]",
    "test_a_mutant_is_caught[ticket_not_given_back]",
    "test_a_process_that_ends_at_any_write_is_recovered_to_the_right_end[orders]",
    "test_a_process_that_is_killed_around_a_start_has_others_beside_it[sqlite]",
    "test_a_process_that_was_paused_for_long_starts_nothing_twice[postgres]",
    "test_a_saga_is_found_by_its_file_too",
    "test_a_transactional_step_writes_once_between_whichever_statements_it_is_interrupted[cut-one]",
    "test_a_transactional_step_writes_once_between_whichever_statements_it_is_interrupted[kill-undone]",
    "test_an_order_that_matters_only_in_between_is_noticed_by_always",
    "test_an_undo_that_acts_elsewhere_is_told",
    "test_an_undo_that_no_run_reaches_is_told",
    "test_doubt_that_no_run_reaches_was_not_tried",
    "test_each_release_finishes_what_the_other_was_killed_in[old-new-old-new]",
    "test_it_goes_on_if_it_is_told_to_and_counts",
    "test_json_says_the_same_for_the_same_seed",
    "test_killed_at_any_moment_each_saga_is_as_before_or_wholly_gone[postgres-archive]",
    "test_killed_at_any_moment_each_saga_is_as_before_or_wholly_gone[sqlite-delete]",
    "test_no_check_fails_on_the_standard_library[4]",
    "test_no_check_fails_on_the_standard_library[5]",
    "test_no_check_fails_on_the_standard_library[9]",
    "test_processes_side_by_side_start_each_due_time_exactly_once[sqlite]",
    "test_processes_that_are_killed_at_random_leave_nothing_out_and_start_nothing_twice[sqlite]",
    "test_sagas_of_a_killed_process_are_taken_over_within_seconds_whatever_its_lease[trio]",
    "test_undos_that_change_places_are_killed_if_the_world_refuses_that",
    "test_what_a_reader_wrote_passes_the_contracts[my_queue-60]",
    "test_what_a_reader_wrote_passes_the_contracts[my_store-100]",
    "test_what_a_reader_wrote_passes_the_contracts[my_transport-60]",
    "test_what_is_tried_for_ever_is_put_in_doubt_and_cancelled",
    "test_without_its_brokers_nothing_waits_for_ever_and_nothing_is_called_acknowledged[trio]",
}
# Queues that are as others but for what has one of these words in its name.
LIKE_OTHERS = {"TestFifoSqsQueue": ("group", "duplicate", "order", "capabilit")}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spares tests that tell little that is new, or take long for it; ``SAGAS_TEST_EVERYTHING=1`` runs them all."""
    spared = [] if os.environ.get("SAGAS_TEST_EVERYTHING") else [item for item in items if _is_spared(item)]
    if spared:
        config.hook.pytest_deselected(items=spared)
        items[:] = [item for item in items if not _is_spared(item)]


def _is_spared(item: pytest.Item) -> bool:
    """Says whether a test takes long, runs under uvloop where that is of no interest, or with a further seed."""
    if item.name in LONG:
        return True
    words = LIKE_OTHERS.get(getattr(getattr(item, "cls", None), "__name__", ""), ())
    if words and not any(word in item.name for word in words):
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
