"""What every store does."""

from __future__ import annotations

from sagas.testing.contracts.stores._case import OpenStore, StoreCase
from sagas.testing.contracts.stores.capabilities import CapabilityContract
from sagas.testing.contracts.stores.journals import JournalContract
from sagas.testing.contracts.stores.limits import LimitContract
from sagas.testing.contracts.stores.locks import LockContract
from sagas.testing.contracts.stores.lost import LostCommitsContract
from sagas.testing.contracts.stores.outbox import OutboxContract
from sagas.testing.contracts.stores.owners import OwnerContract
from sagas.testing.contracts.stores.retention import RetentionContract
from sagas.testing.contracts.stores.schedules import ScheduleContract
from sagas.testing.contracts.stores.surveys import SurveyContract

__all__ = [
    "CapabilityContract",
    "JournalContract",
    "LimitContract",
    "LockContract",
    "LostCommitsContract",
    "OpenStore",
    "OutboxContract",
    "OwnerContract",
    "RetentionContract",
    "ScheduleContract",
    "StoreCase",
    "StoreContract",
    "SurveyContract",
]


class StoreContract(
    JournalContract,
    OwnerContract,
    OutboxContract,
    LimitContract,
    LockContract,
    RetentionContract,
    ScheduleContract,
    LostCommitsContract,
    SurveyContract,
    CapabilityContract,
):
    """All of it: what a store has to do that a coordinator runs on."""
