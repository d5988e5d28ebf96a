"""Where journals are kept."""

from __future__ import annotations

from sagas.stores.opening import is_store, store_for
from sagas.stores.port import Codec, PayloadContext, Store

__all__ = ["Codec", "PayloadContext", "Store", "is_store", "store_for"]
