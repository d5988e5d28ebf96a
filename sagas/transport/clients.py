"""What adapters need before they connect: the client library, and what a URL says."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from sagas.errors import TransportError
from sagas.transport.opening import public_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

__all__ = ["UrlSettings", "need_library"]


def need_library(module: str, *, broker: str, package: str, extra: str) -> ModuleType:
    """Imports a client library.

    Args:
        module: What is imported.
        broker: What it is for.
        package: What it is called where packages are.
        extra: What installs it together with this library.

    Raises:
        TransportError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise TransportError(f"{broker} needs {package} ({error}): pip install 'sagakit[{extra}]'") from error


class UrlSettings(NamedTuple):
    """What a queue's URL says.

    Attributes:
        plain: The URL without its query.
        ours: What the adapter has asked for, as far as it is there.
        rest: The rest of the query.
    """

    plain: str
    ours: dict[str, Any]
    rest: dict[str, str]

    @classmethod
    def of(cls, url: str, **kinds: Callable[[str], Any]) -> UrlSettings:
        """Reads a URL; of each setting that is the adapter's own, ``kinds`` says what reads it.

        Raises:
            TransportError: A setting is no number, and has to be one.
        """
        rest, ours = dict(parse_qsl(urlsplit(url).query)), dict[str, Any]()
        for name, kind in kinds.items():
            if name in rest:
                try:
                    ours[name] = kind(rest.pop(name))
                except ValueError as error:
                    raise TransportError(
                        f"{public_url(url)}: {name}= in its query is not understood: {error}"
                    ) from error
        return cls(url.partition("?")[0], ours, rest)

    @classmethod
    def all_of(cls, url: str, **kinds: Callable[[str], Any]) -> UrlSettings:
        """Reads a URL in which nothing else may stand: it would be dropped without a word.

        Raises:
            TransportError: See ``of``; or there is something else.
        """
        found = cls.of(url, **kinds)
        if found.rest:
            unknown = ", ".join(sorted(found.rest))
            raise TransportError(f"{public_url(url)}: nobody knows {unknown}; known are {', '.join(kinds)}")
        return found

    @property
    def url(self) -> str:
        """The URL, with the rest of its query."""
        return f"{self.plain}?{urlencode(self.rest)}" if self.rest else self.plain
