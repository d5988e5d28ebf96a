"""Gives orders to sagas that another process drives: by mail, which its coordinator takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sagas.cli.reading import find_row, read_view
from sagas.coordinator.aftermath import carried_out
from sagas.coordinator.checks import check_revision
from sagas.coordinator.loading import revision_of
from sagas.coordinator.orders import check_order, encode_order
from sagas.errors import SagaError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sagas.coordinator.views import Happening, SagaView
    from sagas.stores import Store

__all__ = ["Taken", "give"]

_LOOK = 0.05
_AT_ONCE = 100_000
_UNDOING = ("compensating", "compensated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came of an order.

    Attributes:
        id: The saga.
        order: ``signal``, ``cancel``, ``retry``, ``skip`` or ``resume``.
        taken: Whether a coordinator has taken it; else it is kept in the journal's database.
        refused: Whether it was taken and changed nothing, although it should have.
        status: How the saga stands now.
        message: All of this, for people.
    """

    id: str
    order: str
    taken: bool
    refused: bool
    status: str
    message: str


def give(  # noqa: PLR0917 - what the command was given, in its order
    store: Store, saga_id: str, kind: str, wait: float, fields: Mapping[str, object], expected: int | None = None
) -> Taken:
    """Posts an order, waits until it is taken, then until the saga has settled.

    Args:
        store: Where the saga is.
        saga_id: For whom.
        kind: One of ``orders.KINDS``.
        wait: Seconds for both waits.
        fields: What the order says.
        expected: The ``revision`` of the view that somebody looked at.

    Raises:
        SagaMovedOn: Something has happened since.
        SagaNotFound: There is no such saga.
        NotApplicable: No state of the saga could grant this.
    """
    check_order(find_row(store, saga_id), saga_id, kind)
    journal = store.load([saga_id]).get(saga_id, [])
    seen = len(journal)
    check_revision(saga_id, expected, revision_of(journal))
    said = fields if expected is None else {**fields, "expected": expected}
    mail = store.post(saga_id, time.time(), kind, encode_order(**said))
    until = time.monotonic() + wait
    taken = _wait_for(lambda: not _pending(store, saga_id, mail), until)
    if not taken:
        return _kept(store, saga_id, kind, wait)
    _wait_for(lambda: _settled(store, saga_id), until)
    try:
        view = read_view(store, saga_id)
    except SagaError as error:
        return _untold(store, saga_id, kind, error)
    return _told(view, kind, carried_out(view.timeline, kind, seen - 1))


def _wait_for(condition: Callable[[], bool], until: float) -> bool:
    """Looks until something holds or the time is up."""
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK)
    return True


def _pending(store: Store, saga_id: str, mail: int) -> bool:
    """Says whether mail has not been taken yet."""
    owner = find_row(store, saga_id).owner
    if any(item.id == mail for item in store.mail(owner, time.time(), _AT_ONCE)):
        return True
    return find_row(store, saga_id).owner != owner  # it moved meanwhile: look again


def _settled(store: Store, saga_id: str) -> bool:
    """Says whether a saga does nothing at the moment."""
    row = find_row(store, saga_id)
    return row.ended_at is not None or row.status == "stuck" or not row.active


def _kept(store: Store, saga_id: str, kind: str, wait: float) -> Taken:
    """Tells about an order that nobody has taken yet."""
    row = find_row(store, saga_id)
    if store.alive(row.owner, time.time()):
        why = f"its coordinator is alive but has not taken it within {wait:g} s; it will"
    else:
        why = "no coordinator that is alive drives this saga, so it is kept, and done when one starts"
    message = f"the {kind} for saga {saga_id} is posted: {why}"
    return Taken(id=saga_id, order=kind, taken=False, refused=False, status=row.status, message=message)


def _untold(store: Store, saga_id: str, kind: str, error: SagaError) -> Taken:
    """Tells about an order that was taken, of which the journal cannot tell more here."""
    status = find_row(store, saga_id).status
    message = f"the {kind} for saga {saga_id} was taken; the saga is now {status}. What came of it is unknown: {error}"
    return Taken(id=saga_id, order=kind, taken=True, refused=False, status=status, message=message)


def _told(view: SagaView, kind: str, done: list[Happening]) -> Taken:
    """Tells about an order that was taken."""
    undoing = view.status in _UNDOING or any(step.state.startswith("undo") for step in view.steps)
    refused = not done and not (kind == "cancel" and undoing)
    if refused:
        message = (
            f"the {kind} for saga {view.id} was refused by its coordinator, whose log says why; "
            f"the saga is {view.status}: see `sagas show {view.id}`"
        )
    elif done:
        where = ", ".join(dict.fromkeys(f"{line.step} ({line.path})" for line in done if line.path and line.step))
        message = f"{kind} done{f' for {where}' if where else ''}; saga {view.id} is now {view.status}"
    else:
        message = f"saga {view.id} was being undone already, so the cancel changed nothing; it is {view.status}"
    return Taken(id=view.id, order=kind, taken=True, refused=refused, status=view.status, message=message)
