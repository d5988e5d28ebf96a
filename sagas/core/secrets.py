"""What of a payload is never shown to people: by a mark on its type, or by its name."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Annotated, Any, cast

from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sagas.core.definitions import Saga, Step

__all__ = ["HIDDEN", "Mask", "Secret", "secret_names"]

HIDDEN = "***"
_RESULT = "result"


@dataclass(frozen=True, slots=True)
class Secret:
    """Marks what people who look at sagas are not to see: ``card_number: Annotated[str, Secret()]``.

    On a parameter of a saga or step, on its result, or on a field of what they take and give. It is hidden by its
    name in views, pages and drawings. In the journal it stands as it is: encrypt that with a codec.
    """


class Mask:
    """Hides what is secret.

    Args:
        names: Of keys in payloads, or patterns for them (``"*_token"``); or ``NAME.result`` for all that a step or
            saga of that name gives.

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
        if self._hides is not None and value is not None and self._hides(f"{name}.{_RESULT}"):
            return HIDDEN
        return self.value(value)


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
    return found


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
        aliases = [getattr(models.get(name), kind_of, None) for kind_of in ("serialization_alias", "alias")]
        for known in {name, *(alias for alias in aliases if isinstance(alias, str))}:
            yield known, hint


def _hints(kind: type) -> dict[str, Any]:
    """Reads the annotations of a class."""
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Defined within a function, say. What is marked can be read off the text, and rather too much is hidden.
        texts: dict[str, object] = {}
        for base in reversed(kind.__mro__):
            texts |= vars(base).get("__annotations__", {})
        return {name: Annotated[object, Secret()] for name, text in texts.items() if "Secret" in str(text)}
