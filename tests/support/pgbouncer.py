"""A pgbouncer between the tests and their PostgreSQL, if the machine has one (Debian: ``apt-get install pgbouncer``).

It works by the transaction, and hands each one to another of its connections than the last, so that whatever is left
behind on a connection meets somebody else.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, make_url

__all__ = ["BINARY", "pooled"]

BINARY = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_PORT = 6432
_LONGEST = 10.0
_CONFIGURATION = """
[databases]
* = {server}
[pgbouncer]
listen_addr =
unix_socket_dir = {directory}
listen_port = {port}
auth_type = any
pool_mode = transaction
server_round_robin = 1
default_pool_size = 8
max_client_conn = 200
"""


@contextmanager
def pooled(url: str) -> Generator[str]:
    """Starts a pooler before a database, and gives its URL for that database."""
    directory = Path(tempfile.mkdtemp(prefix="sagas-pgbouncer-"))
    target = make_url(url)
    configuration = directory / "pgbouncer.ini"
    configuration.write_text(_CONFIGURATION.format(server=_server(target), directory=directory, port=_PORT))
    process = _start(directory, configuration)
    try:
        _wait(directory / f".s.PGSQL.{_PORT}", process, directory / "log")
        through = target.set(host=None, port=None, query={}).update_query_dict(
            {"host": str(directory), "port": str(_PORT)}
        )
        yield through.render_as_string(hide_password=False)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def _server(url: URL) -> str:
    """Says where the server is, as pgbouncer wants it."""
    host = url.host or url.query.get("host")
    found = {"host": host, "port": url.port or 5432, "user": url.username, "password": url.password}
    return " ".join(f"{name}={value}" for name, value in found.items() if value)


def _start(directory: Path, configuration: Path) -> subprocess.Popen[bytes]:
    """Starts it, as somebody else than root if need be, who may reach the server."""
    assert BINARY is not None, "whoever asks has looked"
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    if user is not None:
        for path in (directory, configuration):
            os.chown(path, user.pw_uid, user.pw_gid)
    with (directory / "log").open("wb") as log:
        return subprocess.Popen(
            [BINARY, str(configuration)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory,
            user=None if user is None else user.pw_uid, group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )  # fmt: skip


def _wait(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until it takes connections."""
    end = time.monotonic() + _LONGEST
    while True:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(path))
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.02)
            else:
                return
