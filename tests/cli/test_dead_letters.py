"""``dlq``: lists, shows and redrives messages that nobody could handle, of any queue that has a URL."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from sagas.transport import Message, open_queue
from tests.cli.conftest import CommandLine


@pytest.fixture
def queue(tmp_path: Path) -> str:
    """A queue with two dead letters and a message that waits."""
    url = f"sqlite:///{tmp_path / 'queue.db'}?queue=payments&max_deliveries=3"

    async def fill() -> None:
        opened = open_queue(url)
        headers = {"ce-type": "sagas.step.requested", "ce-sagakey": "order-1.ab:2"}
        await opened.send(Message(body=b'{"amount":7}', headers=headers), Message(body=b"\xff?"))
        for _ in range(3):
            for delivery in await opened.receive(2, wait=5):
                await opened.nack(delivery, reason="TransportError: no step 'charge'")
        assert len(await opened.dead_letters()) == 2
        await opened.send(Message(body=b"waits"))
        await opened.close()

    anyio.run(fill)
    return url


def test_the_list_says_what_failed_how_often_and_why(sagas: CommandLine, queue: str) -> None:
    header, first, second = sagas("dlq", "list", "--queue", queue).out.splitlines()
    assert header.split() == ["ID", "DELIVERED", "WHAT", "REASON"]
    assert "sagas.step.requested order-1.ab:2" in first
    assert first.endswith("TransportError: no step 'charge'")
    assert "2 bytes" in second
    assert len(sagas("dlq", "list", "--queue", queue, "--limit", "1", "--json").json) == 1


def test_one_is_shown_with_all_that_is_in_it(sagas: CommandLine, queue: str) -> None:
    letters = sagas("dlq", "list", "--queue", queue, "--json").json
    shown = sagas("dlq", "show", letters[0]["id"], "--queue", queue).out
    assert "ce-sagakey: order-1.ab:2" in shown
    assert '{"amount":7}' in shown
    assert "no step 'charge'" in shown
    assert sagas("dlq", "show", letters[0]["id"], "--queue", queue, "--json").json == letters[0]
    assert "no dead letter 'nix'" in sagas.fails("dlq", "show", "nix", "--queue", queue)


def test_letters_go_back_one_by_one_or_all(sagas: CommandLine, queue: str) -> None:
    letters = sagas("dlq", "list", "--queue", queue, "--json").json
    assert sagas("dlq", "redrive", letters[0]["id"], "--queue", queue).out.strip() == "1 sent back"
    assert len(sagas("dlq", "list", "--queue", queue, "--json").json) == 1
    assert sagas("dlq", "redrive", "--all", "--queue", queue, "--json").json == {"redriven": 1}
    assert sagas("dlq", "list", "--queue", queue).out.strip() == "no dead letters"
    nothing = sagas("dlq", "redrive", "nix", "--queue", queue)
    assert (nothing.code, nothing.out.strip()) == (1, "0 sent back")


def test_it_says_what_is_missing(sagas: CommandLine, queue: str) -> None:
    assert "which queue?" in sagas.fails("dlq", "list")
    assert "which dead letters?" in sagas.fails("dlq", "redrive", "--queue", queue)
    assert "does not name a queue" in sagas.fails("dlq", "list", "--queue", "nats://localhost")
