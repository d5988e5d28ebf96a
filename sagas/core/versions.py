"""Which version of a saga a call starts: the one that was called, or one chosen by weights.

The rule is part of what users may rely on, so that every process, on whatever machine and Python, chooses alike:

1. BLAKE2b (RFC 7693, 8 bytes, read as a big-endian number) of the saga's name, a zero byte and the id, both in
   UTF-8, is a point on a line of length 2 to the 64th.
2. The versions share the line in their natural order, each by its weight.
3. The version in whose part the point lies is chosen.

So the same id always gives the same version, and raising a weight moves only the ids that change sides.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from sagas.core.recasting import recast, same_input
from sagas.errors import DeclarationError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sagas.core.operations import SagaCall
    from sagas.core.registry import Registry

__all__ = ["Versions", "chosen", "newest"]

_EXAMPLE = "{'place_order': {'1': 90, '2': 10}}"


def _natural(version: str) -> tuple[list[int | str], str]:
    """Orders versions as people do: digits count as numbers, so that 10 comes after 9 and 1.10 after 1.9."""
    parts = re.split(r"([0-9]+)", version)
    return [int(part) if number % 2 else part for number, part in enumerate(parts)], version


def newest(versions: Iterable[str]) -> str:
    """Gives the greatest of some versions, at least one, in their natural order."""
    return max(versions, key=_natural)


def chosen(weights: Mapping[str, int], name: str, saga_id: str) -> str:
    """Chooses a version; see the module for the rule.

    Args:
        weights: Whole numbers by version, of which at least one is not 0.
        name: Of the saga.
        saga_id: Its id.
    """
    digest = hashlib.blake2b(f"{name}\0{saga_id}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") * sum(weights.values()) >> 64
    versions = sorted(weights, key=_natural)
    for version in versions:
        point -= weights[version]
        if point < 0:
            return version
    raise AssertionError("the parts cover the line")


class Versions:
    """Says which definition a call starts.

    Args:
        weights: Whole numbers by version, by name of the saga; names that are not there keep the version called.
        registry: The definitions.

    Raises:
        DeclarationError: A weight is none, all of a saga's are 0, or a version has no definition.
    """

    def __init__(self, weights: Mapping[str, Mapping[str, int]], registry: Registry) -> None:
        _check_kind(weights)
        for name, shares in weights.items():
            _check_shares(name, shares)
            _check_registered(name, shares, registry)
        self._weights = {name: dict(shares) for name, shares in weights.items()}
        self._registry = registry

    def __contains__(self, name: str) -> bool:
        """Says whether the version of a saga is chosen by weights."""
        return name in self._weights

    def start(self, call: SagaCall[Any], saga_id: str) -> tuple[SagaCall[Any], bytes]:
        """Says what to start for a call.

        Returns:
            The call of the version that it is to be, and its arguments as JSON.

        Raises:
            PayloadError: The arguments do not fit that version.
        """
        weights = self._weights.get(call.saga.name)
        if weights is None:
            return call, call.saga.arguments_schema.encode(call.arguments)
        version = chosen(weights, call.saga.name, saga_id)
        saga = self._registry.find(call.saga.name, version)
        assert saga is not None, "every version with a weight has a definition"
        try:
            call = recast(call, saga)
            return call, saga.arguments_schema.encode(call.arguments)
        except PayloadError as error:
            raise PayloadError(
                f"versions={weights} chose version {version} of {saga.where} for the id {saga_id!r}, and the call does "
                f"not fit it: {error}. Call what every version with a weight can take, or let it have no weight"
            ) from error

    def is_same(self, call: SagaCall[Any], version: str, recorded: bytes) -> bool:
        """Says whether a call is the one that a saga was started with, perhaps in another version.

        Args:
            call: Of the same saga.
            version: That was started.
            recorded: Its arguments, as the journal has them.
        """
        try:
            return same_input(recast(call, self._registry.find(call.saga.name, version) or call.saga), recorded)
        except PayloadError:
            return False


def _check_kind(weights: object) -> None:
    """Refuses what does not give each saga its versions' weights.

    Raises:
        DeclarationError: See above.
    """
    shares = cast("Mapping[object, object]", weights).values() if isinstance(weights, Mapping) else [None]
    if not all(isinstance(one, Mapping) for one in shares):
        raise DeclarationError(f"versions={weights!r}: write each saga's versions with their weights: {_EXAMPLE}")


def _check_shares(name: str, shares: Mapping[str, object]) -> None:
    """Refuses weights that are none.

    Raises:
        DeclarationError: One is no whole number, or less than 0; or none is more.
    """
    for version, weight in shares.items():
        if type(weight) is not int or weight < 0:
            raise DeclarationError(
                f"versions: {weight!r} cannot be the weight of {name} version {version!r}; use whole numbers from 0 "
                "on, such as 995 and 5 for half a percent"
            )
    if not any(shares.values()):
        raise DeclarationError(f"versions: {name} has no version with a weight above 0; write {_EXAMPLE}")


def _check_registered(name: str, shares: Mapping[str, int], registry: Registry) -> None:
    """Refuses weights of what no definition is at hand for.

    Raises:
        DeclarationError: See above.
    """
    known = registry.versions(name)
    absent = [version for version in shares if version not in known]
    if absent:
        there = f"there is only version {', '.join(known)}" if known else "there is none of this name"
        raise DeclarationError(
            f"versions: {name} version {', '.join(map(repr, absent))} has a weight, but no definition: {there}. Pass "
            "every version that has a weight in sagas=[…]"
        )
