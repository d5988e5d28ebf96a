"""How SQLite and PostgreSQL say the same: the statements are written once, and these fill in what differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection

__all__ = ["POSTGRES", "SQLITE", "Dialect", "Group", "Place", "dialect_of"]

# A queue and a group in it; a message and how often it had been delivered by then.
Group = tuple[str, str]
Place = tuple[int, int]

_PARAMETERS = (
    "after", "count", "dedup_id", "delay", "id", "limit", "queue", "reason", "seconds", "until", "visibility",
    "window",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way of saying things.

    Attributes:
        words: What stands for the names in braces.
        listed: Makes one parameter, or some, of many values of a kind.
    """

    words: Mapping[str, str]
    listed: Callable[[str, Sequence[Any]], Mapping[str, Any]]
    locks: bool

    def say(self, statement: str, *, clock: bool) -> str:
        """Writes a statement.

        Args:
            statement: With names in braces.
            clock: Whether the time is told as a parameter also where the database has a clock.
        """
        return _said(self is POSTGRES, clock, statement)

    def run(self, connection: Connection, statement: str, now: float | None, **parameters: Any) -> Any:
        """Executes a statement.

        Args:
            connection: In a transaction.
            statement: With names in braces.
            now: The time; ``None`` for the database's own.
            **parameters: Its values.
        """
        text = self.say(statement, clock=now is not None)
        return connection.exec_driver_sql(text, {"now": now, **parameters})


@cache
def _said(postgres: bool, clock: bool, statement: str) -> str:  # noqa: FBT001 - the key of a cache
    """Fills in what differs."""
    words = dict((POSTGRES if postgres else SQLITE).words)
    if postgres and clock:
        words["now"] = "%(now)s::float8"
    return statement.format_map(words)


def dialect_of(connection: Connection) -> Dialect:
    """Gives that of a connection."""
    return POSTGRES if connection.dialect.name == "postgresql" else SQLITE


def _as_json(name: str, values: Sequence[Any]) -> Mapping[str, Any]:
    """One text for all of them."""
    return {name: orjson.dumps(list(values)).decode()}


def _as_arrays(name: str, values: Sequence[Any]) -> Mapping[str, Any]:
    """An array for each column."""
    if name == "ids":
        return {"ids": list(values)}
    first, second = ([value[number] for value in values] for number in (0, 1))
    return {f"{name}_1": first, f"{name}_2": second}


def group_key(group: Group) -> int:
    """Names a group among PostgreSQL's advisory locks."""
    text = "\0".join(("saga_message", *group))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)


def group_keys(groups: Collection[Group]) -> list[int]:
    """The same of many, in the order in which everybody takes such locks."""
    return sorted(map(group_key, groups))


SQLITE = Dialect(
    words={
        **{name: f":{name}" for name in _PARAMETERS},
        "now": ":now",
        "ids": "IN (SELECT value FROM json_each(:ids))",
        "some": "IN (",
        "end": ")",
        "places": (
            "(SELECT json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS count "
            "FROM json_each(:places)) AS"
        ),
        "names": (
            "(SELECT json_extract(value, '$[0]') AS queue, json_extract(value, '$[1]') AS name "
            "FROM json_each(:names)) AS"
        ),
        "place_columns": "",
        "name_columns": "",
        "lock": "",
        "skip": "",
        "row": "rowid",
        "first": "queue = :queue AND ready_at = 0 AND id > :after ORDER BY id",
    },
    listed=_as_json,
    locks=False,
)
POSTGRES = Dialect(
    words={
        **{name: f"%({name})s" for name in _PARAMETERS},
        "visibility": "%(visibility)s::float8",
        "delay": "%(delay)s::float8",
        "seconds": "%(seconds)s::float8",
        "window": "%(window)s::float8",
        "now": "extract(epoch FROM statement_timestamp())::float8",
        "ids": "= ANY(%(ids)s::int8[])",
        "some": "= ANY(ARRAY(",
        "end": "))",
        "places": "unnest(%(places_1)s::int8[], %(places_2)s::int4[]) AS",
        "names": "unnest(%(names_1)s::text[], %(names_2)s::text[]) AS",
        "place_columns": "(id, count)",
        "name_columns": "(queue, name)",
        "lock": "FOR UPDATE OF m",
        "skip": "FOR UPDATE SKIP LOCKED",
        "row": "ctid",
        # As a range of the one index that can give this order. By equalities the planner could also walk along the
        # primary key, which it believes to be as good while its numbers are old.
        "first": (
            "(queue, ready_at, id) > (%(queue)s, 0, %(after)s) AND (queue, ready_at) <= (%(queue)s, 0) "
            "ORDER BY queue, ready_at, id"
        ),
    },
    listed=_as_arrays,
    locks=True,
)
