"""What may be an argument or a result: anything pydantic can serialize, as JSON text in UTF-8.

The records that hold these values are encoded by orjson, which embeds them as they are.
"""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, Union, cast

from pydantic import ConfigDict, TypeAdapter, WrapValidator
from pydantic.errors import PydanticUserError
from pydantic_core import ValidationError, from_json
from typing_extensions import TypedDict

from sagas.errors import DeclarationError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ArgumentsSchema", "ValueSchema", "check_size"]

T = TypeVar("T")

# JSON has neither bytes nor NaN; these say how the journal writes them.
_CONFIG = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="strings")
_LARGEST = 100_000_000
_DEEP = 20
_LONGEST_TYPE = 200


def _explain(error: ValidationError) -> str:
    """Puts pydantic's findings on one line."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc'][1:]) or 'value'}: {item['msg']}" for item in error.errors()
    )


def _validated(annotation: Any) -> Any:
    """Has SQLModel's table models validated, which by themselves take any JSON as it is: text stays text."""
    if isinstance(annotation, type) and getattr(annotation, "model_config", {}).get("table"):
        check = cast("Callable[[object], object]", getattr(annotation, "model_validate"))  # noqa: B009 - a model has it

        def validate(value: object, keep: Callable[[object], object]) -> object:
            return _either(value, check, keep)

        return Annotated[annotation, WrapValidator(validate)]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_validated, arguments))]  # noqa: UP007 - its arguments are computed
    if origin in (list, set, tuple, dict):
        return types.GenericAlias(origin, tuple(map(_validated, arguments)))
    return annotation


def _either(value: object, check: Callable[[object], object], keep: Callable[[object], object]) -> object:
    """Validates JSON, and leaves a model as it is."""
    return check(cast("object", value)) if isinstance(value, dict) else keep(value)


def check_size(payload: bytes) -> None:
    """Refuses what a database or a parser could not take back out of a record.

    Raises:
        ValueError: It is too large, or nested too deeply.
    """
    if len(payload) > _LARGEST:
        raise ValueError(f"{len(payload)} bytes are more than the {_LARGEST} that a journal takes; store a reference")
    if payload.count(b"[") + payload.count(b"{") > _DEEP:
        from_json(b"[" * _DEEP + payload + b"]" * _DEEP)  # a record wraps it a few times more


class ValueSchema(Generic[T]):
    """Encodes and decodes values of one annotation.

    Args:
        annotation: The type, as annotated.
        where: What the value is, for messages: ``"the result of step charge_card"``.

    Attributes:
        annotation: As given.

    Raises:
        DeclarationError: pydantic cannot serialize this type.
    """

    __slots__ = ("_dump", "_load", "annotation", "where")
    _misfits = "does not fit its type"

    def __init__(self, annotation: object, where: str) -> None:
        # Within a one-element tuple, because pydantic lets no configuration be given for a bare dataclass or
        # TypedDict, but hands the tuple's down to it.
        wrapped: Any = types.GenericAlias(tuple, (_validated(annotation),))
        try:
            adapter = TypeAdapter(wrapped, config=_CONFIG)
        except PydanticUserError as error:
            reason = str(error).split("\n", 1)[0]
            raise DeclarationError(
                f"{where} has the type {annotation!r}, which cannot be written to the journal: {reason} "
                "Use a type that pydantic can serialize (a dataclass, a model, Decimal, datetime, …)."
            ) from error
        self._dump = adapter.serializer.to_json
        self._load: Callable[[bytes], Any] = adapter.validator.validate_json
        self.annotation = annotation
        self.where = where

    @property
    def told(self) -> str:
        """The type, for people; empty if it is any."""
        if self.annotation is Any or self.annotation is object:
            return ""
        try:
            told = inspect.formatannotation(self.annotation)
        except Exception:  # what it is annotated with may be anybody's, and so may its `__repr__`
            return ""
        return told.encode("utf-8", "backslashreplace").decode()[:_LONGEST_TYPE]

    def encode(self, value: T) -> bytes:
        """Encodes a value as JSON, and makes sure that it can be decoded again.

        Decoding is also what finds values of another type than the annotation; pydantic's own check while encoding
        costs several times as much.

        Raises:
            PayloadError: The value is not of the annotated type, or holds something JSON cannot.
        """
        try:
            payload = self._dump((value,), warnings=False)
            self._load(payload)
            if len(payload) > _DEEP:  # as few are
                check_size(payload)
            return payload[1:-1]
        except ValidationError as error:
            raise PayloadError(f"{self.where} {self._misfits}: {_explain(error)}") from error
        except Exception as error:  # a user's own validator or serializer may raise anything
            reason = str(error).replace("\n", " ")
            raise PayloadError(f"{self.where} cannot be encoded: {reason}") from error

    def decode(self, payload: bytes) -> T:
        """Decodes what ``encode`` wrote.

        Raises:
            PayloadError: The JSON does not fit the annotation.
        """
        try:
            value: T = self._load(b"[" + payload + b"]")[0]
        except ValidationError as error:
            raise PayloadError(f"{self.where} {self._misfits}: {_explain(error)}") from error
        except Exception as error:  # a user's own validator may raise anything
            raise PayloadError(f"{self.where} cannot be decoded: {type(error).__name__}: {error}") from error
        return value

    def encodes(self, value: T, payload: bytes) -> bool:
        """Says whether a value is encoded as this, which was encoded before and so need not be tried again.

        Raises:
            PayloadError: As ``encode`` does.
        """
        try:
            if self._dump((value,), warnings=False) == b"[" + payload + b"]":
                return True
        except Exception:  # noqa: S110 - a user's own serializer may raise anything, and ``encode`` explains it
            pass
        return self.encode(value) == payload


class ArgumentsSchema(ValueSchema["Mapping[str, object]"]):
    """Encodes and decodes the arguments of a call, by name, as one JSON object.

    A journal may be older than a parameter. If that has a default, it is filled in.

    Args:
        annotations: Annotation by parameter name.
        where: Whose arguments, for messages: ``"the arguments of step charge_card"``.
        defaults: Of those parameters that have one.
    """

    __slots__ = ("_defaults",)
    _misfits = "do not fit their types"

    def __init__(
        self, annotations: Mapping[str, object], where: str, *, defaults: Mapping[str, object] | None = None
    ) -> None:
        self._defaults = dict(defaults or {})
        kinds = {name: self._kind(name, kind) for name, kind in annotations.items()}
        fields = TypedDict("Arguments", kinds)  # type: ignore[misc]  # known at run time only
        super().__init__(fields, where)

    def _kind(self, name: str, kind: Any) -> object:
        """Gives the annotation of a field."""
        return typing.NotRequired[kind] if name in self._defaults else kind

    def decode(self, payload: bytes) -> Mapping[str, object]:
        """See ``ValueSchema.decode``."""
        arguments = super().decode(payload)
        return {**self._defaults, **arguments} if self._defaults else arguments
