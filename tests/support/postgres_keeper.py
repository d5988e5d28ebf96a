"""The process that keeps a PostgreSQL server, and ends it when nobody is left who uses it.

``python postgres_keeper.py SOCKET LISTENER UID GID DIRECTORY BINARIES [NAME=SETTING…]``

It is the parent of the postmaster. Whoever uses the server holds a connection to the keeper. The operating system
closes that one however its holder ends, by SIGKILL too, and with the last one everything goes: every process of the
server, and the directory. It imports nothing beyond the standard library, so it starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_LONGEST = 60.0  # seconds that a start, with its recovery, or a stop may take
_PR_SET_PDEATHSIG = 1
_IPC_RMID = 0


class Identity(NamedTuple):
    """Whom the server runs as; None is whom we run as."""

    user: int | None
    group: int | None
    extra_groups: tuple[int, ...] | None


class Failure(Exception):
    """The server did not do what it was asked to."""


class Postmaster:
    """The server's processes."""

    def __init__(self, directory: Path, binaries: Path, identity: Identity, settings: list[str]) -> None:
        self._data = directory / "data"
        self._log = directory / "log"
        self._binaries = binaries
        self._identity = identity
        self._options = [word for setting in settings for word in ("-c", setting)]
        self._process: subprocess.Popen[bytes] | None = None
        self._alive = -1  # reads the end of file when every process of the server is gone

    def initialize(self) -> None:
        """Makes an empty cluster."""
        command: list[str | Path] = [
            self._binaries / "initdb", "--pgdata", self._data, "--username=postgres", "--auth=trust",
            "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=self._data.parent, stdin=subprocess.DEVNULL, capture_output=True, check=False,
            user=self._identity.user, group=self._identity.group, extra_groups=self._identity.extra_groups,
        )  # fmt: skip
        if done.returncode != 0:
            raise Failure(f"initdb ended with {done.returncode}: {done.stderr.decode(errors='replace')}")

    def start(self) -> None:
        """Starts it, and returns when it takes connections."""
        if self._process is not None:
            raise Failure("the server runs already")
        self._alive, write = os.pipe()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *self._options],
                cwd=self._data.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[write],
                user=self._identity.user, group=self._identity.group, extra_groups=self._identity.extra_groups,
                preexec_fn=_die_with_the_keeper,  # noqa: PLW1509 - this process has one thread
            )  # fmt: skip
        os.close(write)
        self._wait_until_ready(self._process.pid)

    def _wait_until_ready(self, pid: int) -> None:
        # Asked again and again, since the postmaster tells it in a file only; `pg_ctl` does the same.
        for _ in range(int(_LONGEST / 0.01)):
            if select.select([self._alive], [], [], 0.01)[0]:
                break
            lines = self._lock_file()
            if len(lines) >= 8 and lines[0] == str(pid) and lines[7] == "ready":
                return
        self.end(signal.SIGKILL)
        raise Failure(f"the server did not start; its log ends with\n{self._log.read_text(errors='replace')[-4000:]}")

    def _lock_file(self) -> list[str]:
        try:
            return [line.strip() for line in (self._data / "postmaster.pid").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def end(self, number: signal.Signals) -> None:
        """Sends the postmaster a signal, and returns when no process of the server is left."""
        if self._process is None:
            return
        self._process.send_signal(number)
        if not select.select([self._alive], [], [], _LONGEST)[0]:
            raise Failure(f"processes of the server are still there {_LONGEST} s after signal {number.name}")
        os.close(self._alive)
        self._process.wait()
        self._process = None

    def dispose(self) -> None:
        """Ends it, for good."""
        try:
            self.end(signal.SIGQUIT)
        except Failure:
            self.end(signal.SIGKILL)
        lines = self._lock_file()
        if len(lines) >= 7:  # it was killed, and left the segment that only its successor would have removed
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), _IPC_RMID, None)


def _die_with_the_keeper() -> None:
    # Also if it is the keeper that is killed. Elsewhere than on Linux nothing like it is to be had.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


class Keeper:
    """Does what its clients ask for, as long as there are any."""

    def __init__(self, postmaster: Postmaster, first: socket.socket, listener: socket.socket | None) -> None:
        self._postmaster = postmaster
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._clients = {first}
        self._selector.register(first, selectors.EVENT_READ)
        if listener is not None:
            self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Returns when the last client has left."""
        while self._clients:
            for key, _ in self._selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready is self._listener:
                    self._admit(ready.accept()[0])
                else:
                    self._hear(ready)

    def _admit(self, client: socket.socket) -> None:
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ)
        self._answer(client)

    def _hear(self, client: socket.socket) -> None:
        try:
            orders = client.recv(4096).decode().split()
        except ConnectionError:
            orders = []
        for order in orders:
            self._obey(client, order)
        if not orders:
            self._selector.unregister(client)
            self._clients.remove(client)
            if self._clients:  # the last one waits for our end
                client.close()

    def _obey(self, client: socket.socket, order: str) -> None:
        try:
            if order == "start":
                self._postmaster.start()
            else:
                self._postmaster.end({"stop": signal.SIGINT, "kill": signal.SIGKILL}[order])
        except Failure as failure:
            self._answer(client, str(failure))
        else:
            self._answer(client)

    @staticmethod
    def _answer(client: socket.socket, trouble: str | None = None) -> None:
        # Who asks and leaves misses the answer.
        with contextlib.suppress(ConnectionError):
            client.sendall(json.dumps(trouble).encode() + b"\n")


def main() -> None:
    """Makes the server, starts it, keeps it, removes it."""
    first, listener, user, group = (int(word) for word in sys.argv[1:5])
    directory, binaries, settings = Path(sys.argv[5]), Path(sys.argv[6]), sys.argv[7:]
    identity = Identity(None, None, None) if user < 0 else Identity(user, group, ())
    client = socket.socket(fileno=first)
    postmaster = Postmaster(directory, binaries, identity, settings)
    try:
        postmaster.initialize()
        postmaster.start()
        client.sendall(b"null\n")
        Keeper(postmaster, client, socket.socket(fileno=listener) if listener >= 0 else None).run()
    except Failure as failure:
        client.sendall(json.dumps(str(failure)).encode() + b"\n")
    finally:
        postmaster.dispose()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    if os.fork():  # nobody has to wait for it
        os._exit(0)
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # meant for its clients; it ends with them
    main()
