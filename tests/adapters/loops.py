"""Which tests of a broker run under which event loops: all under asyncio, and some of each kind under the others.

Brokers take real time, and what differs between the loops is below the adapters. ``SAGAS_TEST_EVERYTHING=1`` runs all.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from sagas.testing.contracts.queues import DeadLetterContract, QueueCase, QueueContract

__all__ = ["OnAsyncio", "OnOtherLoops", "Some"]


class OnAsyncio:
    """Under asyncio only."""

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        return "asyncio", {"use_uvloop": False}


class OnOtherLoops:
    """Under the others."""

    @pytest.fixture(
        params=[pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"), pytest.param(("trio", {}), id="trio")]
    )
    def anyio_backend(self, request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
        backend: tuple[str, dict[str, Any]] = request.param
        return backend


if TYPE_CHECKING or not os.environ.get("SAGAS_TEST_EVERYTHING"):

    class Some(QueueCase):
        """What touches each way between an adapter and its event loop: calls, waiting, cancelling, timers, closing."""

        test_all_of_it = QueueContract.test_what_is_sent_is_received_as_it_was
        test_many = QueueContract.test_many_are_acknowledged_at_once
        test_waiting = QueueContract.test_whoever_waits_gets_what_comes
        test_cancelling = QueueContract.test_whoever_stops_waiting_takes_nothing_along
        test_time = QueueContract.test_a_delivery_is_its_consumers_alone_until_it_is_over
        test_errors = QueueContract.test_a_message_that_is_too_large_fails_before_anything_is_sent
        test_consumers = QueueContract.test_consumers_side_by_side_never_hold_the_same_message
        test_closing = QueueContract.test_a_closed_connection_says_so
        test_letters = QueueContract.test_dead_letters_can_be_sent_back
        _exhaust = DeadLetterContract._exhaust  # noqa: SLF001 - which that test uses

else:
    Some = QueueContract
