"""Reads the signature of a decorated function: which parameters it has, and of which types."""

from __future__ import annotations

import inspect
import sys
import typing
from typing import TYPE_CHECKING

from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Parameters", "caller_scope"]

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MISSING = inspect.Parameter.empty


class Parameters:
    """The parameters of a function, bound by name.

    Args:
        function: What was decorated.
        where: What it is, for messages: ``"step charge_card"``.
        skip: How many leading parameters the caller does not pass.
        scope: Names of the place of declaration, for annotations that only it can resolve.

    Raises:
        DeclarationError: A parameter cannot be bound by name.
    """

    __slots__ = ("_function", "_hints", "_in_order", "_signature", "defaults", "names", "skipped", "where")

    def __init__(
        self,
        function: Callable[..., object],
        where: str,
        *,
        skip: int = 0,
        scope: Mapping[str, object] | None = None,
    ) -> None:
        signature = inspect.signature(function)
        every = list(signature.parameters.values())
        for parameter in every:
            if parameter.kind not in _BY_NAME:
                raise DeclarationError(
                    f"{where}: the parameter {parameter} cannot be bound by name, and the journal keeps arguments "
                    "by name. Give it a name of its own (no *args, **kwargs or positional-only parameters)."
                )
        kept = every[skip:]
        self._function = function
        self._signature = signature.replace(parameters=kept)
        # How many arguments are just those that the names stand for; -1 if some are passed by name only.
        self._in_order = len(kept) if all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in kept) else -1
        self._hints = _resolve(function, scope)
        self.where = where
        self.names = tuple(p.name for p in kept)
        self.skipped = tuple(p.name for p in every[:skip])
        self.defaults = {p.name: p.default for p in kept if p.default is not _MISSING}

    @property
    def resolved(self) -> bool:
        """Whether all annotations are known by now."""
        return self._hints is not None

    def hints(self) -> Mapping[str, object]:
        """Gives the resolved annotations, ``return`` among them.

        Raises:
            DeclarationError: An annotation names something that does not exist.
        """
        if self._hints is None:
            self._hints = _resolve(self._function, None)
        if self._hints is None:
            raise DeclarationError(
                f"{self.where}: its annotations name something that cannot be found from its module. "
                "Import it at module level (not under `if TYPE_CHECKING:`), since the journal needs the type."
            )
        return self._hints

    def annotations(self) -> dict[str, object]:
        """Gives the annotation of each parameter; ``Any`` where there is none."""
        hints = self.hints()
        return {name: hints.get(name, typing.Any) for name in self.names}

    def returns(self) -> object:
        """Gives the annotation of the result; ``Any`` where there is none."""
        return self.hints().get("return", typing.Any)

    def bind(self, args: tuple[object, ...], kwargs: dict[str, object]) -> dict[str, object]:
        """Binds the arguments of a call to names, with defaults filled in.

        Raises:
            TypeError: They do not fit the signature.
        """
        if not kwargs and len(args) == self._in_order:
            return dict(zip(self.names, args))  # noqa: B905 - their number was compared
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.where}: {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)


def _resolve(function: Callable[..., object], scope: Mapping[str, object] | None) -> dict[str, object] | None:
    """Resolves the annotations of a function, or gives ``None`` if that is not possible yet."""
    try:
        return typing.get_type_hints(function, localns=dict(scope) if scope else None, include_extras=True)
    except NameError:
        return None
    except TypeError as error:
        raise DeclarationError(f"{function!r}: {error}") from error


def caller_scope(depth: int) -> Mapping[str, object] | None:
    """Gives the local names of a calling frame, or ``None`` at module level (there globals do)."""
    frame = sys._getframe(depth + 1)  # noqa: SLF001 - the only way to see local classes that annotations name
    return None if frame.f_locals is frame.f_globals else dict(frame.f_locals)
