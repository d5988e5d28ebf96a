"""``@step`` and ``@saga``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from sagas.core.definitions import Saga, Step, StepOptions
from sagas.core.limits import Limit, as_limit
from sagas.core.retry import NO_RETRY, Retry
from sagas.core.signatures import caller_scope
from sagas.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Concatenate

__all__ = ["saga", "step"]

P = ParamSpec("P")
R = TypeVar("R")
SessionT = TypeVar("SessionT")


class _StepDecorator(Protocol):
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Step[P, R]: ...


class _TransactionalDecorator(Protocol):
    def __call__(self, function: Callable[Concatenate[SessionT, P], R], /) -> Step[P, R]: ...


class _SagaDecorator(Protocol):
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Saga[P, R]: ...


@overload
def step(function: Callable[P, Coroutine[Any, Any, R]], /) -> Step[P, R]: ...
@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    transactional: Literal[True],
    name: str | None = None,
    retry: Retry = NO_RETRY,
    total_timeout: float | None = None,
    rejects: Sequence[type[Exception]] = (),
    pivot: bool = False,
    limit: int | Limit | None = None,
) -> _TransactionalDecorator: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry = NO_RETRY,
    timeout: float | None = None,
    total_timeout: float | None = None,
    heartbeat: float | None = None,
    rejects: Sequence[type[Exception]] = (),
    pivot: bool = False,
    atomic: bool = False,
    transactional: Literal[False] = False,
    limit: int | Limit | None = None,
    remote: bool = False,
) -> _StepDecorator: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry = NO_RETRY,
    timeout: float | None = None,
    total_timeout: float | None = None,
    heartbeat: float | None = None,
    rejects: Sequence[type[Exception]] = (),
    pivot: bool = False,
    atomic: bool = False,
    transactional: bool = False,
    limit: int | Limit | None = None,
    remote: bool = False,
) -> Any:
    """Makes a business function a step of sagas.

    The function may be ``async def``, or ``def``, which runs in a worker thread. What it raises means:

    - ``Rejected``, or a type named in ``rejects``: definitely nothing happened. The body sees this very exception.
    - anything else: it may have acted. It is retried if there is budget; then a probe is asked, if there is one;
      else the step is *in doubt*: the body sees ``StepInDoubt``, and a rollback undoes it with ``result=None``.

    Args:
        function: What to decorate, when used without parentheses.
        name: What journals and traces call it; the function's own name by default. Renaming it later strands
            the sagas that are under way.
        retry: How often to try. One attempt by default, since not every function may run twice; every attempt
            has the same ``current_step().idempotency_key``.
        timeout: Seconds for one attempt. A ``def`` step cannot be interrupted: its end is waited for all the same,
            so it should watch ``current_step().deadline``, and give its own I/O timeouts.
        total_timeout: Seconds for all attempts with the pauses between them.
        heartbeat: Seconds within which the function must call ``current_step().heartbeat()`` again and again.
        rejects: Business errors that mean: nothing happened.
        pivot: Once it succeeded, nothing before it is undone, and the saga only goes forward.
        atomic: Raising means that nothing happened, whatever is raised (a timeout still leaves doubt).
        transactional: The function gets, as its first argument, a ``Session`` on the journal's database, whose
            writes commit together with the step's record: exactly once. It must be ``def``.
        limit: How many attempts of it may run side by side in a process, or a ``Limit``. Waiting for it counts against
            ``total_timeout``, but not against ``timeout``.
        remote: The function, its compensator and its probe are only declared here, and performed by a participant: a
            coordinator that has no route for the step is refused.

    Returns:
        A ``Step``: call it to build a call, ``await`` the call in a saga body.

    Raises:
        DeclarationError: See its text.
    """
    scope = caller_scope(1)
    if isinstance(rejects, type):
        raise DeclarationError(f"rejects={rejects.__name__} is one type; write a tuple: rejects=({rejects.__name__},)")
    options = StepOptions(
        retry=retry, timeout=timeout, total_timeout=total_timeout, heartbeat=heartbeat, rejects=tuple(rejects),
        pivot=pivot, atomic=atomic, transactional=transactional, limit=as_limit(limit, "@step"),
        remote=remote,
    )  # fmt: skip

    def declare(function: Callable[..., Any]) -> Step[..., Any]:
        return Step(function, name=name, options=options, scope=scope)

    return declare if function is None else declare(function)


@overload
def saga(function: Callable[P, Coroutine[Any, Any, R]], /) -> Saga[P, R]: ...
@overload
def saga(
    *, name: str | None = None, version: str = "1", continues: Sequence[str] = (), timeout: float | None = None
) -> _SagaDecorator: ...
def saga(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    continues: Sequence[str] = (),
    timeout: float | None = None,
) -> Any:
    """Makes an ``async def`` a saga body.

    Args:
        function: What to decorate, when used without parentheses.
        name: What journals and traces call it; the function's own name by default.
        version: Which version of the body this is.
        continues: Other versions whose live sagas this body can go on with, since it guards what has changed with
            ``version(…)``, say. They do where no definition of their own version is at hand.
        timeout: Seconds from its start after which it is undone.

    Returns:
        A ``Saga``: call it to build a call for ``coordinator.start`` or, as a child saga, to await in a body.

    Raises:
        DeclarationError: See its text.
    """
    scope = caller_scope(1)

    def declare(function: Callable[..., Any]) -> Saga[..., Any]:
        return Saga(function, name=name, version=version, timeout=timeout, scope=scope, continues=continues)

    return declare if function is None else declare(function)
