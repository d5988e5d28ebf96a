"""What attempts are made with in this process, and whether any may be made now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from sagas.coordinator.calling import Caller

if TYPE_CHECKING:
    from sagas.coordinator.clock import Clock
    from sagas.coordinator.journal import Journal
    from sagas.coordinator.limits import Limits

__all__ = ["Host"]


class Host:
    """See the module.

    Args:
        clock: Time and chance.
        journal: For transactional steps and compensators.
        threads: How many ``def`` steps may run side by side.
        limits: Of steps and compensators.

    Attributes:
        caller: Calls functions.
        closing: Whether it is being left.
        lease_until: Until when this coordinator may act, by the steady clock.
        lease_renewed: Set when that was put off.
        refused: By idempotency key, what the database refused only when everything was written.
    """

    def __init__(self, clock: Clock, journal: Journal, threads: int, limits: Limits) -> None:
        self.clock = clock
        self.journal = journal
        self.caller = Caller(threads)
        self.limits = limits
        self.closing = False
        self.lease_until = float("inf")
        self.lease_renewed = anyio.Event()
        self.refused: dict[str, Exception] = {}

    def lease_held(self, until: float) -> None:
        """Notes until when this coordinator may act, by the steady clock, and lets go on what waited for that."""
        self.lease_until = until
        renewed, self.lease_renewed = self.lease_renewed, anyio.Event()
        renewed.set()

    @property
    def lapsed(self) -> bool:
        """Whether nothing may act now, because others may think that this coordinator is dead."""
        return self.clock.steady() >= self.lease_until and not self.closing
