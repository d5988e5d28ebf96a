"""Refuses arguments that make no sense, with a sentence that says what would."""

from __future__ import annotations

from sagas.core.ranks import HIGHEST, LOWEST
from sagas.core.transitions import SagaState
from sagas.errors import PayloadError, RequestError, SagaMovedOn

__all__ = [
    "check_id",
    "check_number",
    "check_priority",
    "check_revision",
    "check_signal_name",
    "check_status",
    "check_text",
]

_LONGEST_ID = 200
_STATUSES = tuple(dict.fromkeys(state.status for state in SagaState))


def check_id(saga_id: object) -> str:
    """Refuses ids that journals, URLs or terminals would stumble over.

    Raises:
        RequestError: The id is empty, too long or not printable.
    """
    if not isinstance(saga_id, str) or not saga_id or len(saga_id) > _LONGEST_ID or not saga_id.isprintable():
        raise RequestError(f"{saga_id!r} cannot name a saga: use 1 to {_LONGEST_ID} printable characters")
    return saga_id


def check_signal_name(name: object) -> None:
    """Refuses what cannot name a signal.

    Raises:
        PayloadError: The name is empty, too long or no text.
    """
    if not isinstance(name, str) or not name or len(name) > _LONGEST_ID or not _is_text(name):
        raise PayloadError(f"{name!r} cannot name a signal: use 1 to {_LONGEST_ID} characters")


def check_text(what: str, text: object) -> None:
    """Refuses what is empty or no text.

    Raises:
        RequestError: See above.
    """
    if not isinstance(text, str) or not text.strip() or not _is_text(text):
        raise RequestError(f"{what}={text!r}: give some text, for whoever reads the journal later")


def check_status(status: object) -> None:
    """Refuses what is no status of a saga.

    Raises:
        RequestError: It is none.
    """
    if status not in _STATUSES:
        raise RequestError(f"{status!r} is no status of a saga; use one of {', '.join(_STATUSES)}")


def check_revision(saga_id: str, expected: object, revision: int) -> None:
    """Refuses an order that was meant for a saga as it stood before.

    Args:
        saga_id: Which saga.
        expected: Number of the record that was the last; ``None`` if nobody says.
        revision: Number of the last one now, takeovers aside.

    Raises:
        SagaMovedOn: They differ.
        RequestError: ``expected`` is no number.
    """
    if expected is None or expected == revision:
        return
    if not isinstance(expected, int):
        raise RequestError(f"expected={expected!r}: give the `revision` of the view that was looked at")
    raise SagaMovedOn(saga_id, expected, revision)


def check_number(name: str, value: object, *, least: float = 0.0, above: bool = False) -> None:
    """Refuses what is no number, or too small a one.

    Raises:
        RequestError: See above.
    """
    if not isinstance(value, (int, float)) or not (value > least or (value == least and not above)):
        raise RequestError(f"{name}={value!r}: use a number {'above' if above else 'of at least'} {least:g}")


def check_priority(priority: object) -> None:
    """Refuses what is no priority.

    Raises:
        RequestError: It is no whole number, or out of range.
    """
    if not isinstance(priority, int) or isinstance(priority, bool) or not LOWEST <= priority <= HIGHEST:
        raise RequestError(f"priority={priority!r}: use a whole number from {LOWEST} to {HIGHEST}")


def _is_text(text: str) -> bool:
    """Says whether a string can be written as UTF-8, which half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
