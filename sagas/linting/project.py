"""Finds files: those that are to be checked, and those that they import. Nothing is imported."""

from __future__ import annotations

import sys
import sysconfig
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sagas.linting.binding import read_module
from sagas.linting.source import Unreadable, read_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sagas.linting.scopes import Module

__all__ = ["Project"]

# The file of a module, and the directories in which its parts are. A namespace package has no file.
_Found: TypeAlias = tuple[Path | None, list[str]]

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


def _foreign_roots() -> tuple[Path, ...]:
    """Lists where code lies that belongs to others: the standard library, and what is installed."""
    paths = sysconfig.get_paths()
    return tuple({Path(paths[key]).resolve() for key in ("stdlib", "platstdlib", "purelib", "platlib")})


class Project:
    """Files and their modules, each read once.

    Args:
        roots: Where modules are looked for, in order; the current directory and ``sys.path`` by default.
    """

    def __init__(self, roots: Sequence[Path] | None = None) -> None:
        here = Path.cwd()
        paths = [Path(entry) for entry in sys.path if entry]
        self._here = here
        self._roots = list(roots) if roots is not None else [here, here / "src", *paths]
        self._foreign = _foreign_roots()
        self._modules: dict[Path, Module | None] = {}
        self._found: dict[str, _Found] = {}
        self.read: list[Module] = []

    def load(self, path: Path) -> Module:
        """Reads a file.

        Raises:
            Unreadable: It is no Python.
            OSError: It cannot be read.
        """
        path = path.resolve()
        known = self._modules.get(path)
        if known is not None:
            return known
        root, package = _package(path)
        if root not in self._roots:
            self._roots.append(root)
            self._found.clear()
        module = read_module(read_source(path, self._shown(path)), package)
        self._modules[path] = module
        self.read.append(module)
        return module

    def _shown(self, path: Path) -> str:
        """Names a file as people would from here."""
        try:
            return path.relative_to(self._here.resolve()).as_posix()
        except ValueError:
            return path.as_posix()

    def module(self, dotted: str) -> Module | None:
        """Gives a module of the project by its full name; none of others, and none that cannot be read."""
        path = self.locate(dotted)
        if path is None or path.suffix != ".py" or self._is_foreign(path):
            return None
        try:
            return self.load(path)
        except (OSError, Unreadable):
            return None

    def _is_foreign(self, path: Path) -> bool:
        """Says whether a file belongs to others."""
        parts = path.parts
        if "site-packages" in parts or "dist-packages" in parts:
            return True
        # The nearest wins: a project below a directory of the standard library's would be odd, but is its own.
        return any(path.is_relative_to(root) for root in self._foreign)

    def locate(self, dotted: str) -> Path | None:
        """Gives the file of a module by its full name, as an import would find it, without importing anything."""
        return self._locate(dotted)[0]

    def directories(self, dotted: str) -> list[Path]:
        """Gives the directories of a package that has no file of its own."""
        path, where = self._locate(dotted)
        return [Path(directory) for directory in where] if path is None else []

    def _locate(self, dotted: str) -> _Found:
        """Goes down from package to package."""
        if dotted not in self._found:
            parent, _, _ = dotted.rpartition(".")
            where = self._locate(parent)[1] if parent else [str(root) for root in self._roots]
            self._found[dotted] = _find(dotted, where)
        return self._found[dotted]

    def files_in(self, directory: Path) -> Iterator[Path]:
        """Lists the Python files below a directory, without environments and hidden directories."""
        for path in sorted(directory.iterdir()):
            if path.is_dir() and not path.is_symlink():
                if not (path.name.startswith(".") or path.name in _SKIPPED or (path / "pyvenv.cfg").exists()):
                    yield from self.files_in(path)
            elif path.suffix == ".py" and path.is_file():
                yield path


def _find(dotted: str, where: list[str]) -> _Found:
    """Finds one part of a name below the directories that the part before it has."""
    try:
        spec = PathFinder.find_spec(dotted, where) if where else None
    except (ImportError, KeyError, ValueError, AttributeError, OSError):  # KeyError: a namespace in another one
        spec = None
    if spec is not None and spec.has_location and spec.origin is not None:
        return Path(spec.origin).resolve(), list(spec.submodule_search_locations or [])
    # What Python says of a namespace package holds only for those that are imported.
    directories = [Path(root) / dotted.rpartition(".")[2] for root in where]
    return None, [str(directory) for directory in directories if directory.is_dir()]


def _package(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Gives the directory from which a file is imported, and the full name of the package that it is in."""
    names: list[str] = []
    directory = path.parent
    while (directory / "__init__.py").is_file() and directory.parent != directory:
        names.insert(0, directory.name)
        directory = directory.parent
    return directory, tuple(names)
