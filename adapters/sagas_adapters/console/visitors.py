"""Who looks at the console, what they may do, and how that is found out."""

from __future__ import annotations

import hmac
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from sagas.errors import DeclarationError
from sagas_adapters.console.hosts import is_loopback_request
from sagas_adapters.console.sealing import Seal, digest

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["SESSION", "Authenticate", "Door", "Role", "Visitor", "came_by_header", "key_of"]

Role: TypeAlias = Literal["viewer", "operator"]

SESSION: Final = "sagas-console"
# Seconds for which somebody stays signed in.
SESSION_AGE: Final = 12 * 3600
# Characters. A shorter one could be guessed, by whoever has a cookie that it signs even without asking here.
_SHORTEST: Final = 16
_ROLES: Final = ("viewer", "operator")
_LONGEST_NAME: Final = 100


class Visitor(NamedTuple):
    """Somebody who looks at the console.

    Attributes:
        name: What the journal calls them where they have acted.
        role: ``viewer``, who only looks, or ``operator``, who also acts.
    """

    name: str
    role: Role

    @property
    def may_act(self) -> bool:
        """Whether they may do more than look."""
        return self.role == "operator"


Authenticate: TypeAlias = "Callable[[Request], Visitor | Awaitable[Visitor | None] | None]"


class _Known(NamedTuple):
    """A token that opens.

    Attributes:
        token: The text itself.
        name: Whose it is, or ``""`` if several share it.
        role: What it is good for.
    """

    token: bytes
    name: str
    role: Role


class Door:
    """Finds out who makes a request.

    Args:
        tokens: What opens: the role of whoever has it, or the very visitor.
        authenticate: The host application's own way; instead of tokens.
        loopback: Who comes from this machine; only where there is neither of them.
        seal: Signs sessions.

    Raises:
        DeclarationError: There are tokens and a way of the host's own, or a token is too short, or a role is none.
    """

    def __init__(
        self,
        tokens: Mapping[str, Role | Visitor],
        authenticate: Authenticate | None,
        loopback: Visitor | None,
        seal: Seal,
    ) -> None:
        if tokens and authenticate is not None:
            raise DeclarationError("console_app(tokens=…, authenticate=…): use one of them, not both")
        self._known = [_known(token, whose) for token, whose in tokens.items()]
        self._authenticate = authenticate
        self._loopback = None if loopback is None else _checked(loopback)
        self._seal = seal

    @property
    def asks_for_tokens(self) -> bool:
        """Whether people sign in here."""
        return bool(self._known)

    @property
    def is_local(self) -> bool:
        """Whether whoever is on this machine comes in, and nobody else."""
        return not self._known and self._authenticate is None

    async def visitor(self, request: Request, now: float) -> Visitor | None:
        """Gives who makes a request; ``None`` for somebody unknown."""
        if self._authenticate is not None:
            answer = self._authenticate(request)
            found = await answer if inspect.isawaitable(answer) else answer
            return None if found is None else _checked(found)
        if self._known:
            return self._by_header(request) or self._by_session(request, now)
        return self._loopback if is_loopback_request(request.scope) else None

    def _by_header(self, request: Request) -> Visitor | None:
        """Gives whose token comes in the header."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        known = self._find(token.strip()) if scheme.lower() == "bearer" else None
        request.state.by_header = known is not None
        return None if known is None else Visitor(known.name or "api token", known.role)

    def _by_session(self, request: Request, now: float) -> Visitor | None:
        """Gives who has signed in before."""
        told: Any = self._seal.opened("session", request.cookies.get(SESSION, ""))
        match told:
            case {"name": str(name), "role": "viewer" | "operator" as role, "until": float(until)} if now < until:
                return Visitor(name, role)
            case _:
                return None

    def sign_in(self, name: str, token: str, now: float) -> tuple[Visitor, str] | None:
        """Gives who has a token, and the cookie that says so from now on; ``None`` if it is none."""
        known = self._find(token)
        if known is None:
            return None
        visitor = _checked(Visitor(known.name or name, known.role))
        told = {"name": visitor.name, "role": visitor.role, "until": now + SESSION_AGE}
        return visitor, self._seal.sealed("session", told)

    def _find(self, token: str) -> _Known | None:
        """Finds a token; takes as long for a wrong one."""
        given, found = token.encode("utf-8", "surrogatepass"), None
        for known in self._known:
            if hmac.compare_digest(known.token, given):
                found = known
        return found


def came_by_header(request: Request) -> bool:
    """Says whether whoever makes a request has shown a token with it, which no page of somebody else can."""
    return bool(getattr(request.state, "by_header", False))


def key_of(secret: str, tokens: Mapping[str, Role | Visitor]) -> bytes:
    """Makes a key for signing: the same in every process that has the same tokens, and of no use to anybody without.

    Whoever has signed in with a token that is taken back, or whose role has changed, is out by that.

    Args:
        secret: Instead of tokens, or besides.
        tokens: What people sign in with.

    Raises:
        DeclarationError: The secret could be guessed.
    """
    if secret and len(secret) < _SHORTEST:
        raise DeclarationError(f"console_app(secret=…): a secret has at least {_SHORTEST} characters")
    return digest("sagas console", secret, *sorted(f"{whose} {token}" for token, whose in tokens.items()))


def _known(token: str, whose: Role | Visitor) -> _Known:
    """Checks a token."""
    if len(token) < _SHORTEST:
        raise DeclarationError(f"console_app(tokens=…): a token has at least {_SHORTEST} characters; make one with "
                               "`python -c 'import secrets; print(secrets.token_urlsafe())'`")  # fmt: skip
    name, role = whose if isinstance(whose, Visitor) else ("", whose)
    _checked(Visitor(name or "somebody", role))
    return _Known(token.encode(), name, role)


def _checked(visitor: Any) -> Visitor:
    """Refuses who is none.

    Raises:
        DeclarationError: See above.
    """
    if not (isinstance(visitor, Visitor) and visitor.role in _ROLES and visitor.name.strip()):
        raise DeclarationError(f"the console was told of {visitor!r}: use Visitor(name, 'viewer' or 'operator')")
    return visitor._replace(name=visitor.name[:_LONGEST_NAME])
