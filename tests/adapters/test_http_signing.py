"""A signature holds for one request, one key and a while."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagas.errors import DeclarationError
from sagas.testing.contracts import Participant
from sagas.transport import StepRequest
from sagas_adapters.http import HttpTransport, Signing, participant_app
from sagas_adapters.http.problems import HttpProblem
from tests.adapters.serving import LocalParticipant, serving

KEY, OTHER = b"k" * 32, b"o" * 32
HEADERS: dict[str, str | bytes] = {"idempotency-key": '"k"', "saga-attempt": "1", "saga-undoes": '"j"'}


def at(moment: float, **more: Any) -> Signing:
    return Signing(KEY, now=lambda: moment, **more)


def signed(by: Signing, **changes: Any) -> dict[str, Any]:
    """A request with its signature, as it arrives; with changes on the way."""
    sent = {"method": "POST", "path": "/steps/pay", "body": b"{}"}
    value = by.sign(**sent, headers=HEADERS)  # type: ignore[arg-type]  # as above
    headers = {name.encode(): value.encode() for name, value in HEADERS.items() if isinstance(value, str)}
    headers |= {b"saga-signature": value.encode()}
    headers |= {name.encode(): text for name, text in changes.pop("headers", {}).items()}
    return {**sent, "headers": headers, **changes}


def refusal(by: Signing, request: dict[str, Any]) -> str:
    with pytest.raises(HttpProblem) as caught:
        by.check(**request)
    assert caught.value.response.status == 401
    assert (b"www-authenticate", b"Saga-Signature") in caught.value.response.headers
    return str(caught.value)


def test_what_is_signed_holds() -> None:
    at(1000).check(**signed(at(1000)))


@pytest.mark.parametrize(
    "change",
    [{"method": "GET"}, {"path": "/steps/pay/undo"}, {"body": b"{ }"}, {"headers": {"idempotency-key": b'"l"'}},
     {"headers": {"saga-attempt": b"2"}}, {"headers": {"saga-undoes": b'"k"'}}, {"headers": {"saga-deadline": b"9"}},
     {"headers": {"saga-callback": b"http://evil.example"}}],
)  # fmt: skip
def test_what_was_changed_on_the_way_does_not_hold(change: dict[str, Any]) -> None:
    assert "does not fit the request" in refusal(at(1000), signed(at(1000), **change))


def test_what_proxies_may_change_is_not_signed() -> None:
    at(1000).check(**signed(at(1000), headers={"traceparent": b"x", "x-forwarded-for": b"y"}))


@given(st.integers(0, 2000))
def test_a_signature_holds_within_the_window(moment: int) -> None:
    request = signed(at(1000))
    if abs(moment - 1000) <= 300:
        at(moment).check(**request)
    else:
        assert f"{abs(moment - 1000)} s {'ago' if moment > 1000 else 'from now'}" in refusal(at(moment), request)


def test_a_clock_cannot_be_lied_about() -> None:
    request = signed(at(1000))
    value = request["headers"][b"saga-signature"].replace(b"t=1000", b"t=1900")
    assert "does not fit" in refusal(at(1900), {**request, "headers": {**request["headers"], b"saga-signature": value}})


def test_keys_are_exchanged_one_side_after_the_other() -> None:
    old, new = at(0, key_id="2025"), Signing(OTHER, key_id="2026", now=lambda: 0)
    both = Signing(OTHER, key_id="2026", accept={"2025": KEY}, now=lambda: 0)
    both.check(**signed(old))
    both.check(**signed(new))
    new.check(**signed(both))
    assert "no key goes by the id '2025'" in refusal(new, signed(old))
    assert "does not fit" in refusal(Signing(OTHER, now=lambda: 0), signed(at(0)))


@pytest.mark.parametrize("value", [None, b"", b"v1=x", b"\xff", b't=1,k="1",v1=' + b"g" * 64])
def test_what_is_no_signature_is_refused(value: bytes | None) -> None:
    request = signed(at(1000))
    headers = {name: text for name, text in request["headers"].items() if name != b"saga-signature"}
    if value is not None:
        headers[b"saga-signature"] = value
    assert "Saga-Signature" in refusal(at(1000), {**request, "headers": headers})


@given(st.binary(max_size=80))
def test_no_guess_holds(value: bytes) -> None:
    request = signed(at(1000))
    refusal(at(1000), {**request, "headers": {**request["headers"], b"saga-signature": value}})


@pytest.mark.parametrize("wrong", [{"key": b"short"}, {"key": KEY, "key_id": 'a"b'}, {"key": KEY, "window": 0}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError):
        Signing(**wrong)


def test_a_key_is_not_shown() -> None:
    assert "kkk" not in repr(Signing(KEY))


async def test_who_does_not_sign_or_with_another_key_does_not_act() -> None:
    shelf = Participant()
    request = StepRequest(
        kind="action", step="reserve", saga_id="s", path="1", idempotency_key="k", arguments=b'{"item":"lamp"}'
    )
    with serving(participant_app(LocalParticipant(shelf.steps), sign=Signing(KEY))) as url:
        for sign in (None, Signing(OTHER), Signing(KEY, now=lambda: 0)):
            transport = HttpTransport(url, sign=sign)
            reply = await transport.call(request)
            await transport.close()
            assert reply.outcome == "failed"
            assert reply.error is not None
            assert reply.error.type == "urn:sagas:problem:signature"
    assert shelf.acted == []
