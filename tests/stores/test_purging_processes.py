"""Processes that are killed while they archive or delete."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from sagas.stores import store_for
from sagas.stores.port import Store
from sagas.testing.contracts.stores._batches import append, change, row, start

_SAGAS = 120


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request: pytest.FixtureRequest) -> Iterator[tuple[str, Store, Engine]]:
    """A journal that processes can share: completed, compensated, running and stuck sagas in turn."""
    url = request.getfixturevalue(f"{request.param}_url")
    store = store_for(url)
    store.open(migrate=True)
    ids = [f"s{number}" for number in range(_SAGAS)]
    store.commit(start(*ids))
    changes = [
        change(saga_id, status, active=False, ended_at=5.0 if status[0] == "c" else None)
        for saga_id, status in zip(ids, ["completed", "compensated", "running", "stuck"] * (_SAGAS // 4), strict=True)
    ]
    store.commit(append(*(row(saga_id, seq) for saga_id in ids for seq in (1, 2)), changes=tuple(changes)))
    for saga_id in ids:
        store.post(saga_id, 1.0, "signal", b"{}")
    engine = create_engine(url)
    yield url, store, engine
    engine.dispose()
    store.close()


def _live(url: str, how: str, batches: int) -> bool:
    """Runs a process until it has said so many lines, then kills it; says whether it came to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stores.purging", url, how], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(batches)]
    process.kill()
    process.communicate(timeout=30)
    assert lines[0], "it did not even begin"
    return "None" in lines


@pytest.mark.parametrize("how", ["archive", "delete"])
def test_killed_at_any_moment_each_saga_is_as_before_or_wholly_gone(
    journal: tuple[str, Store, Engine], how: str, rng: random.Random
) -> None:
    """And the next one finishes what the killed ones have begun."""
    url, store, engine = journal
    seen: set[int] = set()
    ended = False
    while not ended:
        ended = _live(url, how, rng.randint(1, 5))
        seen.add(_check(engine, how))
    assert len(seen) > 1, "some were killed halfway"
    assert max(seen) == _SAGAS // 2
    ids = [f"s{number}" for number in range(_SAGAS)]
    kept = ids if how == "archive" else [saga_id for number, saga_id in enumerate(ids) if number % 4 >= 2]
    assert store.load(ids) == {saga_id: [row(saga_id, seq) for seq in range(3)] for saga_id in kept}


def _check(engine: Engine, how: str) -> int:
    """Looks at the tables themselves; gives how many are gone."""
    with engine.connect() as connection:
        status = {x[0]: x[1] for x in connection.execute(text("SELECT id, status FROM saga"))}
        counted = text("SELECT saga_id, count(*) FROM saga_journal GROUP BY saga_id")
        records = {x[0]: x[1] for x in connection.execute(counted)}
        mail = {x[0] for x in connection.execute(text("SELECT saga_id FROM saga_mail"))}
        archived = {x[0] for x in connection.execute(text("SELECT id FROM saga JOIN saga_archive USING (key)"))}
    assert set(records.values()) == {3}
    assert mail == set(records), "mail goes with the journal"
    assert {status[saga_id] for saga_id in archived} <= {"completed", "compensated"}
    assert set(status) == set(records) | archived
    assert not set(records) & archived
    gone = {f"s{number}" for number in range(_SAGAS)} - set(records)
    assert gone == archived if how == "archive" else not archived
    assert all(int(saga_id[1:]) % 4 < 2 for saga_id in gone), "only what has ended goes"
    return len(gone)
