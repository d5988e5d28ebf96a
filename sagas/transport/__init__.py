"""How steps travel to participants in other processes: the ports, and what works within one process."""

from __future__ import annotations

from sagas.transport.local import LocalTransport
from sagas.transport.memory_queue import MemoryQueue, QueueClock
from sagas.transport.port import Kind, Outcome, StepReply, StepRequest, Transport
from sagas.transport.queues import Capabilities, DeadLetter, Delivery, Message, Queue

__all__ = [
    "Capabilities",
    "DeadLetter",
    "Delivery",
    "Kind",
    "LocalTransport",
    "MemoryQueue",
    "Message",
    "Outcome",
    "Queue",
    "QueueClock",
    "StepReply",
    "StepRequest",
    "Transport",
]
