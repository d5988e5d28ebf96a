"""What every store does: it says what it cannot do, and then really does not."""

from __future__ import annotations

import time
from typing import ClassVar

import pytest

from sagas.errors import StoreError
from sagas.stores.port import Batch, Store
from sagas.testing.contracts.stores._batches import append, row, start
from sagas.testing.contracts.stores._case import OpenStore, StoreCase

__all__ = ["CapabilityContract"]


class CapabilityContract(StoreCase):
    """``in_memory``, ``announces`` and ``parallel`` tell the truth.

    Attributes:
        patience: Seconds within which an announcement is heard by those who listen.
    """

    patience: ClassVar[float] = 10.0

    def test_its_url_is_for_messages(self, store: Store) -> None:
        """A store that a message names can be found."""
        assert store.url

    def test_announcements_are_heard_or_nobody_listens(self, connect: OpenStore) -> None:
        """A store that does not announce says at once that only polling is left; announcing does no harm there."""
        store, other = connect(), connect()
        if not store.announces:
            other.announce(["work"])
            assert store.listen(self.patience) is None, "announces is False, so listen() has to give None at once"
            return
        assert "work" in self._heard(store, other), "announces is True, and nothing was heard"

    def _heard(self, store: Store, other: Store) -> list[str]:
        """Announces until something is heard: whoever begins to listen may miss what came before."""
        heard: list[str] = []
        until = time.monotonic() + self.patience
        while "work" not in heard and time.monotonic() < until:
            other.announce(["work"])
            heard.extend(store.listen(0.2) or ())
        return heard

    def test_a_store_without_transactions_refuses_them(self, store: Store) -> None:
        """Nothing is run, and nothing is written; one with transactions does both."""
        store.commit(start("s"))
        if store.in_memory:
            assert store.parallel == 0
            with pytest.raises(StoreError):
                store.transact([], lambda: append(row("s", 1)))
            assert len(store.load(["s"])["s"]) == 1
            return
        assert store.transact([], lambda: append(row("s", 1))) == (frozenset(), frozenset(), ())
        assert store.load(["s"]) == {"s": [row("s", 0), row("s", 1)]}

    def test_a_transaction_that_fails_writes_nothing(self, store: Store) -> None:
        """The error is raised as it is."""
        if store.in_memory:
            pytest.skip("this store has no transactions: see test_a_store_without_transactions_refuses_them")
        store.commit(start("s"))

        def finish() -> Batch:
            raise LookupError("the coordinator changed its mind")

        with pytest.raises(LookupError, match="changed its mind"):
            store.transact([], finish)
        assert store.load(["s"]) == {"s": [row("s", 0)]}

    def test_what_a_store_keeps_outlasts_the_connection(self, connect: OpenStore) -> None:
        """Of one that is only in memory, the process."""
        first = connect()
        first.commit(start("s"))
        first.close()
        assert connect().load(["s"]) == {"s": [row("s", 0)]}
        first.open(migrate=False)  # so that it can be closed as every other
