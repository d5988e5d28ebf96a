"""Tells a database that is away from a statement that is wrong."""

from __future__ import annotations

__all__ = ["is_outage", "root_of"]

# SQLite's primary result codes: busy, locked, no memory, I/O error, full, cannot open (sqlite.org/rescode.html).
_SQLITE_OUTAGES = frozenset({5, 6, 7, 10, 13, 14})
# PostgreSQL's, by how they begin: connection, transaction rolled back for another's sake, resources, shut down, I/O
# (postgresql.org/docs/current/errcodes-appendix.html).
_POSTGRES_OUTAGES = ("08", "40", "53", "57P", "58")


def is_outage(error: BaseException) -> bool:
    """Says whether what a user's statement raised is the database's trouble, which passes, and not the statement's."""
    if getattr(error, "connection_invalidated", False):
        return True
    driver_error = getattr(error, "orig", None)
    code = getattr(driver_error, "sqlite_errorcode", None)
    state = getattr(driver_error, "sqlstate", None) or ""
    return (isinstance(code, int) and code & 0xFF in _SQLITE_OUTAGES) or state.startswith(_POSTGRES_OUTAGES)


def root_of(error: BaseException) -> BaseException:
    """Finds the outage behind an error that it led to, such as a rollback of what the database itself rolled back."""
    found: BaseException | None = error
    while found is not None and not is_outage(found):
        found = found.__context__
    return found or error
