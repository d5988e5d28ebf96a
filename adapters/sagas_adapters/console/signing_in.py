"""Signing in with a token, and out again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sagas_adapters.console.forms import Refusal, set_cookie
from sagas_adapters.console.visitors import SESSION, SESSION_AGE

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from sagas_adapters.console.frame import Frame

__all__ = ["SigningIn"]

_BESIDE: Final = re.compile(r"(\./|[a-z][a-z-]*)(\?[!-~]*)?")


class SigningIn:
    """The pages for it.

    Args:
        frame: Around them.
    """

    def __init__(self, frame: Frame) -> None:
        self._frame = frame

    async def ask(self, request: Request) -> Response:
        """Shows the form."""
        return self._form(request, request.query_params.get("to", ""))

    def _form(self, request: Request, to: str, *, name: str = "", problem: str = "", status: int = 200) -> Response:
        """Makes the form."""
        if not self._frame.door.asks_for_tokens:
            raise Refusal(404, "Nobody signs in here", "This console knows in another way who you are.")
        told: dict[str, Any] = {"to": to, "name": name, "problem": problem}
        return self._frame.page(request, None, "login.html", heading="Sign in", status=status, **told)

    async def sign_in(self, request: Request) -> Response:
        """Takes the form."""
        from starlette.responses import Response

        frame = self._frame
        fields = await frame.form(request, None)
        name, to = fields.get("name", "").strip(), fields.get("to", "")
        if not name or not name.isprintable():
            return self._form(request, to, problem="Say who you are, for the journal.", status=422)
        known = frame.door.sign_in(name, fields.get("token", "").strip(), frame.clock())
        if known is None:
            return self._form(request, to, name=name, problem="No such token.", status=401)
        response = Response(status_code=303, headers={"Location": _local(to)})
        set_cookie(request, response, SESSION, known[1], age=SESSION_AGE)
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forgets who it is."""
        from starlette.responses import Response

        visitor = await self._frame.admit(request)
        await self._frame.form(request, visitor)
        response = Response(status_code=303, headers={"Location": "login"})
        set_cookie(request, response, SESSION, "", age=0)
        return response


def _local(to: str) -> str:
    """Gives an address if it is beside this page, or else that of the first page."""
    return to if _BESIDE.fullmatch(to) else "./"
