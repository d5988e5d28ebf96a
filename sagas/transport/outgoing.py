"""Sends what many tasks have to send in batches, since a broker confirms many messages as fast as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Pump"]

T = TypeVar("T")


class _Item(Generic[T]):
    """Something to be handed on, and whether it was."""

    __slots__ = ("done", "error", "value")

    def __init__(self, value: T) -> None:
        self.value = value
        self.done = anyio.Event()
        self.error: Exception | None = None


class Pump(Generic[T]):
    """Hands things on, those that come together in one call; while one call is under way, the next batch fills up.

    Args:
        hand_on: Called with a batch. If it fails, each is handed on alone, so that it fails by itself.
        most: How many there are in a batch at most.
    """

    def __init__(self, hand_on: Callable[[Sequence[T]], Awaitable[object]], *, most: int = 100) -> None:
        self._hand_on = hand_on
        self._most = most
        self._items: list[_Item[T]] = []
        self._wake = anyio.Event()
        self._closed: Exception | None = None

    async def put(self, value: T) -> None:
        """Hands something on; raises what that raises.

        Raises:
            Exception: What ``close`` was given: it is closed.
        """
        if self._closed is not None:
            raise self._closed
        item = _Item(value)
        self._items.append(item)
        self._wake.set()
        await item.done.wait()
        if item.error is not None:
            raise item.error

    async def run(self) -> None:
        """Hands things on until it is cancelled."""
        while True:
            if not self._items:
                self._wake = anyio.Event()
                await self._wake.wait()
            batch, self._items = self._items[: self._most], self._items[self._most :]
            try:
                await self._hand_on_all(batch)
            finally:
                for item in batch:
                    item.done.set()

    async def _hand_on_all(self, batch: list[_Item[T]]) -> None:
        """Hands a batch on, or one by one."""
        try:
            return await self._try(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return None
        for item in batch:
            try:
                await self._try([item])
            except Exception as error:
                item.error = error
        return None

    async def _try(self, batch: list[_Item[T]]) -> None:
        """Hands some on."""
        await self._hand_on([item.value for item in batch])

    def close(self, error: Exception) -> None:
        """Lets go of whoever waits, with this error."""
        self._closed = error
        for item in self._items:
            item.error = error
            item.done.set()
        self._items = []
