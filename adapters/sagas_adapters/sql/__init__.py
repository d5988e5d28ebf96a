"""Queues in the application's own database, SQLite or PostgreSQL: durable, and with no broker to run."""

from __future__ import annotations

from sagas_adapters.sql.queue import SqlQueue, open_queue

__all__ = ["SqlQueue", "open_queue"]
