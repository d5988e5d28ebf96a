"""Forms: read, and known to come from a page of this console."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sagas_adapters.console.sealing import Seal

__all__ = ["Forms", "Refusal", "set_cookie"]

_COOKIE: Final = "sagas-console-form"
_LONGEST: Final = 256 * 1024
_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 2000


class Refusal(Exception):  # noqa: N818 - an answer
    """A request that is not granted.

    Args:
        status: Of HTTP.
        heading: What is the matter, in few words.
        text: What to do.
        back: Address of a page to go on with.
        back_label: What that is.
    """

    def __init__(
        self, status: int, heading: str, text: str, *, back: str = "./", back_label: str = "To the sagas"
    ) -> None:
        super().__init__(text)
        self.status, self.heading, self.text = status, heading, text
        self.back, self.back_label = back, back_label


class Forms:
    """Gives each form a mark that only this browser's forms have, and refuses those without.

    The mark is made of a random text that a cookie keeps, and of who it is for.

    Args:
        seal: Makes the marks.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def mark(self, request: Request, whose: str) -> str:
        """Gives the mark for the forms of a page."""
        return self._seal.mark("form", self._kept(request), whose)

    def keep(self, request: Request, response: Response) -> None:
        """Has the browser keep what the marks are made of, if it does not yet."""
        if request.cookies.get(_COOKIE) != self._kept(request):
            set_cookie(request, response, _COOKIE, self._kept(request))

    @staticmethod
    def _kept(request: Request) -> str:
        """Gives the random text of this browser."""
        if not hasattr(request.state, "kept"):
            request.state.kept = request.cookies.get(_COOKIE) or secrets.token_urlsafe(18)
        kept: str = request.state.kept
        return kept

    async def read(self, request: Request, whose: str, *, by_header: bool) -> list[tuple[str, str]]:
        """Reads the form that a request sends.

        Args:
            request: Which.
            whose: Who asks.
            by_header: Whether they have said so in a header, which no page of somebody else can do.

        Raises:
            Refusal: It is none, too large, or not from a page of this console.
        """
        try:
            fields = parse_qsl(await _body(request), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError:
            raise Refusal(400, "This is too much", "Nothing was done. The form has too many fields.") from None
        if by_header:
            return fields
        _refuse_foreign(request)
        mark = next((value for name, value in fields if name == "csrf"), "")
        if not (request.cookies.get(_COOKIE) and self._seal.is_mark(mark, "form", self._kept(request), whose)):
            raise Refusal(
                403,
                "This form is not from here, or too old",
                "Nothing was done. Go back, load the page again, and send the form again. The browser has to accept "
                "this site's cookies.",
            )
        return fields


async def _body(request: Request) -> str:
    """Reads a body, which is that of a form.

    Raises:
        Refusal: It is another, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refusal(415, "This is no form", f"Nothing was done. Send {_FORM}.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LONGEST:
            raise Refusal(413, "This is too much", f"Nothing was done. A form may have {_LONGEST} bytes.")
    if not body.isascii():
        raise Refusal(400, "This is no form", "Nothing was done. Its fields are not percent-encoded.")
    return body.decode()


def _refuse_foreign(request: Request) -> None:
    """Refuses what a page of somebody else sends.

    Browsers tell in ``Sec-Fetch-Site``; older ones only the page's origin.

    Raises:
        Refusal: It is from elsewhere.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        foreign = origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower()
    if foreign:
        raise Refusal(403, "This form is from another site", "Nothing was done.")


def set_cookie(request: Request, response: Response, name: str, value: str, *, age: int | None = None) -> None:
    """Has a browser keep something that only comes back here; without a path, so only below where this is mounted."""
    response.set_cookie(
        name, value, max_age=age, path=None, secure=request.scope["scheme"] == "https", httponly=True, samesite="strict"
    )
