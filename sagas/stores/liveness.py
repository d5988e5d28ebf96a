"""Tells at once whether a process on this machine is alive: by a file that it keeps locked.

The operating system drops the lock when the process dies, however it dies. So a restarted service need not wait
for the old lease to run out. Where files cannot be locked, leases alone decide.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

__all__ = ["LifeLine", "holder_is_dead"]


class LifeLine:
    """A locked file that says: this process is alive.

    Args:
        path: Where; removed when the line is let go.
    """

    __slots__ = ("_file", "_path")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        if sys.platform != "win32":
            # Locked before it goes by its name, so that nobody can find it unlocked while its holder lives.
            unnamed = path.with_name(f".{path.name}")
            self._file = unnamed.open("wb")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(path)

    def let_go(self) -> None:
        """Removes the file and its lock."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self.drop()

    def drop(self) -> None:
        """Drops the lock alone, as dying would: others see at once that nobody is behind the lease any more."""
        if self._file is not None:
            self._file.close()
            self._file = None


def holder_is_dead(path: Path) -> bool:
    """Says whether the process that locked a file is dead for sure.

    A file that is missing or cannot be read proves nothing: the database may have been copied from elsewhere.
    """
    if sys.platform == "win32":
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
