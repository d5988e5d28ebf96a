"""What every store, transport and queue does, as tests to inherit from.

Each contract is a class for pytest. A class of yours that inherits it, with a fixture that connects to your own
implementation, runs all of its tests. It needs the extra ``testing``.
"""

from __future__ import annotations

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "sagas.testing.contracts are tests for pytest: pip install 'sagakit[testing]'", name=error.name
    ) from error

# So that a failed assertion shows its values, also where this is an installed package.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("stores", "transports", "queues", "_participant")))

# ruff: noqa: E402 - pytest has to know of them first
from sagas.testing.contracts.queues import Elapse, OpenQueue, QueueContract
from sagas.testing.contracts.stores import OpenStore, StoreContract
from sagas.testing.contracts.transports import Participant, TransportContract

__all__ = ["Elapse", "OpenQueue", "OpenStore", "Participant", "QueueContract", "StoreContract", "TransportContract"]
