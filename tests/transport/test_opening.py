"""A URL names a queue."""

from __future__ import annotations

import pytest

from sagas.errors import TransportError
from sagas.transport import open_queue


def test_a_url_without_a_name_of_a_queue_is_refused() -> None:
    """And its password is not told."""
    with pytest.raises(TransportError, match=r"nats://localhost:4222 does not name a queue; add \?queue=NAME"):
        open_queue("nats://user:secret@localhost:4222")
    with pytest.raises(TransportError, match=r"^nats://localhost:4222 does not"):
        open_queue("nats://user:sec@ret@localhost:4222")
    with pytest.raises(TransportError, match=r"^sqlite:///queue\.db does not"):
        open_queue("sqlite:///queue.db")


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(TransportError, match="no queue goes by URLs that begin with 'carrier-pigeon'"):
        open_queue("carrier-pigeon://loft?queue=payments")


@pytest.mark.parametrize("wrong", ["visibility=soon", "max_deliveries=many"])
def test_what_is_to_be_a_number_is_one(wrong: str) -> None:
    with pytest.raises(TransportError, match="are numbers"):
        open_queue(f"nats://localhost:4222?queue=payments&{wrong}")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///queue.db?", "postgresql+psycopg://localhost/shop?", "nats://localhost?replicas=3&",
        "redis://localhost:6379/1?", "amqp://localhost?", "sqs://eu-central-1?", "kafka://localhost:9092?",
    ],
)  # fmt: skip
def test_a_queue_knows_its_name_as_its_url_has_it(url: str) -> None:
    """Since a participant opens the queue for replies by the name that it has at whoever waits for them."""
    assert open_queue(f"{url}visibility=7&queue=orders-replies").name == "orders-replies"
