"""What the pytest plugin gives to tests of sagas, in runs of pytest of their own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sagas.stores import postgres, sqlite

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
# Runs of pytest in this process forget what they have imported, but SQLAlchemy can be imported only once.
KEPT = (postgres, sqlite)

# Steps and sagas for the tests within the tests.
SHOP = """
from contextlib import contextmanager

from sagas import Retry, current_step, receive, saga, sleep, step
from sagas.errors import ReceiveTimeout

tries = []
charged = {}


@contextmanager
def till():
    charged.clear()
    yield charged


@step(retry=Retry(attempts=3, initial=3_600))
async def flaky() -> int:
    tries.append(1)
    if len(tries) < 3:
        raise ConnectionError("away")
    return len(tries)


@saga
async def remind(text: str) -> str:
    await sleep(86_400)
    return text


@saga
async def persist() -> int:
    return await flaky()


@saga
async def wait() -> str:
    try:
        return await receive("answer", str, timeout=7_200)
    except ReceiveTimeout:
        return "nobody answered"


@step
async def charge(amount: int) -> None:
    charged[current_step().idempotency_key] = amount


@charge.compensator
async def refund(amount: int) -> None:
    charged.pop(current_step().undoes, None)


@step
async def forget(amount: int) -> None:
    charged[current_step().idempotency_key] = amount


@forget.compensator
async def remember(amount: int) -> None: ...


@step
async def ship() -> None: ...


@saga
async def right(amount: int) -> None:
    await charge(amount)
    await ship()


@saga
async def wrong(amount: int) -> None:
    await forget(amount)
    await ship()
"""


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory with sagas, in which the plugin is named and not installed."""
    monkeypatch.setenv("COLUMNS", "100")
    pytester.makepyfile(shop=SHOP)
    pytester.makeini("[pytest]\nanyio_mode = auto\naddopts = -p sagas.testing.plugin -p no:cacheprovider")
    pytester.syspathinsert()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return pytester


BACKENDS = """
import pytest

@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param
"""


def test_a_coordinator_runs_on_memory_and_sqlite_under_asyncio_and_trio(inner: pytest.Pytester) -> None:
    inner.makeconftest(BACKENDS)
    inner.makepyfile("""
        import shop

        async def test_it(coordinator):
            async with coordinator(sagas=[shop.right]) as one:
                assert await one.run(shop.right(1)) is None
    """)
    result = inner.runpytest("-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines_random([f"*test_it[[]{x}[]]*" for x in ("asyncio-memory", "trio-sqlite")])


def test_coordinators_of_a_test_share_its_store(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        import shop

        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_it(coordinator):
            async with coordinator(sagas=[shop.right]) as one:
                await one.run(shop.right(1), id="first")
            async with coordinator(sagas=[shop.right]) as two:
                assert (await two.get("first")).status == "completed"
    """)
    inner.runpytest().assert_outcomes(passed=2)


def test_a_mark_and_an_option_of_the_file_choose_the_stores(inner: pytest.Pytester) -> None:
    inner.makeini("[pytest]\naddopts = -p sagas.testing.plugin -p no:cacheprovider\nsagas_stores = sqlite")
    inner.makepyfile("""
        import pytest

        def test_plain(coordinator):
            assert coordinator.store.startswith("sqlite:")

        @pytest.mark.sagas_stores("memory")
        def test_marked(coordinator):
            assert coordinator.store.in_memory
    """)
    inner.runpytest("--strict-markers").assert_outcomes(passed=2)


def test_a_store_that_there_is_not_is_refused_with_the_names_of_those_that_there_are(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest

        @pytest.mark.sagas_stores("oracle")
        def test_it(coordinator): ...
    """)
    result = inner.runpytest()
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*sagas_stores names 'oracle'; there are memory, sqlite, postgres*"])


def test_a_coordinator_runs_on_a_postgres_server_that_is_named(inner: pytest.Pytester, postgres_url: str) -> None:
    inner.makepyfile("""
        import pytest
        import shop

        @pytest.mark.sagas_stores("postgres")
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_it(coordinator, virtual_clock):
            async with coordinator(sagas=[shop.remind]) as one:
                handle = await one.start(shop.remind("soon"))
                await virtual_clock.pass_time(86_400)
                assert await handle.result() == "soon"
    """)
    inner.runpytest("--sagas-postgres", postgres_url).assert_outcomes(passed=1)


def test_without_a_postgres_server_tests_are_skipped_and_say_why(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAGAS_TEST_POSTGRES", raising=False)
    inner.makeconftest("""
        import sagas.testing.databases
        sagas.testing.databases._SERVER = "there_is_no_such_package"
    """)
    inner.makepyfile("""
        import pytest

        @pytest.mark.sagas_stores("postgres")
        def test_it(coordinator): ...
    """)
    result = inner.runpytest("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*--sagas-postgres URL or SAGAS_TEST_POSTGRES*"])


def test_sagas_sleep_retry_and_time_out_by_the_virtual_clock(inner: pytest.Pytester) -> None:
    inner.makeconftest(BACKENDS)
    inner.makepyfile("""
        import anyio
        import pytest
        import shop

        async def test_timers(coordinator, virtual_clock):
            async with coordinator(sagas=[shop.remind]) as one:
                handle = await one.start(shop.remind("soon"))
                await virtual_clock.settled()
                virtual_clock.advance(86_399)
                await virtual_clock.settled()
                assert (await one.get(handle.id)).status == "running"
                virtual_clock.advance(1)
                with anyio.fail_after(5):
                    assert await handle.result() == "soon"

        async def test_retries(coordinator, virtual_clock):
            shop.tries.clear()
            async with coordinator(sagas=[shop.persist]) as one:
                handle = await one.start(shop.persist())
                await virtual_clock.settled()
                assert len(shop.tries) == 1
                await virtual_clock.pass_time(86_400)
                assert await handle.result() == 3

        async def test_timeouts(coordinator, virtual_clock):
            async with coordinator(sagas=[shop.wait]) as one:
                handle = await one.start(shop.wait())
                await virtual_clock.pass_time(7_200)
                assert await handle.result() == "nobody answered"

        async def test_sagas_that_are_not_in_memory_wake_up_too(coordinator, virtual_clock):
            async with coordinator(sagas=[shop.remind], keep_waiting=0) as one:
                handles = [await one.start(shop.remind(str(x))) for x in range(3)]
                await virtual_clock.settled()
                virtual_clock.advance(86_400)
                with anyio.fail_after(5):
                    assert [await x.result() for x in handles] == ["0", "1", "2"]
    """)
    inner.runpytest().assert_outcomes(passed=16)


def test_a_clock_does_not_go_back(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import pytest
        from sagas import RequestError

        def test_it(virtual_clock):
            with pytest.raises(RequestError, match="not by -1"):
                virtual_clock.advance(-1)
            assert virtual_clock.now() == 1_704_801_600
    """)
    inner.runpytest().assert_outcomes(passed=1)


def test_a_planned_run_is_played_and_fails_if_a_fault_never_happens_or_a_law_breaks(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import shop
        from sagas.testing import Fault

        def test_right(fault_plan):
            run = fault_plan(shop.right(1), Fault("lost reply", at="charge"), world=shop.till, view=dict)
            assert run.status == "compensated"
            assert run.undone("charge")

        def test_never(fault_plan):
            fault_plan(shop.right(1), Fault("lost reply", at="charge", nth=7))

        def test_wrong(fault_plan):
            fault_plan(shop.wrong(1), Fault("rejected", at="ship"), world=shop.till, view=dict)
    """)
    result = inner.runpytest()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*Fault('lost reply', at='charge', nth=7) never happened*once*",
            "*this run came by: start, commit*charge, ship*",
        ]
    )
    result.stdout.fnmatch_lines(["saga wrong, after 1 fault: undone is as if it had never been*"])


FAILING = """
    import shop
    from sagas.testing import check

    def test_wrong():
        check(shop.wrong, world=shop.till, view=dict)
"""


def test_a_failed_check_shows_its_story_and_no_stack(inner: pytest.Pytester) -> None:
    inner.makepyfile(FAILING)
    result = inner.runpytest("--sagas-seed=7", "-n0")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        "sagas: checks draw by --sagas-seed=7",
        "saga wrong, after 1 fault: undone is as if it had never been*",
        "*time*process*what happens*the world*",
        "*calls forget*",
        "*@reproduce(wrong(amount=0), Fault('*",
        "*pytest --sagas-seed=7*",
        "*test_a_failed_check*.py:5: CheckFailed*",
        "FAILED*CheckFailed: saga wrong*",
    ])  # fmt: skip
    output = result.stdout.str()
    assert "checking.py" not in output
    assert "def check(" not in output
    story = output.partition("saga wrong")[2].partition("short test summary")[0]
    assert max(map(len, story.splitlines())) <= 100


@pytest.mark.parametrize("option", ["--tb=native", "--tb=long", "--full-trace"])
def test_whoever_asks_for_the_stack_gets_it(inner: pytest.Pytester, option: str) -> None:
    inner.makepyfile(FAILING)
    result = inner.runpytest(option)
    result.assert_outcomes(failed=1)
    assert "checking.py" in result.stdout.str()


def test_the_story_arrives_from_the_processes_of_xdist_as_wide_as_the_terminal(inner: pytest.Pytester) -> None:
    inner.makepyfile(FAILING)
    result = inner.runpytest_subprocess("-n1", "--sagas-seed=7")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["saga wrong, after 1 fault*", "*pytest --sagas-seed=7*", "sagas: checks draw by --sagas-seed=7"]
    )
    output = result.stdout.str()
    assert "checking.py" not in output
    assert 80 < max(len(line) for line in output.splitlines() if line.startswith("  ")) <= 100


def test_a_seed_draws_the_same_runs_again(inner: pytest.Pytester) -> None:
    inner.makepyfile("""
        import json
        import shop
        from sagas.testing import check

        def test_it():
            report = check(shop.right, world=shop.till, view=dict, runs=300)
            with open("drawn.jsonl", "a") as file:
                fired = sorted((what, at, count) for (what, at), count in report.coverage.fired.items())
                file.write(json.dumps([report.seed, fired]) + "\\n")
    """)
    for seed in ("1", "1", "2"):
        inner.runpytest(f"--sagas-seed={seed}").assert_outcomes(passed=1)
    first, again, other = (json.loads(line) for line in (inner.path / "drawn.jsonl").read_text().splitlines())
    assert first == again
    assert first != other


def test_a_run_leaves_the_environment_as_it_was(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_it(): ...")
    before = dict(os.environ)
    inner.runpytest("--sagas-seed=7").assert_outcomes(passed=1)
    assert {x: y for x, y in os.environ.items() if x.startswith("SAGAS_")} == {
        x: y for x, y in before.items() if x.startswith("SAGAS_")
    }


def _install(pytester: pytest.Pytester) -> None:
    """Makes pytest find the plugin as it does where the package is installed."""
    metadata = pytester.mkdir("sagakit-0.dist-info")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sagakit\nVersion: 0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("[pytest11]\nsagas = _sagas_pytestplugin\n", encoding="utf-8")


@pytest.mark.parametrize("options", [(), ("-p", "sagas.testing.plugin")], ids=["found", "named too"])
def test_where_it_is_installed_pytest_finds_it_also_if_it_is_named_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    _install(pytester)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), str(ROOT)]))
    pytester.makepyfile("def test_it(virtual_clock): assert virtual_clock.now() > 0")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)


def test_tests_of_something_else_import_nothing_of_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(pytester)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), str(ROOT)]))
    pytester.makepyfile("""
        import sys

        def test_it():
            assert "_sagas_pytestplugin" in sys.modules
            assert not {"sagas", "hypothesis", "anyio.abc", "sqlalchemy", "pydantic"} & set(sys.modules)
    """)
    pytester.runpytest_subprocess("-p", "no:anyio", "-p", "no:hypothesispytest").assert_outcomes(passed=1)
