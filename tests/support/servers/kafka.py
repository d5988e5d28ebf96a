"""A Kafka cluster: the mock one inside ``confluent-kafka``, which speaks TCP. What it holds is gone when it ends."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from pathlib import Path

from tests.support.servers.process import Server

__all__ = ["KafkaServer"]

_PARTITIONS = 4


class KafkaServer(Server):
    """One of it, in a process of its own; each start has another address."""

    def command(self) -> tuple[list[str], dict[str, str]]:
        self._address.unlink(missing_ok=True)
        return [sys.executable, __file__, str(self._address)], dict(os.environ)

    @property
    def _address(self) -> Path:
        return self.directory / "address"

    @property
    def servers(self) -> str:
        """Its addresses."""
        return self._address.read_text()

    @property
    def url(self) -> str:
        return f"kafka://{self.servers}"

    def is_ready(self) -> bool:
        host, _, port = self.servers.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=1):
            return True


def _serve(address: Path) -> None:
    """Runs a cluster whose groups wait for no latecomers, which `test.mock.num.brokers` cannot be told."""
    import confluent_kafka

    libraries = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"
    (path,) = libraries.glob("librdkafka*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    trouble = ctypes.create_string_buffer(512)
    handle = library.rd_kafka_new(0, ctypes.c_void_p(library.rd_kafka_conf_new()), trouble, 512)
    assert handle, trouble.value
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(ctypes.c_void_p(handle), 1))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    note = address.with_suffix(".new")
    note.write_bytes(library.rd_kafka_mock_cluster_bootstraps(cluster))
    note.rename(address)
    threading.Event().wait()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
