"""Bytes of each table and each index of the library."""

from __future__ import annotations

from benchmarks.postgres.server import connect

_WEIGHTS = """
    SELECT tables.relname, '', pg_table_size(tables.oid) FROM pg_class tables
    WHERE tables.relkind = 'r' AND tables.relname LIKE 'saga%'
    UNION ALL
    SELECT tables.relname, indexes.relname, pg_relation_size(indexes.oid) FROM pg_class tables
    JOIN pg_index ON pg_index.indrelid = tables.oid JOIN pg_class indexes ON indexes.oid = pg_index.indexrelid
    WHERE tables.relkind = 'r' AND tables.relname LIKE 'saga%'
"""

Weights = dict[tuple[str, str], int]


def weigh(url: str) -> Weights:
    """Bytes by table and index; the index is empty for the table itself, with what belongs to it."""
    with connect(url) as connection:
        return {(table, index): int(size) for table, index, size in connection.execute(_WEIGHTS)}


def weigh_compacted(url: str) -> Weights:
    """The same after the tables have been rewritten without what is dead in them."""
    with connect(url) as connection:
        connection.execute("VACUUM FULL")
    return weigh(url)
