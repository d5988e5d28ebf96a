"""Exceptions as data: how the journal keeps them, and how they are raised again."""

from __future__ import annotations

import inspect
import traceback
import typing
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

import orjson
from pydantic_core import to_json

from sagas.core.events import ErrorInfo
from sagas.core.schema import ValueSchema
from sagas.errors import DeclarationError, PayloadError, Rejected, SagaError, StepFailed, StepInDoubt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "describe",
    "describe_rejection",
    "is_rejection",
    "one_line",
    "revive",
    "type_name",
    "with_tracebacks",
    "writable",
]

_TRACEBACK_LIMIT = 8
_TEXT_LIMIT = 4000
# Writing a traceback costs more than all else about an attempt, so a simulation of thousands of sagas goes without.
with_tracebacks: ContextVar[bool] = ContextVar("sagas_with_tracebacks", default=True)


def type_name(kind: type[BaseException]) -> str:
    """Names an exception type so that it can be found again: ``module:qualname``."""
    return f"{kind.__module__}:{kind.__qualname__}"


def _text(error: BaseException) -> str:
    """Gives an exception's text, however its author wrote ``__str__``."""
    try:
        return writable(str(error)[:_TEXT_LIMIT])
    except Exception as broken:
        return f"<its __str__ raised {type(broken).__name__}>"


def writable(text: str) -> str:
    """Escapes what UTF-8 cannot write, such as the odd bytes in the name of a file that was not found."""
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(error: BaseException | ErrorInfo) -> str:
    """Writes an exception on one line, for timelines."""
    kind = error.type.rpartition(":")[2] if isinstance(error, ErrorInfo) else type(error).__qualname__
    text = error.message if isinstance(error, ErrorInfo) else _text(error)
    first = text.strip().split("\n", 1)[0]
    return f"{kind}: {first}" if first else kind


def describe(error: BaseException) -> ErrorInfo:
    """Turns an exception into data."""
    if not with_tracebacks.get():
        return ErrorInfo(type_name(type(error)), _text(error))
    try:
        lines = traceback.format_exception(error, limit=-_TRACEBACK_LIMIT)
    except Exception as broken:
        lines = [f"<its traceback cannot be written: {type(broken).__name__}>"]
    return ErrorInfo(type_name(type(error)), _text(error), None, writable("".join(lines)[-_TEXT_LIMIT:]))


def describe_rejection(error: BaseException) -> ErrorInfo:
    """Turns a declared rejection into data, with its arguments and attributes."""
    try:
        fields = _fields(error.args, vars(error))
    except Exception:
        fields = b'{"args":[],"attributes":{}}'  # its own properties raise, so its type and text have to do
    return ErrorInfo(type_name(type(error)), _text(error), fields)


def _fields(args: tuple[object, ...], attributes: dict[str, object]) -> bytes:
    """Writes an exception's arguments and attributes; what JSON cannot hold becomes its ``repr``."""
    try:
        fields = {"args": args, "attributes": attributes}
        return to_json(fields, bytes_mode="base64", inf_nan_mode="strings", fallback=repr)
    except Exception:
        named = {writable(name): _shown(value) for name, value in attributes.items()}
        return orjson.dumps({"args": [_shown(value) for value in args], "attributes": named})


def _shown(value: object) -> str:
    """Shows a value as text, whatever it is."""
    try:
        return writable(value if isinstance(value, str) else repr(value))
    except Exception as broken:
        return f"<its __repr__ raised {type(broken).__name__}>"


def revive(info: ErrorInfo, declared: Iterable[type[BaseException]], *, step: str, path: str, doubt: bool) -> Exception:
    """Makes the exception that a saga body sees, the same one live and on replay.

    Args:
        info: What the journal holds.
        declared: Types that the step may raise to the body; subclasses are found too.
        step: Name of the step.
        path: Its place.
        doubt: Whether it may have acted.

    Returns:
        The declared exception with its arguments and attributes; else ``StepFailed`` or ``StepInDoubt``.
    """
    if info.fields is not None:
        # The youngest of that name: a module that was reloaded, or a class in a function, leaves older ones behind.
        found = [kind for kind in _family(declared) if type_name(kind) == info.type]
        if not found:
            # A script's own classes are `__main__`'s there, and its module's where it is imported.
            name = info.type.rpartition(":")[2]
            found = [kind for kind in _family(declared) if kind.__qualname__ == name]
        if found:
            with suppress(Exception):  # a class that cannot be made without its constructor is only told about
                return _rebuild(found[-1], info.fields)
    failure = (StepInDoubt if doubt else StepFailed)(step, path, info.type, info.message)
    if info.traceback:
        failure.add_note(f"raised in the step:\n{info.traceback}")
    return failure


def _family(kinds: Iterable[type[BaseException]]) -> Iterator[type[Exception]]:
    """Walks types and all their subclasses."""
    for kind in kinds:
        if issubclass(kind, Exception):
            yield kind
        yield from _family(kind.__subclasses__())


@cache
def _hints(kind: type[Exception]) -> tuple[dict[str, object], tuple[object, ...]]:
    """Collects the annotations of an exception's attributes and of its constructor's positional parameters."""
    by_name: dict[str, object] = {}
    positional: list[object] = []
    try:
        constructor = typing.get_type_hints(kind.__init__)
        for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
            hint = constructor.get(parameter.name, typing.Any)
            by_name[parameter.name] = hint
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                positional.append(hint)
        by_name |= typing.get_type_hints(kind)
    except (NameError, TypeError, ValueError):
        pass  # what cannot be resolved comes back as JSON's own types
    return by_name, tuple(positional)


def _typed(value: object, hint: object) -> object:
    """Gives a JSON value the annotated type, if it has that form."""
    if hint is typing.Any or value is None:
        return value
    try:
        return ValueSchema[object](hint, "an attribute").decode(orjson.dumps(value))
    except (PayloadError, DeclarationError, TypeError):
        return value  # a constructor that passes other arguments to its base class than it takes


def _rebuild(kind: type[Exception], fields: bytes) -> Exception:
    """Makes an exception without calling its constructor, whose parameters the journal does not know."""
    data = orjson.loads(fields)
    by_name, positional = _hints(kind)  # type: ignore[arg-type]  # mypy takes the class for an instance
    padded = (*positional, *(typing.Any for _ in data["args"]))
    error = kind.__new__(kind)
    # Past a `__setattr__` of its own: a frozen dataclass refuses every assignment.
    put = object.__setattr__
    put(error, "args", tuple(_typed(value, hint) for value, hint in zip(data["args"], padded, strict=False)))
    for name, value in data["attributes"].items():
        put(error, name, _typed(value, by_name.get(name, typing.Any)))
    return error


def is_rejection(error: BaseException, declared: tuple[type[Exception], ...]) -> bool:
    """Says whether an exception means: definitely nothing happened."""
    return isinstance(error, (Rejected, *declared)) and not (
        isinstance(error, SagaError) and not isinstance(error, Rejected)
    )
