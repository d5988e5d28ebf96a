"""Finds code that is named on the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sagas.cli.problems import Problem
from sagas.core.definitions import Saga, Step
from sagas.core.registry import Registry
from sagas.stores import Codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import ModuleType

__all__ = ["find_codec", "find_object", "find_registry", "import_module"]


def import_module(place: str) -> ModuleType:
    """Imports a module, from the current directory too.

    Args:
        place: Its name, or its file.

    Raises:
        Problem: It is not there, or raises.
    """
    if not place.endswith(".py"):
        return _import_by_name(place)
    file = Path(place).resolve()
    module = _import_by_name(_name_of(file, place))
    if Path(module.__file__ or "").resolve() != file:
        raise Problem(f"{place} would be the module {module.__name__}, which is {module.__file__} already; rename it")
    return module


def _name_of(file: Path, place: str) -> str:
    """Names the module in a file, and has its folder looked through first, as when Python runs it.

    Raises:
        Problem: There is no such file.
    """
    if not file.is_file():
        raise Problem(f"there is no file {place}")
    folder, parts = file.parent, [] if file.stem == "__init__" else [file.stem]
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return ".".join(parts)


def _import_by_name(name: str) -> ModuleType:
    """Imports a module.

    Raises:
        Problem: It is not there, or raises.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Problem(f"there is no module {name}; it is looked for in {here} and on PYTHONPATH") from error
        raise Problem(f"the module {name} cannot be imported: {error}") from error
    except Exception as error:
        raise Problem(f"the module {name} cannot be imported: {type(error).__name__}: {error}") from error


def find_registry(places: Iterable[str]) -> Registry:
    """Puts code together.

    Args:
        places: Each ``module``, for all its sagas (or its steps, if it has none), or ``module:name``, for a saga, a
            step, or a collection of those.

    Raises:
        Problem: Something is not there, or holds no saga.
        DeclarationError: Two sagas or steps have the same name.
    """
    found = [value for place in places for value in _definitions(place)]
    steps = {id(value): value for value in found if isinstance(value, Step)}
    return Registry((value for value in found if isinstance(value, Saga)), steps.values())


def _definitions(place: str) -> Sequence[Saga[..., Any] | Step[..., Any]]:
    """Finds what is declared at a place.

    Raises:
        Problem: Nothing is.
    """
    module_name, colon, name = place.partition(":")
    if not module_name or (colon and not name):
        raise Problem(f"{place!r} names no code; write MODULE, or MODULE:NAME for a saga, a step, or a list of those")
    module = import_module(module_name)
    # A list in a module is taken only by its name: it may hold what another module declares.
    named = [_attribute(module, name)] if colon else [x for x in vars(module).values() if _is_declared(x)]
    declared = [found for value in named for found in _flat(value)]
    if not declared:
        raise Problem(f"there is no saga in {place}")
    sagas = [value for value in declared if isinstance(value, Saga)]
    return sagas if sagas and not colon else declared


def _is_declared(value: object) -> bool:
    """Says whether it is a saga or a step."""
    return isinstance(value, (Saga, Step))


def _flat(value: object) -> Iterator[Saga[..., Any] | Step[..., Any]]:
    """Gives a declaration, or those in a collection."""
    if isinstance(value, (Saga, Step)):
        yield cast("Saga[..., Any] | Step[..., Any]", value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in cast("Iterable[object]", value):
            yield from _flat(item)


def _attribute(module: ModuleType, name: str) -> object:
    """Gives what a module calls something.

    Raises:
        Problem: It calls nothing so.
    """
    if not hasattr(module, name):
        raise Problem(f"{name} does not exist in {module.__name__}")
    return getattr(module, name)


def find_object(place: str, option: str, home: str) -> Any:
    """Gives whatever is at a place.

    Args:
        place: ``module:name``, or only a name in the module of the saga.
        option: What asks for it, for the message.
        home: The module of the saga.

    Raises:
        Problem: There is nothing, or ``None``.
    """
    module_name, colon, name = place.rpartition(":")
    if not name or (colon and not module_name):
        raise Problem(f"{option} {place!r} names nothing; write MODULE:NAME, or NAME for what is in {home}")
    found = _attribute(import_module(module_name or home), name)
    if found is None:
        raise Problem(f"{option} {place} is None when {module_name or home} is imported; name a function that makes it")
    return found


def find_codec(place: str) -> Codec:
    """Gives a codec; one that is a class is made without arguments.

    Raises:
        Problem: There is none.
    """
    module_name, _, name = place.partition(":")
    if not (module_name and name):
        raise Problem(f"{place!r} names no codec; write MODULE:NAME")
    value: Any = _attribute(import_module(module_name), name)
    codec = value() if isinstance(value, type) else value
    if not isinstance(codec, Codec):
        raise Problem(f"{place} is no codec: it has no methods encode and decode")
    return codec
