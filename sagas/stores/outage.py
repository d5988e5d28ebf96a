"""Tells a database that is away from a statement that is wrong, and from one that is not allowed."""

from __future__ import annotations

import re

__all__ = ["is_forbidden", "is_outage", "is_row_busy", "is_standoff", "reason_of", "root_of", "what_is_missing"]

# SQLite's primary result codes: busy, locked, no memory, I/O error, full, cannot open (sqlite.org/rescode.html).
_SQLITE_OUTAGES = frozenset({5, 6, 7, 10, 13, 14})
# PostgreSQL's, by how they begin: connection, transaction rolled back for another's sake, resources, shut down, I/O
# (postgresql.org/docs/current/errcodes-appendix.html).
_POSTGRES_OUTAGES = ("08", "40", "53", "57P", "58")
_POSTGRES_FORBIDDEN = "42501"
_POSTGRES_ROW_BUSY = "55P03"
_POSTGRES_STANDOFF = ("40", _POSTGRES_ROW_BUSY)
# What each part of a statement needs to be allowed for what it names. Ours change only rows that they look for.
_RIGHTS = (
    (r"(?:FROM|JOIN)\s+{0}\b", ("SELECT",)),
    (r"(?s)FROM\s+{0}\b.*FOR UPDATE", ("UPDATE",)),
    (r"INSERT\s+INTO\s+{0}\b", ("INSERT",)),
    (r"UPDATE\s+{0}\b", ("SELECT", "UPDATE")),
    (r"DELETE\s+FROM\s+{0}\b", ("SELECT", "DELETE")),
)


def is_outage(error: BaseException) -> bool:
    """Says whether what a user's statement raised is the database's trouble, which passes, and not the statement's."""
    if getattr(error, "connection_invalidated", False):
        return True
    driver_error = getattr(error, "orig", None)
    code = getattr(driver_error, "sqlite_errorcode", None)
    return (isinstance(code, int) and code & 0xFF in _SQLITE_OUTAGES) or _state(error).startswith(_POSTGRES_OUTAGES)


def is_row_busy(error: BaseException) -> bool:
    """Says whether a transaction would have had to wait too long for a row that another one is writing."""
    return _state(error) == _POSTGRES_ROW_BUSY


def is_standoff(error: BaseException) -> bool:
    """Says whether a transaction gave way to another one, so that it may well go through without some of its parts."""
    return _state(error).startswith(_POSTGRES_STANDOFF)


def is_forbidden(error: BaseException) -> bool:
    """Says whether the user lacks a right, which does not pass by itself."""
    return _state(error) == _POSTGRES_FORBIDDEN


def what_is_missing(error: BaseException, url: str) -> str:
    """Says of a statement that was forbidden which right its user lacks, and where to read on."""
    right = _missing_right(error)
    advice = f"GRANT {right} TO it" if right else "Grant it that, or have an admin run `sagas migrate` in its place"
    return (
        f"the user of the journal's database {url} lacks a right: {reason_of(error)}. {advice}; what a coordinator "
        "and a client need is in docs/how-to/run-on-postgres.md, under 'Let an admin create them'"
    )


def _missing_right(error: BaseException) -> str:
    """Says what to grant, as after ``GRANT``; ``""`` if the statement does not tell."""
    # By the name alone, since the server may speak any language.
    found = re.search(r"\bsaga\w*", str(getattr(error, "orig", "")))
    if found is None:
        return ""
    if found[0].endswith("_seq"):
        return f"USAGE ON SEQUENCE {found[0]}"
    statement = str(getattr(error, "statement", ""))
    rights = [x for part, rights in _RIGHTS if re.search(part.format(found[0]), statement) for x in rights]
    return f"{', '.join(dict.fromkeys(rights))} ON {found[0]}" if rights else ""


def root_of(error: BaseException) -> BaseException:
    """Finds the outage behind an error that it led to, such as a rollback of what the database itself rolled back."""
    found: BaseException | None = error
    while found is not None and not is_outage(found):
        found = found.__context__
    return found or error


def reason_of(error: BaseException) -> str:
    """Gives what the driver said, on one line."""
    return str(getattr(error, "orig", error)).strip().replace("\n", " ")


def _state(error: BaseException) -> str:
    """Gives PostgreSQL's code of an error; ``""`` if it has none."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""
