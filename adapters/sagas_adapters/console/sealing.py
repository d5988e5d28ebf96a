"""Signs what a browser keeps for the console, so that nobody else can make it up."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

import orjson

__all__ = ["Seal", "digest"]


class Seal:
    """Signs and checks, each for one purpose.

    Args:
        key: Secret; processes that share it understand each other's.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.blake2b(key, person=b"sagas console").digest()

    def sealed(self, purpose: str, told: dict[str, Any]) -> str:
        """Writes something down, signed."""
        body = base64.urlsafe_b64encode(orjson.dumps(told)).decode().rstrip("=")
        return f"{body}.{self.mark(purpose, body)}"

    def opened(self, purpose: str, text: str) -> object:
        """Reads what was sealed for this purpose; ``None`` if it was not."""
        body, _, mark = text.rpartition(".")
        if not self.is_mark(mark, purpose, body):
            return None
        try:
            told: object = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (binascii.Error, ValueError):
            return None
        return told

    def mark(self, purpose: str, *parts: str) -> str:
        """Gives a text that only this key makes of these parts."""
        return hmac.new(self._key, digest(purpose, *parts), "sha256").hexdigest()

    def is_mark(self, mark: str, purpose: str, *parts: str) -> bool:
        """Says whether a mark is the one for these parts."""
        return hmac.compare_digest(self.mark(purpose, *parts).encode(), mark.encode("utf-8", "surrogatepass"))


def digest(*parts: str) -> bytes:
    """Gives 32 bytes over some texts, and where each ends."""
    whole = hashlib.blake2b(digest_size=32)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.digest()
