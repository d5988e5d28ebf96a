"""How texts stand in header fields, and pieces of JSON in bodies: each to the last byte."""

from __future__ import annotations

import json
import re
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["as_seconds", "members", "preferred_wait", "quoted", "retry_after_seconds", "unquoted", "whole_seconds"]

# What a structured-field string (RFC 9651) may hold as it is. A percent sign begins what it may not.
_PLAIN = re.compile(r"[ !#$&-\[\]-~]*\Z")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in '%"\\')
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)
_SPACE = re.compile(r"[ \t\r\n]*")


def quoted(text: str) -> str:
    """Writes a text as a structured-field string; what that cannot hold is percent-encoded.

    Raises:
        UnicodeEncodeError: It has half of a surrogate pair.
    """
    return f'"{text}"' if _PLAIN.match(text) else f'"{quote(text, safe=_SAFE)}"'


def unquoted(value: bytes) -> str:
    """Reads what ``quoted`` wrote; quotes may be missing, as many clients leave them out.

    Raises:
        ValueError: It is no such text.
    """
    if value[:1] == b'"':
        if len(value) < 2 or value[-1:] != b'"':  # noqa: PLR2004 - two quotes
            raise ValueError("it begins with a quote and does not end with one")
        value = re.sub(rb"\\([\"\\])", rb"\1", value[1:-1])
    if b"%" not in value:
        return value.decode()
    if _ESCAPE.search(value):
        raise ValueError("a percent sign in it is not followed by two hexadecimal digits")
    return unquote_to_bytes(value).decode()


def preferred_wait(prefer: str) -> float | None:
    """Reads the seconds of ``Prefer: wait=N`` (RFC 7240)."""
    found = _WAIT.search(prefer)
    return None if found is None else float(found[1])


def whole_seconds(seconds: float) -> str:
    """Writes seconds for ``Retry-After``, which knows only whole ones."""
    return str(ceil(max(seconds, 0.0)))


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Reads ``Retry-After``: seconds, or a date; ``None`` if there is none that makes sense."""
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def as_seconds(value: object) -> float | None:
    """Takes what was read from JSON for a number of seconds, if it is one."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and value >= 0:
        return float(value)
    return None


def members(body: bytes) -> Mapping[str, bytes]:
    """Reads a JSON object, and gives the text of each member as it stands there.

    What a participant compares with what came before has to be the same to the byte, however it travelled.

    Raises:
        ValueError: It is no JSON object.
    """
    text = body.decode()
    found: dict[str, bytes] = {}
    at = _skip(text, _expect(text, 0, "{"))
    while found or text[at : at + 1] != "}":
        name, at = _value(text, at)
        if not isinstance(name, str) or text[at - 1] != '"':
            raise ValueError(f"a name was expected before character {at}")
        start = _skip(text, _expect(text, at, ":"))
        _, at = _value(text, start)
        found[name] = text[start:at].encode()
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    if _skip(text, _expect(text, at, "}")) != len(text):
        raise ValueError("there is more after the object")
    return found


def _skip(text: str, at: int) -> int:
    """Leaves out white space."""
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _expect(text: str, at: int, sign: str) -> int:
    """Goes behind a sign.

    Raises:
        ValueError: Another one is there.
    """
    at = _skip(text, at)
    if text[at : at + 1] != sign:
        raise ValueError(f"{sign!r} was expected at character {at}")
    return at + 1


def _value(text: str, at: int) -> tuple[object, int]:
    """Reads a value, and says where it ends.

    Raises:
        ValueError: There is none.
    """
    try:
        return cast("tuple[object, int]", _DECODER.raw_decode(text, _skip(text, at)))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
