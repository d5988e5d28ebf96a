"""What every queue does."""

from __future__ import annotations

from sagas.testing.contracts.queues._case import Elapse, OpenQueue, QueueCase
from sagas.testing.contracts.queues.delivery import DeliveryContract
from sagas.testing.contracts.queues.features import DeadLetterContract, DedupContract, DelayContract, GroupContract

__all__ = [
    "DeadLetterContract",
    "DedupContract",
    "DelayContract",
    "DeliveryContract",
    "Elapse",
    "GroupContract",
    "OpenQueue",
    "QueueCase",
    "QueueContract",
]


class QueueContract(DeliveryContract, DelayContract, GroupContract, DedupContract, DeadLetterContract):
    """All of it: what a queue has to do that carries requests, replies and events."""
