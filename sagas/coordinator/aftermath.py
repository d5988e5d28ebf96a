"""What came of an order that was given to a saga, as far as the journal's database tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from pydantic_core import from_json

from sagas.coordinator.orders import KINDS
from sagas.coordinator.views import OrderView
from sagas.core.operations import utc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sagas.coordinator.views import Happening, SagaView
    from sagas.stores.port import Mail, SagaRow, Store

__all__ = ["Aftermath", "aftermath", "carried_out", "posted_for"]

Aftermath: TypeAlias = Literal["posted", "done", "nothing"]

# What the journal calls an order that was carried out; a retry resumes what is parked, a resume retries what halts it.
_AGAIN: Final = ("step retried", "undo retried", "saga resumed")
_RECORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "signal": ("signal received",),
    "cancel": ("cancel requested",),
    "retry": _AGAIN,
    "skip": ("step skipped", "undo skipped"),
    "resume": _AGAIN,
}
# So many orders of one coordinator are looked through, the oldest; and so often if the saga changes hands meanwhile.
_MOST: Final = 1_000
_TRIES: Final = 3


def posted_for(store: Store, row: SagaRow, now: float) -> tuple[OrderView, ...] | None:
    """Reads the orders that wait for a saga's coordinator; ``None`` if too many do, for this saga and others.

    To know what came of those that do not wait any more, read the journal after this.
    """
    for _ in range(_TRIES):
        mail = store.mail(row.owner, now, _MOST)
        again = store.get(row.id)
        if again is None or again.owner == row.owner:
            return _orders(row.id, mail) if len(mail) < _MOST else None
        row = again  # others deliver its mail by now
    return None


def _orders(saga_id: str, mail: Sequence[Mail]) -> tuple[OrderView, ...]:
    """Picks the orders of a saga; anybody can write to the table, so what makes no sense says nothing more."""
    return tuple(_order(item) for item in mail if item.saga_id == saga_id and item.kind in KINDS)


def _order(item: Mail) -> OrderView:
    """Describes an order."""
    try:
        read: object = from_json(item.body)
    except ValueError:
        read = None
    fields: Mapping[str, object] = cast("Mapping[str, object]", read) if isinstance(read, dict) else {}
    told = {what: str(fields.get(what) or "") for what in ("by", "reason")}
    name = str(fields.get("name") or "") if item.kind == "signal" else ""
    return OrderView(what=item.kind, signal=name, at=utc(item.at), **told)


def carried_out(timeline: Sequence[Happening], kind: str, since: int) -> list[Happening]:
    """Lists the lines that tell of an order of this kind, behind a record."""
    return [line for line in timeline if line.seq > since and line.what in _RECORDS[kind]]


def aftermath(view: SagaView, posted: Sequence[OrderView] | None, kind: str, since: int) -> Aftermath:
    """Says what came of an order.

    Args:
        view: The saga, read after ``posted``.
        posted: What waits for its coordinator, see ``posted_for``.
        kind: One of ``KINDS``.
        since: The saga's ``revision`` when it was given.

    Returns:
        ``posted``: nobody has taken it, as far as can be seen. ``done``: the journal has it. ``nothing``: it was taken
        and changed nothing, since the saga did not allow it any more, or since there was nothing left to do.
    """
    if carried_out(view.timeline, kind, since):
        return "done"
    return "posted" if posted is None or any(order.what == kind for order in posted) else "nothing"
