"""How steps travel to participants in other processes: the ports, and what works within one process."""

from __future__ import annotations

from sagas.transport.memory_queue import MemoryQueue, QueueClock
from sagas.transport.opening import QueueFactory, open_queue, public_url
from sagas.transport.port import Beat, Kind, Outcome, Participant, StepReply, StepRequest, Transport
from sagas.transport.queue_transport import QueueTransport
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message, Queue

__all__ = [
    "Beat",
    "Capabilities",
    "DeadLetter",
    "Delivery",
    "Kind",
    "MemoryQueue",
    "Message",
    "Outcome",
    "Participant",
    "Queue",
    "QueueClock",
    "QueueFactory",
    "QueueTransport",
    "StepReply",
    "StepRequest",
    "Transport",
    "open_queue",
    "public_url",
]
