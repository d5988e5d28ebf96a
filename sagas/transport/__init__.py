"""How steps travel to participants in other processes: the ports, and what works within one process."""

from __future__ import annotations

from sagas.transport.local import LocalTransport
from sagas.transport.port import Kind, Outcome, StepReply, StepRequest, Transport

__all__ = ["Kind", "LocalTransport", "Outcome", "StepReply", "StepRequest", "Transport"]
