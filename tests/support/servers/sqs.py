"""Something that speaks like Amazon SQS: ``moto_server``. What it holds is gone when it ends."""

from __future__ import annotations

import os
import socket
import sys

from tests.support.servers.process import Server, free_port

__all__ = ["SqsServer"]


class SqsServer(Server):
    """One of it, in a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"sqs://eu-central-1?endpoint={self.endpoint}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)], dict(os.environ)

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
