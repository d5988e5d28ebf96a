"""The filters of the list of sagas: as addresses have them, and as they are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sagas.errors import RequestError

if TYPE_CHECKING:
    from sagas.coordinator import SagaFilter

__all__ = ["AGES", "STATUSES", "filled_in", "place", "wanted"]

STATUSES: Final = (
    ("", "any"), ("open", "open"), ("running", "running"), ("compensating", "compensating"), ("stuck", "stuck"),
    ("ended", "ended"), ("completed", "completed"), ("compensated", "compensated"),
)  # fmt: skip
_SPANS: Final[Mapping[str, tuple[str, timedelta]]] = {
    "10m": ("10 minutes", timedelta(minutes=10)),
    "1h": ("hour", timedelta(hours=1)),
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
}
AGES: Final = (
    ("", "at any time"),
    *((name, f"in the last {words}") for name, (words, _) in _SPANS.items()),
    *((f"over-{name}", f"more than {words.replace('hour', 'an hour') if name == '1h' else words} ago")
      for name, (words, _) in _SPANS.items()),
)  # fmt: skip
_FIELDS: Final = ("status", "name", "version", "step", "id", "age", "text", "before")


def filled_in(query: Mapping[str, str]) -> dict[str, str]:
    """Gives the fields of the form, as they were filled in."""
    return {field: query.get(field, "").strip() for field in _FIELDS}


def wanted(given: Mapping[str, str], now: datetime) -> SagaFilter:
    """Says what is looked for.

    Raises:
        RequestError: There is no such status or age.
    """
    from sagas.coordinator import SagaFilter

    for field, known in (("status", STATUSES), ("age", AGES)):
        values = [value for value, _ in known]
        if given[field] not in values:
            raise RequestError(f"{field}={given[field]!r} is none; use one of {', '.join(filter(None, values))}")
    span = _SPANS.get(given["age"].removeprefix("over-"))
    begin = None if span is None else now - span[1]
    over = given["age"].startswith("over-")
    return SagaFilter(
        status=given["status"] or None,
        name=given["name"] or None,
        version=given["version"] or None,
        step=given["step"] or None,
        id_prefix=given["id"],
        error=given["text"],
        started_from=None if over else begin,
        started_before=begin if over else None,
    )


def place(given: Mapping[str, str]) -> str:
    """Says from where on the list goes on, as the page before has it in its link; ``""`` from its beginning.

    Raises:
        RequestError: No page has this.
    """
    before = given["before"]
    if before and not (before.isascii() and before.isdecimal()):
        raise RequestError(
            f"before={before!r} is no place in the list: follow its links, or leave it out for the newest"
        )
    return before
