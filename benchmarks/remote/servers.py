"""The brokers that are measured, each a process of its own that writes to the disk before it confirms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

__all__ = ["QUICK", "WAYS", "missing", "server"]

QUICK = ("http", "sql")
WAYS = (*QUICK, "nats", "redis", "rabbitmq", "kafka", "sqs")

_NEEDED = {
    "http": ("uvicorn", "httpx2"), "sql": (), "nats": ("nats",), "redis": ("redis",), "rabbitmq": ("aio_pika",),
    "kafka": ("aiokafka", "confluent_kafka"), "sqs": ("boto3", "moto"),
}  # fmt: skip
_SERVERS = {
    "nats": "NatsServer", "redis": "RedisServer", "rabbitmq": "RabbitServer", "kafka": "KafkaServer",
    "sqs": "SqsServer",
}  # fmt: skip
_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def missing(way: str) -> str | None:
    """Says what keeps a way from being measured here; ``None`` if nothing does."""
    for module in (f"sagas_adapters.{way}", *_NEEDED[way]):
        if find_spec(module) is None:
            return f"{module} is not installed"
    return f"{_RABBITMQ} is missing" if way == "rabbitmq" and not _RABBITMQ.exists() else None


@contextmanager
def server(way: str) -> Iterator[str]:
    """Starts the broker of a way, if it has one; gives its URL."""
    if way not in _SERVERS:
        yield ""
    else:
        module = import_module(f"tests.support.servers.{way}")
        if way == "sqs":  # which asks for some, whatever they are
            for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                os.environ.setdefault(name, "none")
        with getattr(module, _SERVERS[way])() as started:
            yield started.url
