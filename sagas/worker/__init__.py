"""The participant's side: serves steps, behind a barrier with memory."""

from __future__ import annotations

from sagas.worker.local import LocalTransport
from sagas.worker.worker import Worker

__all__ = ["LocalTransport", "Worker"]
