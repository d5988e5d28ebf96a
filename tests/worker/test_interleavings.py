"""Requests in any order and at the same time, to workers on one database that die in between, break no law."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagas.stores import store_for
from tests.support.postgres import Databases
from tests.worker.interleavings import STEPS, Ask, Fate, Kind, Plan, World, play

_EVERYTHING = os.environ.get("SAGAS_TEST_EVERYTHING") == "1"
_WORKERS, _KEYS = 3, 2
_FATES: tuple[Fate, ...] = ("succeed", "reject", "raise before", "raise after", "die before", "die after")


def _prepare(url: str) -> str:
    store = store_for(url)
    store.open(migrate=True)
    store.close()
    World(url, Plan((), {}, (), {}), "").create()
    return url


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inbox") / "template.db"
    _prepare(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="module")
def database(postgres_server: Databases) -> Iterator[str]:
    url = postgres_server.create_database()
    yield _prepare(f"{url}?notify=off" if "?" not in url else f"{url}&notify=off")
    postgres_server.drop_database(url)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    keys = draw(st.integers(1, _KEYS))
    asks = st.builds(
        Ask, st.integers(0, _WORKERS - 1), st.sampled_from(("action", "action", "undo", "probe")),
        st.integers(0, keys - 1), st.sampled_from((False, False, False, True)),
    )  # fmt: skip
    kinds: tuple[Kind, ...] = ("action", "undo")
    places: list[tuple[int, Kind]] = [(key, kind) for key in range(keys) for kind in kinds]
    return Plan(
        steps=tuple(draw(st.lists(st.sampled_from(STEPS), min_size=keys, max_size=keys))),
        fates=draw(st.dictionaries(st.sampled_from(places), st.lists(st.sampled_from(_FATES), max_size=3), max_size=3)),
        rounds=draw(st.lists(st.lists(asks, min_size=1, max_size=5), min_size=1, max_size=6)),
        deaths=draw(st.dictionaries(st.integers(0, 5), st.lists(st.integers(0, _WORKERS - 1), max_size=2), max_size=2)),
    )


def _run(url: str, plan: Plan) -> None:
    world = World(url, plan, uuid.uuid4().hex[:12])

    async def main() -> None:
        with anyio.fail_after(60):
            await play(world, _WORKERS)

    anyio.run(main)
    world.check()


@settings(max_examples=3_000 if _EVERYTHING else 40, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans())
def test_whatever_comes_in_breaks_no_law_on_sqlite(plan: Plan, template: Path) -> None:
    path = template.with_name(f"{uuid.uuid4().hex}.db")
    shutil.copy(template, path)
    try:
        _run(f"sqlite:///{path}?synchronous=OFF", plan)
    finally:
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


@settings(max_examples=2_000 if _EVERYTHING else 12, suppress_health_check=[HealthCheck.too_slow])
@given(plan=plans())
def test_whatever_comes_in_breaks_no_law_on_postgres(plan: Plan, database: str) -> None:
    _run(database, plan)
