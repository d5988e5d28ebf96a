"""A server in a process of its own, which the tests may kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

__all__ = ["Server", "free_port"]

PATIENCE = 60.0


def free_port() -> int:
    """Gives a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """From entering it to leaving it; its directory and its ports stay the same over restarts."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"sagas-{type(self).__name__.lower()}-"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> tuple[list[str], dict[str, str]]:
        """Gives the command that starts it, and its environment."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """Asks whether it answers."""
        raise NotImplementedError

    def start(self) -> None:
        """Returns when it answers."""
        command, environment = self.command()
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"{command[0]} did not start: {self.log()[-3000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except OSError:
            return False

    def log(self) -> str:
        """Gives what it wrote."""
        return (self.directory / "log").read_text(errors="replace")

    def kill(self) -> None:
        """Ends it, and whatever it has started, with SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def close(self) -> None:
        """Ends it, and removes its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
