"""What all contracts of stores begin with."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sagas.stores.port import Store

__all__ = ["OpenStore", "StoreCase"]

# Opens another store on the same journal, as another process would.
OpenStore = Callable[[], Store]


class StoreCase:
    """Give it the fixture ``connect``."""

    @pytest.fixture
    def connect(self) -> OpenStore:
        """Opens another store on the same journal, as another process would; the journal is empty at first.

        The stores take the time that they are given, and are closed when the test is over.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `connect`: a function without parameters that opens another "
            "store on one journal, which is empty when the test begins. See docs/how-to/write-your-own.md"
        )

    @pytest.fixture
    def store(self, connect: OpenStore) -> Store:
        """A store that is open."""
        return connect()

    def waiting(self, store: Store) -> int | None:
        """Counts those that the store remembers to be waiting for a limit.

        Override it where that can be looked at; ``None``: it cannot.
        """

    @pytest.fixture
    def narrow_purge(self) -> None:
        """Lets one call of ``purge`` look at about ten sagas only; override it where that can be set."""
