"""A business that sagas act on: a database of its own, whose every effect is known by its idempotency key."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from sagas import Rejected, Retry, current_step, gather, saga, scope, step

__all__ = ["SAGAS", "audit", "create", "order", "use"]

_TABLE = """
CREATE TABLE IF NOT EXISTS effect (
    key TEXT PRIMARY KEY, saga TEXT, kind TEXT, applied INTEGER, undone INTEGER DEFAULT 0
)
"""
_place: list[Path] = []
_seed: list[int] = [0]


class Refused(Rejected):
    """A step that did nothing, and says so."""


def create(path: Path) -> None:
    """Makes the database."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(_TABLE)
    connection.close()


def use(path: Path, seed: int) -> None:
    """Says where the steps of this process act, and which fates the orders have."""
    _place[:] = [path]
    _seed[:] = [seed]


def _write(statement: str, *values: object) -> None:
    # SIGKILL loses nothing that the operating system has, so the business need not wait for the disk.
    connection = sqlite3.connect(_place[0], timeout=30)
    try:
        with connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(statement, values)
    finally:
        connection.close()


def _fate(kind: str) -> float:
    """What becomes of a step: the same number in every attempt and in every process."""
    return random.Random(f"{_seed[0]} {current_step().saga_id} {kind}").random()


def _act(kind: str) -> str:
    """Acts at most once for a key, unless it was undone already; then perhaps fails, with or without an effect."""
    fate, step_now = _fate(kind), current_step()
    if fate < 0.08:
        raise Refused(kind)
    if fate < 0.14:
        raise ConnectionError("the request was lost")
    _write("INSERT OR IGNORE INTO effect VALUES (?, ?, ?, 1, 0)", step_now.idempotency_key, step_now.saga_id, kind)
    if fate < 0.22:
        raise ConnectionError("the reply was lost")
    return kind


def _undo(kind: str) -> None:
    """Undoes what this key did, or makes sure that it never acts; fails now and then."""
    step_now = current_step()
    if random.random() < 0.2:
        raise ConnectionError("try again")
    _write("INSERT OR IGNORE INTO effect VALUES (?, ?, ?, 0, 0)", step_now.undoes, step_now.saga_id, kind)
    _write("UPDATE effect SET undone = undone + applied WHERE key = ? AND undone = 0", step_now.undoes)
    if random.random() < 0.1:
        raise ConnectionError("undone, but nobody heard of it")


_UNTIL_IT_WORKS = Retry(attempts=None, initial=0.001, maximum=0.05)


@step
async def reserve(number: int) -> str:
    """In the event loop."""
    return _act("reserve")


@reserve.compensator(retry=_UNTIL_IT_WORKS)
async def release(number: int, result: str | None) -> None:
    """Takes it back."""
    _undo("reserve")


@step(retry=Retry(attempts=2, initial=0.001))
def charge(number: int) -> str:
    """In a worker thread, and tried twice."""
    return _act("charge")


@charge.compensator(retry=_UNTIL_IT_WORKS)
def refund(number: int, result: str | None) -> None:
    """Takes it back."""
    _undo("charge")


@step
async def insure(number: int) -> str:
    """In a scope whose failure the body gets over."""
    return _act("insure")


@insure.compensator(retry=_UNTIL_IT_WORKS)
async def uninsure(number: int, result: str | None) -> None:
    """Takes it back."""
    _undo("insure")


@step
async def ship(number: int) -> str:
    """The last step."""
    return _act("ship")


@ship.compensator(retry=_UNTIL_IT_WORKS)
async def unship(number: int, result: str | None) -> None:
    """Takes it back."""
    _undo("ship")


@saga
async def order(number: int) -> str:
    """Side by side, in a scope, and one after the other."""
    await gather(reserve(number), charge(number))
    try:
        async with scope():
            await insure(number)
    except Exception as error:
        _ = error
    await ship(number)
    return f"order {number}"


SAGAS = [order]


def audit(journal: Path, business: Path, others: Mapping[str, set[str]] | None = None) -> dict[str, int]:
    """Holds the business against the journal.

    Args:
        journal: The coordinator's database.
        business: The business'.
        others: By name, what other sagas than orders have to have done when they completed.

    Returns:
        How many sagas ended how, and how many effects there were.

    Raises:
        AssertionError: They do not agree.
    """
    with sqlite3.connect(journal) as connection:
        sagas = dict(connection.execute("SELECT id, status FROM saga").fetchall())
        names = dict(connection.execute("SELECT id, name FROM saga").fetchall())
    connection.close()
    with sqlite3.connect(business) as connection:
        effects = connection.execute("SELECT saga, kind, applied, undone FROM effect").fetchall()
    connection.close()
    held: dict[str, dict[str, int]] = {saga_id: {} for saga_id in sagas}
    for saga_id, kind, applied, undone in effects:
        assert saga_id in held, f"{saga_id} acted, but its start is not in the journal"
        assert undone <= applied, f"{saga_id}: {kind} was undone {undone} times"
        assert kind not in held[saga_id], f"{saga_id}: {kind} acted under two keys"
        held[saga_id][kind] = applied - undone
    for saga_id, status in sagas.items():
        assert status in ("completed", "compensated"), f"{saga_id} is {status}"
        kept = {kind for kind, net in held[saga_id].items() if net}
        if status == "completed":
            must = (others or {}).get(names[saga_id], {"reserve", "charge", "ship"})
            assert must <= kept <= {*must, "insure"}, f"{saga_id} is completed, having done {sorted(kept)}"
        else:
            assert not kept, f"{saga_id} is compensated, but {kept} is not undone"
    return {
        "completed": list(sagas.values()).count("completed"),
        "compensated": list(sagas.values()).count("compensated"),
        "effects": len(effects),
    }
