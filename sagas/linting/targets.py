"""Finds the files that people name: by a module, a file or a directory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sagas.errors import SagaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.linting.project import Project

__all__ = ["NoSuchTarget", "Target", "find_targets"]

# Characters of what was asked for that are told.
_LONGEST = 100


class NoSuchTarget(SagaError):  # noqa: N818 - reads as one where it is raised
    """What is to be checked is not there."""


class Target(NamedTuple):
    """A file to check.

    Attributes:
        path: Where it is.
        name: What of it; ``""`` for all.
    """

    path: Path
    name: str = ""


def find_targets(places: Iterable[str], project: Project) -> list[Target]:
    """Finds files.

    Args:
        places: Each a file, a directory, or a module by its full name; a file or module with ``:NAME`` for one saga.
        project: Where modules are looked for.

    Raises:
        NoSuchTarget: There is none, or none that is Python.
    """
    found = [target for place in places for target in _find(place, project)]
    return list(dict.fromkeys(found))


def _find(place: str, project: Project) -> list[Target]:
    """Finds the files of one place.

    Raises:
        NoSuchTarget: There are none.
    """
    try:
        is_there = Path(place).exists()
    except (OSError, ValueError) as error:
        raise NoSuchTarget(f"{place[:_LONGEST]!r} can be no name of a file: {error.args[-1]}") from error
    if is_there:
        return _of_path(Path(place), "", project)
    where, colon, name = place.rpartition(":") if ":" in place else (place, "", "")
    if not where or (colon and not name.isidentifier()):
        raise NoSuchTarget(f"{place!r} names no code; write a file, a directory, MODULE or MODULE:NAME")
    if Path(where).is_file():
        return _of_path(Path(where), name, project)
    if os.sep in where or "/" in where or where.endswith(".py"):
        raise NoSuchTarget(f"there is no file {where}")
    return _of_module(where, name, project)


def _of_module(dotted: str, name: str, project: Project) -> list[Target]:
    """Finds the file of a module, or all files of a package.

    Raises:
        NoSuchTarget: There is none.
    """
    path = project.locate(dotted)
    if path is None:
        directories = [] if name else project.directories(dotted)
        if directories:
            return [target for directory in directories for target in _of_path(directory, "", project)]
        raise NoSuchTarget(f"there is no module {dotted}; it is looked for in {Path.cwd()} and on PYTHONPATH")
    if path.suffix != ".py":
        raise NoSuchTarget(f"the module {dotted} is no Python source: {path}")
    is_package = path.name == "__init__.py" and not name
    return _of_path(path.parent if is_package else path, name, project)


def _of_path(path: Path, name: str, project: Project) -> list[Target]:
    """Lists the files at a path.

    Raises:
        NoSuchTarget: It is a directory without any, or cannot be listed.
    """
    if not path.is_dir():
        return [Target(path.resolve(), name)]
    try:
        files = [Target(file.resolve()) for file in project.files_in(path)]
    except OSError as error:
        raise NoSuchTarget(f"{path} cannot be read: {error.strerror}") from error
    if not files:
        raise NoSuchTarget(f"there is no Python file in {path}")
    return files
