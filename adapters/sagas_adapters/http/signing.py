"""Requests that are signed with a key which both sides have."""

from __future__ import annotations

import hmac
import re
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from sagas.errors import DeclarationError
from sagas_adapters.http.problems import HttpProblem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["SIGNATURE", "Signing"]

SIGNATURE: Final = "saga-signature"
# What is signed of the header fields, in this order. Proxies may change the others, such as traceparent.
_SIGNED: Final = (
    "idempotency-key", "saga-id", "saga-path", "saga-attempt", "saga-deadline", "saga-undoes", "saga-beats",
    "saga-callback",
)  # fmt: skip
_FORM: Final = re.compile(r't=(\d{1,12}),k="([!-~ ]*)",v1=([0-9a-f]{64})\Z')
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_SHORTEST: Final = 16


class Signing:
    """Signs requests, and checks those that come: HMAC-SHA256 over method, path, header fields, time and body.

    It proves that the request comes from somebody who has the key, was not changed, and was sent just now. It hides
    nothing: that is what TLS is for. A request that is sent again within the window is one more duplicate, and gets
    the first one's answer, because the idempotency key is signed too. Give each participant a key of its own, so that
    what was meant for one cannot be shown to another.

    Args:
        key: At least 16 bytes that nobody can guess, such as ``secrets.token_bytes(32)``; a text stands for its UTF-8.
        key_id: Names the key, so that another one can follow it.
        window: Seconds by which the time of a request may differ from the clock here.
        accept: More keys by their ids, which are checked and never signed with: the old one, or the next.
        now: Gives POSIX time.

    Raises:
        DeclarationError: A key is too short, an id is not of letters, digits, ``.``, ``_`` and ``-``, or the window is
            no positive number.
    """

    def __init__(
        self,
        key: bytes | str,
        *,
        key_id: str = "1",
        window: float = 300.0,
        accept: Mapping[str, bytes | str] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        given = {**(accept or {}), key_id: key}
        self._keys = {name: _checked(name, value) for name, value in given.items()}
        if not window > 0:
            raise DeclarationError(f"Signing(window={window!r}): use a positive number of seconds")
        self._key_id = key_id
        self._window = window
        self._now = now

    def __repr__(self) -> str:
        return f"<Signing with the key {self._key_id}>"

    def sign(self, method: str, path: str, headers: Mapping[str, str | bytes], body: bytes) -> str:
        """Gives the value of the header ``Saga-Signature``.

        Args:
            method: In upper case.
            path: Below the base, as it is sent.
            headers: Names in lower case.
            body: All of it.
        """
        moment = str(int(self._now()))
        table = {name.encode(): _bytes(headers[name]) for name in _SIGNED if name in headers}
        mac = self._mac(self._key_id, moment, _request_text(method, path, table, body))
        return f't={moment},k="{self._key_id}",v1={mac}'

    def check(self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Checks the signature of a request.

        Args:
            method: In upper case.
            path: Below the base, as it was sent.
            headers: Names in lower case.
            body: All of it.

        Raises:
            HttpProblem: There is none that holds.
        """
        moment, key_id, given = _parsed(headers.get(SIGNATURE.encode()))
        if key_id not in self._keys:
            raise _refusal(f"no key goes by the id {key_id!r} here; let both sides have it before one signs with it")
        mac = self._mac(key_id, moment, _request_text(method, path, headers, body))
        if not hmac.compare_digest(mac, given):
            raise _refusal("the signature does not fit the request: another key, or something changed it on the way")
        apart = self._now() - int(moment)
        if abs(apart) > self._window:
            side = "ago" if apart > 0 else "from now"
            raise _refusal(f"it was signed {abs(apart):.0f} s {side}, and {self._window:g} s are allowed. Check clocks")

    def _mac(self, key_id: str, moment: str, request: bytes) -> str:
        """Computes the signature, in hexadecimal."""
        text = b"\n".join((b"saga-signature-1", moment.encode(), key_id.encode(), request))
        return hmac.digest(self._keys[key_id], text, "sha256").hex()


def _request_text(method: str, path: str, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """Gives what is signed of a request, a line for each part."""
    fields = (name.encode() + b":" + headers.get(name.encode(), b"") for name in _SIGNED)
    return b"\n".join((method.encode(), path.encode(), *fields, sha256(body).hexdigest().encode()))


def _checked(name: str, key: bytes | str) -> bytes:
    """Refuses a key that could be guessed, or not be named.

    Raises:
        DeclarationError: See above.
    """
    if not _KEY_ID.match(name):
        raise DeclarationError(f"{name!r} cannot name a key: use 1 to 64 letters, digits, dots, _ and -")
    secret = _bytes(key)
    if len(secret) < _SHORTEST:
        raise DeclarationError(
            f"the key {name!r} has {len(secret)} bytes, and needs {_SHORTEST}: make one with secrets.token_bytes(32)"
        )
    return secret


def _bytes(value: str | bytes) -> bytes:
    """Gives the bytes of a text."""
    return value.encode() if isinstance(value, str) else value


def _parsed(value: bytes | None) -> tuple[str, str, str]:
    """Takes the header apart.

    Raises:
        HttpProblem: It is missing, or of another form.
    """
    if value is None:
        raise _refusal("the request is not signed: it has no header Saga-Signature")
    found = _FORM.match(value.decode("latin-1"))
    if found is None:
        raise _refusal('the header Saga-Signature has another form than t=SECONDS,k="KEY ID",v1=64 HEXADECIMAL DIGITS')
    return found[1], found[2], found[3]


def _refusal(detail: str) -> HttpProblem:
    """Makes the answer to a request that is not signed as it should be."""
    return HttpProblem("signature", 401, detail, headers=((b"www-authenticate", b"Saga-Signature"),))
