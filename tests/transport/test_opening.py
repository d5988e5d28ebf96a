"""A URL names a queue."""

from __future__ import annotations

import pytest

from sagas.errors import TransportError
from sagas.transport import open_queue, public_url


def test_a_url_without_a_name_of_a_queue_is_refused() -> None:
    """And its password is not told."""
    with pytest.raises(TransportError, match=r"nats://localhost:4222 does not name a queue; add \?queue=NAME"):
        open_queue("nats://user:secret@localhost:4222")
    with pytest.raises(TransportError, match=r"^nats://localhost:4222 does not"):
        open_queue("nats://user:sec@ret@localhost:4222")
    with pytest.raises(TransportError, match=r"^sqlite:///queue\.db does not"):
        open_queue("sqlite:///queue.db")


@pytest.mark.parametrize(
    "password",
    [
        "53/s3@crt",
        "s3cr/t",
        "s3cr#t",
        "s3cr?t",
        "s3@cr/t",
        "s3:cr/t",
        "//s3crt",
        "[s3crt",
        "s3\ncrt",
        "s3\N{ACCOUNT OF}crt",
    ],
)
@pytest.mark.parametrize(
    ("scheme", "host"),
    [
        ("nats://", "nats:4222"), ("redis://", "[::1]:6379/1"), ("amqp://", "rabbit/shop"), ("postgresql://", "db/x"),
        ("kafka://", "one:1,two:2"), ("carrier-pigeon://", "loft"), ("", "loft"),
    ],
)  # fmt: skip
def test_no_password_is_told_however_it_is_written(scheme: str, host: str, password: str) -> None:
    url = f"{scheme}user:{password}@{host}"
    told = public_url(f"{url}?queue=payments&token=s3crt")
    assert told.endswith(host)
    with pytest.raises(TransportError) as refused:
        open_queue(f"{url}?queue=payments&max_bytes=none")
    error: BaseException | None = refused.value
    while error is not None:  # as a traceback has them
        told += str(error)
        error = None if error.__suppress_context__ else error.__context__
    assert "s3" not in told
    assert "crt" not in told


@pytest.mark.parametrize("scheme", ["nats", "redis", "amqp", "kafka", "sqs"])
@pytest.mark.parametrize("password", ["53/x", "53?x", "53#x", "a@53/x"])
def test_the_beginning_of_a_password_is_never_taken_for_a_port(scheme: str, password: str) -> None:
    with pytest.raises(TransportError, match=r"localhost[^0-9]* names no queue.*percent-encoded|does not name a queue"):
        open_queue(f"{scheme}://user:{password}@localhost?queue=payments")


def test_a_file_is_told_as_it_is() -> None:
    assert public_url("sqlite:////home/me@work/queue.db?queue=payments") == "sqlite:////home/me@work/queue.db"


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
