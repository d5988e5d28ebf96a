"""Calls of one version of a saga, as another version reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic_core import from_json

from sagas.core.operations import SagaCall
from sagas.errors import PayloadError

if TYPE_CHECKING:
    from sagas.core.definitions import Saga

__all__ = ["recast", "same_input"]

_Json: TypeAlias = "dict[str, _Json] | list[_Json] | str | float | bool | None"
_MISSING = object()


def recast(call: SagaCall[Any], saga: Saga[..., Any]) -> SagaCall[Any]:
    """Makes a call of another version: what was passed is read by its types, the rest takes its defaults.

    Raises:
        PayloadError: It wants more, or something else, or has no place for something that was passed.
    """
    if saga is call.saga:
        return call
    defaults = call.saga.parameters.defaults
    passed = {name: value for name, value in call.arguments.items() if value is not defaults.get(name, _MISSING)}
    written = call.saga.arguments_schema.encode(passed)
    arguments = saga.arguments_schema.decode(written)
    lost = _lost(from_json(written), from_json(saga.arguments_schema.encode(arguments)))
    if lost:
        raise PayloadError(f"it has no place for {lost}")
    return SagaCall(saga, {name: arguments[name] for name in saga.parameters.names})


def same_input(call: SagaCall[Any], recorded: bytes) -> bool:
    """Says whether a call means what was recorded, perhaps before its types had all that they have now.

    Raises:
        PayloadError: One of both cannot be written by the types of the call.
    """
    schema = call.saga.arguments_schema
    then = schema.decode(recorded)
    now = schema.encode({name: then[name] for name in call.arguments})
    return now == schema.encode(call.arguments) and not _lost(from_json(recorded), from_json(now))


def _lost(before: _Json, after: _Json) -> str:
    """Names the first field of some JSON that other JSON lacks; ``""`` if there is none."""
    if isinstance(before, dict) and isinstance(after, dict):
        return next(filter(None, (_lost_field(key, value, after) for key, value in before.items())), "")
    if isinstance(before, list) and isinstance(after, list):
        return next(filter(None, (_lost(*pair) for pair in zip(before, after, strict=False))), "")
    return ""


def _lost_field(key: str, value: _Json, after: dict[str, _Json]) -> str:
    """Names a field, or the first one in it, that other JSON lacks."""
    if key not in after:
        return key
    below = _lost(value, after[key])
    return f"{key}.{below}" if below else ""
