"""What the URL of a queue says, and what is said where a client library is missing."""

from __future__ import annotations

import pytest

from sagas.errors import TransportError
from sagas.transport import open_queue
from sagas.transport.clients import UrlSettings, need_library
from sagas.transport.opening import public_url


def test_settings_of_the_adapter_are_taken_out_of_a_url() -> None:
    given = UrlSettings.of("x://me:secret@host/place?many=3&colour=a%20b&slow=0.5", many=int, slow=float, absent=int)
    assert given.ours == {"many": 3, "slow": 0.5}
    assert given.url == "x://me:secret@host/place?colour=a+b"
    assert given._replace(rest={}).url == given.plain == "x://me:secret@host/place"


def test_a_setting_that_nobody_knows_is_refused_and_no_password_told() -> None:
    with pytest.raises(TransportError, match=r"x://host: nobody knows colour, size; known are many") as refusal:
        UrlSettings.all_of("x://me:secret@host?size=1&colour=red", many=int)
    assert "secret" not in str(refusal.value)


def test_a_user_a_password_and_a_query_are_not_public() -> None:
    assert public_url("x://me:se@cret@one:1,two:2/place?token=secret") == "x://one:1,two:2/place"


def test_a_library_that_is_missing_is_named_with_what_installs_it() -> None:
    with pytest.raises(
        TransportError, match=r"Nowhere needs nothing \(.*no_such_module.*\): pip install 'sagakit\[no\]'"
    ):
        need_library("no_such_module", broker="Nowhere", package="nothing", extra="no")


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("nats://me:secret@localhost?queue=q&replicas=many", "replicas"),
        ("redis://me:secret@localhost?queue=q&max_bytes=many", "max_bytes"),
        ("amqp://me:secret@localhost?queue=q&max_bytes=many", "max_bytes"),
        ("kafka://me:secret@localhost?queue=q&partitions=many", "partitions"),
        ("sqs://eu-central-1?queue=q&message_bytes=many", "message_bytes"),
        ("nats://me:secret@localhost?queue=q&colour=red", "colour"),
        ("sqs://eu-central-1?queue=q&endpiont=http://localhost", "endpiont"),
    ],
)
def test_every_broker_says_what_is_wrong_with_its_url(url: str, wrong: str) -> None:
    """Before anything is asked of it."""
    with pytest.raises(TransportError, match=wrong) as refusal:
        open_queue(url)
    assert "secret" not in str(refusal.value)
