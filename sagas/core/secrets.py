"""What of a payload is never shown to people: by a mark on its type, or by its name."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from fnmatch import translate
from glob import escape
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, cast

from sagas.core.definitions import Saga
from sagas.core.registry import codes, mentioned
from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sagas.core.definitions import Step

__all__ = ["HIDDEN", "Mask", "Secret", "secret_names"]

HIDDEN = "***"
_RESULT, _PAYLOAD = "result", "payload"
# Where what may be written in an annotation comes from, besides classes.
_TYPING = ("types", "typing", "typing_extensions")


@dataclass(frozen=True, slots=True)
class Secret:
    """Marks what people who look at sagas are not to see: ``card_number: Annotated[str, Secret()]``.

    On a parameter of a saga or step, on its result, or on a field of what they take and give; and in the types that a
    body mentions, such as those of its signals. It is hidden by its name in views, pages and drawings. In the journal
    it stands as it is: encrypt that with a codec.
    """


class Mask:
    """Hides what is secret.

    Args:
        names: Of keys in payloads, or patterns for them (``"*_token"``); or ``NAME.result`` for all that a step or
            saga of that name gives, and ``NAME.payload`` for all that a signal of that name carries.

    Raises:
        DeclarationError: A text is given in place of names.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        if isinstance(names, str):
            raise DeclarationError(f"secret_fields={names!r} is one text; give a list of names, as in [{names!r}]")
        self.names = frozenset(names)
        pattern = "|".join(translate(name) for name in sorted(self.names))
        self._hides = re.compile(pattern).fullmatch if pattern else None

    def __bool__(self) -> bool:
        return self._hides is not None

    def with_names(self, names: Iterable[str]) -> Mask:
        """Gives one that hides more."""
        return Mask(self.names.union(names))

    def value(self, value: object) -> object:
        """Hides what is secret in a value of JSON's types; it is not changed itself."""
        if self._hides is None:
            return value
        if isinstance(value, dict):
            pairs = cast("dict[str, object]", value).items()
            return {key: HIDDEN if self._hides(key) else self.value(item) for key, item in pairs}
        if isinstance(value, list):
            return [self.value(item) for item in cast("list[object]", value)]
        return value

    def result(self, name: str, value: object) -> object:
        """The same for what a step or saga of that name gives."""
        return self._whole(f"{name}.{_RESULT}", value)

    def payload(self, name: str, value: object) -> object:
        """The same for what a signal of that name carries."""
        return self._whole(f"{name}.{_PAYLOAD}", value)

    def _whole(self, name: str, value: object) -> object:
        """Hides a value by the name of all of it, or what is secret in it."""
        hidden = self._hides is not None and value is not None and self._hides(name)
        return HIDDEN if hidden else self.value(value)


def secret_names(definitions: Iterable[Saga[..., Any] | Step[..., Any]]) -> set[str]:
    """Lists the names by which a mask hides what is marked in the types of sagas and steps."""
    found: set[str] = set()
    for definition in definitions:
        hints: dict[str, Any] = dict(definition.parameters.hints())
        result = hints.pop("return", None)
        for name, hint in hints.items():
            found.update(_names(name, hint, set()))
        found.update(
            f"{definition.name}.{_RESULT}" if name == _RESULT else name for name in _names(_RESULT, result, set())
        )
        if isinstance(definition, Saga):
            found.update(_in_body(definition.function))
    return found


def _in_body(body: Any) -> set[str]:
    """Lists the names of what is marked in the types that a body mentions, and those that it calls in its package.

    Which signal has which type only shows when the body runs. So if one of the types is marked as a whole, all that
    is mentioned by a text counts as such a signal: rather too much is hidden.
    """
    names, texts, seen, functions = set[str](), set[str](), set[Any](), [body]
    while functions:
        function = functions.pop()
        seen.add(function)
        for value in _reached(function):
            if isinstance(value, FunctionType) and value not in seen and _package(value) == _package(body):
                functions.append(value)
            elif isinstance(value, str):
                texts.add(value)
            elif isinstance(value, type) or type(value).__module__ in _TYPING:
                names.update([""] if value is Secret else _names("", value, set()))
    return names - {""} | {f"{escape(text)}.{_PAYLOAD}" for text in texts if "" in names}


def _reached(function: Any) -> Iterator[Any]:
    """Gives the constants of a function, and what it mentions, also as ``module.name``; of sagas, the body."""
    for code in codes(function.__code__):
        yield from code.co_consts
    names = {name for code in codes(function.__code__) for name in code.co_names}
    for value in mentioned(function):
        yield cast("Saga[..., Any]", value).function if isinstance(value, Saga) else value
        if isinstance(value, ModuleType):
            yield from (vars(value)[name] for name in names & vars(value).keys())


def _package(function: FunctionType) -> str:
    """Gives the package at the root of where a function is defined."""
    return function.__module__.partition(".")[0]


def _names(name: str, hint: Any, seen: set[Any]) -> Iterator[str]:
    """Lists the name of a field, if it is marked, and those of the fields within it that are."""
    for part in typing.get_args(hint) if hasattr(hint, "__value__") else ():
        yield from _names(name, part, seen)  # what a generic alias is made for
    hint = getattr(hint, "__value__", hint)  # of `type Pin = …`
    if any(isinstance(mark, Secret) or mark is Secret for mark in getattr(hint, "__metadata__", ())):
        yield name
    for part in typing.get_args(hint):
        yield from _names(name, part, seen)
    kind = typing.get_origin(hint) or getattr(hint, "__supertype__", hint)
    if isinstance(kind, type) and kind not in seen:
        seen.add(kind)
        is_root = getattr(kind, "__pydantic_root_model__", False)
        for field, inner in _fields(kind):
            yield from _names(name if is_root else field, inner, seen)


def _fields(kind: type) -> Iterator[tuple[str, Any]]:
    """Lists the fields of a dataclass, model, named tuple or typed dictionary, by all names they may be written by."""
    if kind.__module__ == "builtins":
        return
    models: dict[str, Any] = getattr(kind, "model_fields", None) or getattr(kind, "__pydantic_fields__", {})
    found = list(_hints(kind).items())
    for name, field in models.items():  # as pydantic has found them, also where names are only known locally
        found.append((name, Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation))
    for name, hint in found:
        for known in {name, *_aliases(models.get(name))}:
            yield known, hint
    decorators = getattr(kind, "__pydantic_decorators__", None)
    for name, computed in getattr(decorators, "computed_fields", {}).items():
        for known in {name, *_aliases(computed.info)}:
            yield known, computed.info.return_type


def _aliases(field: Any) -> Iterator[str]:
    """Lists the other names that a field of a model is written or read by."""
    for kind in ("serialization_alias", "alias", "validation_alias"):
        alias = getattr(field, kind, None)
        for one in getattr(alias, "choices", [alias]):
            yield from (name for name in getattr(one, "path", [one]) if isinstance(name, str))


def _hints(kind: type) -> dict[str, Any]:
    """Reads the annotations of a class."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception:
        # Defined within a function, say; an annotation may be any expression. What is marked can be read
        # off the text, and rather too much is hidden.
        texts: dict[str, object] = {}
        for base in reversed(kind.__mro__):
            texts |= vars(base).get("__annotations__", {})
        return {name: Annotated[object, Secret()] for name, text in texts.items() if "Secret" in str(text)}
