"""What is done to the tables of messages, for both databases; each function runs in a transaction of its caller.

Of the messages of a group, at most one is in somebody's hands. Which one may be is only found out when one would be
taken: one that has to wait for others is *parked* then, so that nobody looks at it again until it is its turn. At least
one message of a group is not parked, always.

In PostgreSQL, whoever looks at a group or lets its next message go on holds the group's advisory lock. Those who look
only try to get it, and within a transaction nobody waits for anything after that, so that none waits for another in a
circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection

from sagas.transport.queues import DeadLetter, Delivery, Message
from sagas_adapters.sql.dialects import Dialect, Group, Place, dialect_of, group_key, group_keys

__all__ = ["Desk", "Row", "row_of"]

_SWEEP = 500
_PAGE = 500

_INSERT_SQLITE = (
    "INSERT INTO saga_message (queue, ready_at, held, count, group_id, dedup_id, headers, body) "
    "VALUES (?, ?, 0, 0, ?, ?, ?, ?)"
)
_INSERT_POSTGRES = """
    INSERT INTO saga_message (queue, ready_at, held, count, group_id, dedup_id, headers, body)
    SELECT v.queue, CASE WHEN v.delay > 0 THEN {now} + v.delay ELSE 0 END, false, 0, v.group_id, v.dedup_id,
        v.headers, v.body
    FROM unnest(%(queues)s::text[], %(delays)s::float8[], %(groups)s::text[], %(dedup_ids)s::text[],
        %(headers)b::bytea[], %(bodies)b::bytea[])
    WITH ORDINALITY AS v (queue, delay, group_id, dedup_id, headers, body, place) ORDER BY v.place
"""
_REMEMBER = """
    INSERT INTO saga_dedup (queue, dedup_id, until) SELECT v.queue, v.name, {now} + {window}
    FROM {names} v {name_columns} WHERE true
    ON CONFLICT (queue, dedup_id) DO UPDATE SET until = excluded.until WHERE saga_dedup.until <= {now}
    RETURNING queue, dedup_id
"""
_FORGET = """
    DELETE FROM saga_dedup WHERE {row} {some}
    SELECT {row} FROM saga_dedup WHERE until <= {now} ORDER BY until LIMIT {limit} {skip} {end}
"""
_DELETE = """
    DELETE FROM saga_message WHERE id {some}
    SELECT m.id FROM {places} v {place_columns} CROSS JOIN saga_message m
    WHERE m.id = v.id AND m.count = v.count AND m.held AND m.ready_at > {now} ORDER BY m.id {lock} {end}
    RETURNING id, queue, group_id
"""
_PRESENT = "SELECT id FROM saga_message WHERE id {ids} UNION ALL SELECT id FROM saga_dead_letter WHERE id {ids}"
_GIVE_BACK = """
    UPDATE saga_message SET held = false, ready_at = CASE WHEN {delay} > 0 THEN {now} + {delay} ELSE 0 END
    WHERE id = {id} AND count = {count} AND held AND ready_at > {now} RETURNING queue, group_id
"""
_EXTEND = """
    UPDATE saga_message SET ready_at = {now} + {seconds}
    WHERE id = {id} AND count = {count} AND held AND ready_at > {now} RETURNING id
"""
_UNTAKE = """
    UPDATE saga_message SET held = false, ready_at = 0, count = count - 1 WHERE id {some}
    SELECT m.id FROM {places} v {place_columns} CROSS JOIN saga_message m
    WHERE m.id = v.id AND m.count = v.count AND m.held ORDER BY m.id {lock} {end}
"""
_DUE = """
    SELECT id, count, held, group_id FROM saga_message
    WHERE queue = {queue} AND ready_at > 0 AND ready_at <= {now} ORDER BY ready_at LIMIT {limit} {skip}
"""
_READY = "UPDATE saga_message SET held = false, ready_at = 0 WHERE id {ids}"
_TAKE = """
    UPDATE saga_message SET held = true, count = count + 1, ready_at = {now} + {visibility} WHERE id {some}
    SELECT id FROM saga_message WHERE {first} LIMIT {limit} {skip} {end}
    RETURNING id, count, group_id, dedup_id, headers, body
"""
_STANDINGS = """
    SELECT v.name, h.id, h.ready_at IS NULL, EXISTS (
        SELECT 1 FROM saga_message o
        WHERE o.queue = v.queue AND o.group_id = v.name AND o.held AND NOT (o.id {ids})
    ) FROM {names} v {name_columns} LEFT JOIN saga_message h ON h.id = (
        SELECT min(m.id) FROM saga_message m WHERE m.queue = v.queue AND m.group_id = v.name
    )
"""
_PARK = "UPDATE saga_message SET held = false, count = count - 1, ready_at = NULL WHERE id {ids}"
_LEAVE = "UPDATE saga_message SET held = false, count = count - 1, ready_at = 0 WHERE id {ids}"
_UNPARK = "UPDATE saga_message SET ready_at = 0 WHERE ready_at IS NULL AND id {ids}"
_GO_ON = """
    UPDATE saga_message SET ready_at = 0 WHERE ready_at IS NULL AND id {some}
    SELECT (SELECT min(m.id) FROM saga_message m WHERE m.queue = v.queue AND m.group_id = v.name)
    FROM {names} v {name_columns} {end}
"""
_NEXT = "SELECT min(ready_at) - {now} FROM saga_message WHERE queue = {queue} AND ready_at > 0"
_BURY = """
    INSERT INTO saga_dead_letter (id, queue, group_id, dedup_id, headers, body, count, reason)
    SELECT id, queue, group_id, dedup_id, headers, body, count, {reason} FROM saga_message WHERE id {ids}
"""
_DROP = "DELETE FROM saga_message WHERE id {ids}"
_DEAD = """
    SELECT id, count, group_id, dedup_id, headers, body, reason FROM saga_dead_letter
    WHERE queue = {queue} ORDER BY id LIMIT {limit}
"""
_DEAD_ALL = "SELECT id FROM saga_dead_letter WHERE queue = {queue} {skip}"
_DEAD_SOME = "SELECT id FROM saga_dead_letter WHERE queue = {queue} AND id {ids} {skip}"
_RESURRECT = """
    INSERT INTO saga_message (queue, ready_at, held, count, group_id, dedup_id, headers, body)
    SELECT queue, 0, false, 0, group_id, dedup_id, headers, body FROM saga_dead_letter WHERE id {ids} ORDER BY id
"""
_DROP_DEAD = "DELETE FROM saga_dead_letter WHERE id {ids}"


class Row(NamedTuple):
    """A message on its way into the table."""

    queue: str
    delay: float
    group: str | None
    dedup_id: str | None
    headers: bytes
    body: bytes


def row_of(queue: str, message: Message) -> Row:
    """Makes one of a message."""
    headers = orjson.dumps(dict(message.headers)) if message.headers else b""
    return Row(queue, message.delay, message.group, message.dedup_id, headers, message.body)


@dataclass(slots=True)
class Desk:
    """One transaction.

    Attributes:
        connection: In the transaction.
        now: The time; ``None`` for the database's own, which SQLite has none of.
        behind: Groups whose next message may go on; see ``go_on``.
    """

    connection: Connection
    now: float | None
    behind: set[Group] = field(default_factory=set[Group])

    @property
    def _dialect(self) -> Dialect:
        return dialect_of(self.connection)

    def _run(self, statement: str, **parameters: Any) -> Any:
        """Executes a statement."""
        return self._dialect.run(self.connection, statement, self.now, **parameters)

    def _listed(self, name: str, values: Sequence[Any]) -> Mapping[str, Any]:
        """Makes parameters of many values."""
        return self._dialect.listed(name, values)

    # --- sending ------------------------------------------------------------------------------------------------

    def send(self, rows: Sequence[Row], window: float) -> None:
        """Adds messages, but for duplicates."""
        if any(row.dedup_id is not None for row in rows):
            rows = self._without_duplicates(rows, window)
        if not rows:
            return
        if self._dialect.locks:
            self._insert_arrays(rows)
        else:
            assert self.now is not None, "SQLite has no clock"
            values = [(row.queue, self.now + row.delay if row.delay > 0 else 0.0, *row[2:]) for row in rows]
            self.connection.exec_driver_sql(_INSERT_SQLITE, values)

    def _insert_arrays(self, rows: Sequence[Row]) -> None:
        """Adds messages in PostgreSQL."""
        names = ("queues", "delays", "groups", "dedup_ids", "headers", "bodies")
        self._run(_INSERT_POSTGRES, **dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))

    def _without_duplicates(self, rows: Sequence[Row], window: float) -> list[Row]:
        """Leaves out what was sent before; in PostgreSQL, waits for whoever is just sending the same."""
        first: dict[Group, Row] = {}
        for row in rows:
            if row.dedup_id is not None:
                first.setdefault((row.queue, row.dedup_id), row)
        names = self._listed("names", sorted(first))
        new = {(queue, dedup_id) for queue, dedup_id in self._run(_REMEMBER, window=window, **names)}
        self._run(_FORGET, limit=2 * len(first))
        kept = {id(row) for place, row in first.items() if place in new}
        return [row for row in rows if row.dedup_id is None or id(row) in kept]

    # --- deliveries ---------------------------------------------------------------------------------------------

    def ack(self, places: Collection[Place]) -> set[int]:
        """Deletes what was dealt with.

        Returns:
            The messages that are not their consumer's any more.
        """
        done = self._run(_DELETE, **self._listed("places", list(places))).all()
        self.behind.update((queue, group) for _, queue, group in done if group is not None)
        rest = {message for message, _ in places}.difference(message for message, _, _ in done)
        return {row[0] for row in self._run(_PRESENT, **self._listed("ids", list(rest)))} if rest else set()

    def nack(self, place: Place, *, delay: float, reason: str, last: bool) -> bool:
        """Gives a message back, or puts it away; says whether it was still its consumer's."""
        found = self._run(_GIVE_BACK, id=place[0], count=place[1], delay=0.0 if last else delay).first()
        if found is not None and last:
            self.bury([place[0]], reason)
            if found[1] is not None:
                self.behind.add((found[0], found[1]))
        return found is not None

    def extend(self, place: Place, seconds: float) -> bool:
        """Holds a message for longer; says whether it was still its consumer's."""
        return self._run(_EXTEND, id=place[0], count=place[1], seconds=seconds).first() is not None

    def untake(self, places: Collection[Place]) -> None:
        """Gives back what reached nobody."""
        self._run(_UNTAKE, **self._listed("places", list(places)))

    # --- what is due --------------------------------------------------------------------------------------------

    def sweep(self, queue: str, max_deliveries: int, silence: str) -> None:
        """Makes ready what is due, and puts away what was delivered too often."""
        while due := self._run(_DUE, queue=queue, limit=_SWEEP).all():
            dead = [row for row in due if row[2] and row[1] >= max_deliveries]
            gone = {row[0] for row in dead}
            if dead:
                self.bury(list(gone), silence)
                self.behind.update((queue, row[3]) for row in dead if row[3] is not None)
            if ready := [row[0] for row in due if row[0] not in gone]:
                self._run(_READY, **self._listed("ids", ready))
            if len(due) < _SWEEP:
                return

    def bury(self, ids: Sequence[int], reason: str) -> None:
        """Puts messages away."""
        listed = self._listed("ids", ids)
        self._run(_BURY, reason=reason.replace("\0", "\ufffd"), **listed)
        self._run(_DROP, **listed)

    def go_on(self) -> None:
        """Lets the next message of groups be delivered whose first one has gone."""
        if not self.behind:
            return
        groups = sorted(self.behind)
        self.behind.clear()
        if self._dialect.locks:
            query = "SELECT pg_advisory_xact_lock(key) FROM unnest(%(keys)s::int8[]) key"
            self.connection.exec_driver_sql(query, {"keys": group_keys(groups)})
        self._run(_GO_ON, **self._listed("names", groups))

    def next_due(self, queue: str) -> float | None:
        """Says in how many seconds a message of a queue is due that is not yet."""
        seconds = self._run(_NEXT, queue=queue).scalar_one()
        return None if seconds is None else float(seconds)

    # --- receiving ----------------------------------------------------------------------------------------------

    def take(self, queue: str, limit: int, visibility: float) -> list[Delivery]:
        """Delivers what can be delivered now, in order."""
        found: list[Delivery] = []
        after, page = 0, limit
        while len(found) < limit:
            rows = sorted(self._run(_TAKE, queue=queue, limit=page, after=after, visibility=visibility).all())
            kept = self._in_turn(queue, rows, limit - len(found))
            found.extend(_delivery(row) for row in kept)
            if len(rows) < page or len(kept) == len(rows):
                break
            after, page = rows[-1][0], min(2 * page, _PAGE)
        return found

    def _in_turn(self, queue: str, rows: Sequence[Any], limit: int) -> Sequence[Any]:
        """Puts back what has to wait for others of its group, and what is too many."""
        grouped: dict[str, list[int]] = defaultdict(list)
        for row in rows:
            if row[2] is not None:
                grouped[row[2]].append(row[0])
        out = self._out_of_turn(queue, grouped) if grouped else set[int]()
        kept = [row for row in rows if row[0] not in out]
        if len(kept) > limit:
            self._run(_LEAVE, **self._listed("ids", [row[0] for row in kept[limit:]]))
        return kept[:limit]

    def _out_of_turn(self, queue: str, grouped: Mapping[str, Sequence[int]]) -> set[int]:
        """Puts back what has to wait for others of its group."""
        mine = self._try_to_lock(queue, grouped) if self._dialect.locks else set(grouped)
        leave = {message for group, ids in grouped.items() if group not in mine for message in ids}
        park: set[int] = set()
        heads: set[int] = set()
        taken = [message for group in mine for message in grouped[group]]
        names = self._listed("names", [(queue, group) for group in sorted(mine)])
        standings = self._run(_STANDINGS, **names, **self._listed("ids", taken)) if mine else ()
        for group, head, is_parked, somebody in standings:
            park.update(message for message in grouped[group] if somebody or message != head)
            if is_parked and not somebody:
                heads.add(head)
        for statement, ids in ((_LEAVE, leave), (_PARK, park), (_UNPARK, heads)):
            if ids:
                self._run(statement, **self._listed("ids", list(ids)))
        return leave | park

    def _try_to_lock(self, queue: str, groups: Collection[str]) -> set[str]:
        """Takes the locks of groups, but for those that others have."""
        keys = {group_key((queue, group)): group for group in groups}
        query = "SELECT key FROM unnest(%(keys)s::int8[]) key WHERE pg_try_advisory_xact_lock(key)"
        return {keys[row[0]] for row in self.connection.exec_driver_sql(query, {"keys": list(keys)})}

    # --- dead letters -------------------------------------------------------------------------------------------

    def dead_letters(self, queue: str, limit: int) -> list[DeadLetter]:
        """Reads what was put away."""
        return [
            DeadLetter(id=str(row[0]), message=_message(row), count=row[1], reason=row[6])
            for row in self._run(_DEAD, queue=queue, limit=limit)
        ]

    def redrive(self, queue: str, ids: Collection[int] | None) -> int:
        """Sends it back; says how many messages that were."""
        some = None if ids is None else self._listed("ids", list(ids))
        rows = self._run(_DEAD_ALL, queue=queue) if some is None else self._run(_DEAD_SOME, queue=queue, **some)
        found = [row[0] for row in rows]
        if found:
            listed = self._listed("ids", found)
            self._run(_RESURRECT, **listed)
            self._run(_DROP_DEAD, **listed)
        return len(found)


def _delivery(row: Any) -> Delivery:
    """Makes a delivery of a row."""
    return Delivery(message=_message(row), receipt=f"{row[0]}.{row[1]}", count=row[1])


def _message(row: Any) -> Message:
    """Makes a message of a row."""
    headers = bytes(row[4])
    return Message(body=bytes(row[5]), headers=orjson.loads(headers) if headers else {}, group=row[2], dedup_id=row[3])
