"""A RabbitMQ server: Debian's ``rabbitmq-server``, as a node of its own.

Erlang's port mapper (``epmd``) would stay behind, so we start one of our own, on a port of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.servers.process import Server, free_port

__all__ = ["RabbitServer", "need_rabbitmq"]

_BINARY = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def need_rabbitmq() -> None:
    """Leaves a test out where there is no RabbitMQ; in CI there has to be one, if ``.ci/run`` could install it."""
    if not _BINARY.exists() and (not os.environ.get("CI") or os.environ.get("SAGAS_NO_RABBITMQ")):
        pytest.skip(f"no RabbitMQ: {_BINARY} is missing (Debian's package rabbitmq-server)")


class RabbitServer(Server):
    """One node, for the user ``guest``."""

    def __init__(self) -> None:
        super().__init__()
        self.port, self._epmd_port, self._dist_port = free_port(), free_port(), free_port()
        self._epmd: subprocess.Popen[bytes] | None = None
        (self.directory / "rabbitmq.conf").write_text("loopback_users = none\nlog.console = true\nlog.file = false\n")
        (self.directory / "plugins").write_text("[].")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def command(self) -> tuple[list[str], dict[str, str]]:
        own = {
            "HOME": "", "RABBITMQ_MNESIA_BASE": "mnesia", "RABBITMQ_LOG_BASE": "logs",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "plugins", "RABBITMQ_CONFIG_FILE": "rabbitmq.conf",
            "RABBITMQ_GENERATED_CONFIG_DIR": "generated",
        }  # fmt: skip
        environment = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"sagas{self.port}@localhost", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false +S 1",
            **{name: str(self.directory / path) for name, path in own.items()},
        }  # fmt: skip
        return [str(_BINARY)], environment

    def start(self) -> None:
        if self._epmd is None:
            self._epmd = subprocess.Popen(
                [_epmd(), "-port", str(self._epmd_port), "-address", "127.0.0.1"], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        super().start()

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"AMQP\0\0\x09\x01")
            return bool(connection.recv(1))

    def close(self) -> None:
        super().close()
        if self._epmd is not None:
            with contextlib.suppress(ProcessLookupError):
                self._epmd.kill()
            self._epmd.wait()


def _epmd() -> str:
    found = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    assert found is not None, "RabbitMQ is there, and Erlang's epmd is not"
    return found
