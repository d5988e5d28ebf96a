"""Steps, compensators, probes and sagas, as their decorators leave them."""

from __future__ import annotations

import inspect
import types
import typing
from dataclasses import dataclass
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, Protocol, TypeVar, Union, cast, overload

from sagas.core.limits import Limit, as_limit
from sagas.core.names import check_continues, check_name
from sagas.core.operations import LONGEST, SagaCall, StepCall
from sagas.core.retry import NO_RETRY, UNDO_RETRY, Retry
from sagas.core.schema import ArgumentsSchema, ValueSchema
from sagas.core.signatures import Parameters
from sagas.errors import DeclarationError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from typing import Concatenate

__all__ = ["Compensator", "NotApplied", "Probe", "Saga", "Step", "StepOptions"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound="Callable[..., object]")
WithSession = TypeVar("WithSession", bound="Callable[Concatenate[Any, ...], object]")


class _TransactionalDecorator(Protocol):
    def __call__(self, function: WithSession, /) -> WithSession: ...


@dataclass(frozen=True, slots=True)
class NotApplied:
    """What a probe returns to say: the attempt with this key took no effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a step is attempted, and what its outcomes mean. See ``sagas.step`` for each field."""

    retry: Retry = NO_RETRY
    timeout: float | None = None
    total_timeout: float | None = None
    heartbeat: float | None = None
    rejects: tuple[type[Exception], ...] = ()
    pivot: bool = False
    atomic: bool = False
    transactional: bool = False
    limit: Limit | None = None
    remote: bool = False

    def check(self, where: str) -> None:
        """Refuses options that make no sense, alone or together.

        Raises:
            DeclarationError: See its text.
        """
        for name in ("timeout", "total_timeout", "heartbeat"):
            _check_seconds(getattr(self, name), f"{where}: {name}")
        _check_retry(self.retry, where)
        for kind in self.rejects:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise DeclarationError(f"{where}: rejects={kind!r} is not an exception type")
        if self.transactional and self.remote:
            raise DeclarationError(f"{where}: a remote step is transactional where it is performed, not here")
        if self.transactional and (self.heartbeat or self.timeout):
            raise DeclarationError(
                f"{where}: a transactional step runs inside the journal's own transaction, where it cannot be "
                "interrupted; it takes neither timeout= nor heartbeat="
            )


def _check_retry(value: object, where: str) -> None:
    """Refuses what is no retry policy.

    Raises:
        DeclarationError: The value is something else.
    """
    if not isinstance(value, Retry):
        raise DeclarationError(f"{where}: retry={value!r} is not a Retry, such as Retry(attempts=5)")


def _check_seconds(value: object, what: str) -> None:
    """Refuses what is no positive number of seconds.

    Raises:
        DeclarationError: The value is something else.
    """
    if value is not None and not (isinstance(value, (int, float)) and 0 < value <= LONGEST):
        raise DeclarationError(f"{what}={value!r} is not a positive number of seconds, at most {LONGEST:g}")


class _Attached:
    """A function that belongs to a step and takes some of its parameters, by name."""

    __slots__ = ("function", "is_async", "parameters", "step_name", "wants")

    def __init__(
        self, step: Step[..., Any], function: Callable[..., object], role: str, extra: frozenset[str], *, skip: int = 0
    ) -> None:
        if not inspect.isroutine(function):
            raise DeclarationError(f"the {role} of {step.where} must be a function, not {function!r}")
        where = f"{role} {function.__name__} of {step.where}"
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.step_name = step.name
        self.parameters = Parameters(function, where, skip=skip, scope=step.scope)
        self.wants = frozenset(self.parameters.names)
        unknown = self.wants - set(step.parameters.names) - extra - set(self.parameters.defaults)
        if unknown:
            known = ", ".join([*step.parameters.names, *sorted(extra)]) or "none"
            raise DeclarationError(
                f"{where}: the step has no parameter {', '.join(sorted(unknown))}. A {role} takes by name any of "
                f"the step's own parameters; here: {known}."
            )

    def check(self, step: Step[..., Any]) -> None:
        """Refuses a parameter whose annotation differs from the step's own.

        Raises:
            DeclarationError: The two annotations differ, or one names something that does not exist.
        """
        own, theirs = self.parameters.hints(), step.parameters.hints()
        for name in self.wants & set(step.parameters.names):
            if name in own and name in theirs and own[name] != theirs[name]:
                raise DeclarationError(
                    f"{self.parameters.where}: {name} is annotated {own[name]!r}, but the step takes {theirs[name]!r}"
                )

    def select(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """Picks from the step's arguments those that this function takes."""
        return {name: value for name, value in arguments.items() if name in self.wants}


class Compensator(_Attached):
    """Undoes a step.

    Attributes:
        retry: Its own budget of attempts; used up, the saga is stuck.
        timeout: Seconds for one attempt.
        limit: How many attempts may run side by side, and how many may begin within a time.
        transactional: Whether it is given a session, whose writes commit with the record that it has undone.
    """

    __slots__ = ("limit", "retry", "timeout", "transactional", "wants_result")

    def __init__(
        self,
        step: Step[..., Any],
        function: Callable[..., object],
        *,
        retry: Retry,
        timeout: float | None,
        limit: int | Limit | None = None,
        transactional: bool = False,
    ) -> None:
        super().__init__(step, function, "compensator", frozenset({"result"}), skip=1 if transactional else 0)
        _check_retry(retry, self.parameters.where)
        _check_seconds(timeout, f"{self.parameters.where}: timeout")
        self.retry = retry
        self.timeout = timeout
        self.limit = as_limit(limit, self.parameters.where)
        self.transactional = transactional
        self.wants_result = "result" in self.wants and "result" not in step.parameters.names
        if transactional:
            self._check_transactional(step)

    def _check_transactional(self, step: Step[..., Any]) -> None:
        """Refuses what cannot run in a transaction.

        Raises:
            DeclarationError: See its text.
        """
        where = self.parameters.where
        if step.options.remote:
            raise DeclarationError(f"{where}: it is transactional where the step is performed, not here")
        if self.is_async:
            raise DeclarationError(f"{where}: a transactional compensator runs in a writer thread, so it must be `def`")
        if not self.parameters.skipped:
            raise DeclarationError(f"{where}: the first parameter of a transactional compensator is the Session")
        if self.timeout is not None:
            raise DeclarationError(
                f"{where}: a transactional compensator cannot be interrupted, so it takes no timeout="
            )

    def check(self, step: Step[..., Any]) -> None:
        """Makes sure, in addition, that a step in doubt, which has no result, can be undone.

        Raises:
            DeclarationError: ``result`` is annotated with a type that leaves out ``None``, or as for any other.
        """
        super().check(step)
        if not self.wants_result or step.options.transactional:
            return
        hint = self.parameters.hints().get("result", Any)
        if not _allows_none(hint):
            raise DeclarationError(
                f"{self.parameters.where}: `result: {_show(hint)}` cannot be None, but the step can fail in doubt (a "
                "timeout, a crash), and then it is undone without a result. "
                f"Annotate `result: {_show(hint)} | None` and handle None."
            )


class Probe(_Attached):
    """Finds out whether an attempt took effect."""

    __slots__ = ()

    def __init__(self, step: Step[..., Any], function: Callable[..., object]) -> None:
        super().__init__(step, function, "probe", frozenset())


def _allows_none(hint: object) -> bool:
    """Says whether an annotation admits ``None``."""
    if hint in (None, type(None), Any, object):
        return True
    if typing.get_origin(hint) in (Union, types.UnionType):
        return any(_allows_none(item) for item in typing.get_args(hint))
    return False


def _show(hint: object) -> str:
    """Writes an annotation as its author would."""
    return hint.__name__ if isinstance(hint, type) else str(hint)


class _Declared(Generic[P, R]):
    """What steps and sagas have in common: a function with a name, whose arguments and result are written."""

    __name__: str

    def __init__(
        self,
        function: Callable[..., object],
        kind: str,
        *,
        name: str | None,
        scope: Mapping[str, object] | None,
        skip: int = 0,
    ) -> None:
        self.function: Callable[..., Any] = function
        self.name = check_name(name if name is not None else function.__name__, kind)
        self.where = f"{kind} {self.name}"
        self.scope = scope
        self.parameters = Parameters(function, self.where, skip=skip, scope=scope)
        update_wrapper(cast("Callable[..., object]", self), function)  # each of the two can be called

    @cached_property
    def arguments_schema(self) -> ArgumentsSchema:
        """How the arguments are written."""
        parameters = self.parameters
        return ArgumentsSchema(parameters.annotations(), f"the arguments of {self.where}", defaults=parameters.defaults)

    @cached_property
    def result_schema(self) -> ValueSchema[R]:
        """How the result is written."""
        return ValueSchema(self.parameters.returns(), f"the result of {self.where}")

    def resolve(self) -> None:
        """Builds both schemas, so that a type that cannot be written shows now.

        Raises:
            DeclarationError: An annotation cannot be resolved or written.
        """
        _ = self.arguments_schema, self.result_schema


class Step(_Declared[P, R]):
    """A business function as a step of sagas. Calling it builds a call; nothing runs yet.

    Made by ``sagas.step``.

    Attributes:
        name: What journals and traces call it.
        function: The plain function.
        options: How it is attempted.
        undo: Its compensator, if there is one.
        query: Its probe, if there is one.
        raises: What the body may see it raise, beside ``StepFailed``.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None,
        options: StepOptions,
        scope: Mapping[str, object] | None,
    ) -> None:
        yields = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
        if yields or not inspect.isroutine(function):
            what = "one that yields" if yields else repr(function)
            raise DeclarationError(f"@step decorates a function (def or async def) that returns, not {what}")
        super().__init__(function, "step", name=name, scope=scope, skip=1 if options.transactional else 0)
        self.options = options
        self.is_async = inspect.iscoroutinefunction(function)
        options.check(self.where)
        if options.transactional and self.is_async:
            raise DeclarationError(
                f"{self.where}: a transactional step runs in the journal's writer thread, so it must be `def`"
            )
        if options.transactional and not self.parameters.skipped:
            raise DeclarationError(f"{self.where}: the first parameter of a transactional step is the Session")
        self.undo: Compensator | None = None
        self.query: Probe | None = None
        self.raises: tuple[type[Exception], ...] = (Rejected, *options.rejects)
        if self.parameters.resolved:
            self.resolve()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> StepCall[R]:
        """Builds a call of this step: ``await`` it in a saga body."""
        return StepCall(self, self.parameters.bind(args, kwargs))

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def resolve(self) -> None:
        """Builds both schemas, and checks what the compensator and the probe want against them.

        Raises:
            DeclarationError: An annotation cannot be resolved or written, or does not fit.
        """
        super().resolve()
        for attached in (self.undo, self.query):
            if attached is not None:
                attached.check(self)

    @overload
    def compensator(self, function: F, /) -> F: ...
    @overload
    def compensator(
        self,
        /,
        *,
        transactional: Literal[True],
        retry: Retry = UNDO_RETRY,
        limit: int | Limit | None = None,
    ) -> _TransactionalDecorator: ...
    @overload
    def compensator(
        self,
        /,
        *,
        retry: Retry = UNDO_RETRY,
        timeout: float | None = None,
        limit: int | Limit | None = None,
        transactional: Literal[False] = False,
    ) -> Callable[[F], F]: ...
    def compensator(
        self,
        function: Callable[..., object] | None = None,
        /,
        *,
        retry: Retry = UNDO_RETRY,
        timeout: float | None = None,
        limit: int | Limit | None = None,
        transactional: bool = False,
    ) -> Any:
        """Declares the function that undoes this step.

        It takes by name any of the step's parameters, and ``result``: what the step returned, or ``None`` if it
        is in doubt. It must do no harm when there is nothing to undo, and, unless it is transactional, when it runs
        twice.

        Args:
            function: ``async def`` or ``def``; returned as it is.
            retry: Its own budget; when it is used up, the saga is stuck and waits for an operator.
            timeout: Seconds for one attempt.
            limit: How many attempts of it may run side by side in a process, or a ``Limit``. That of the step does
                not hold for it, so that an undo never waits behind new work, unless both have the same name.
            transactional: Whether it is given a ``Session`` first, whose writes commit with the record that it has
                undone: of the journal's database, or of the participant's own where it is served by a ``Worker``. It
                must be ``def``, and takes no ``timeout``, since it cannot be interrupted.

        Raises:
            DeclarationError: It wants something that the step does not have, or there is one already.
        """

        def declare(function: F) -> F:
            if self.undo is not None:
                raise DeclarationError(f"{self.where} has a compensator already: {self.undo.function.__name__}")
            undo = Compensator(self, function, retry=retry, timeout=timeout, limit=limit, transactional=transactional)
            self._attach(undo)
            self.undo = undo
            return function

        return declare if function is None else declare(function)

    def probe(self, function: F, /) -> F:
        """Declares the function that finds out whether an attempt took effect.

        It takes by name any of the step's parameters, reads ``current_step().idempotency_key``, and returns the
        step's result, or ``NotApplied()``. It is asked before anything is tried again, and must only read.

        Raises:
            DeclarationError: It wants something that the step does not have, or there is one already.
        """
        if self.query is not None:
            raise DeclarationError(f"{self.where} has a probe already: {self.query.function.__name__}")
        if self.options.transactional:
            raise DeclarationError(f"{self.where} is transactional, so it is never in doubt and needs no probe")
        query = Probe(self, function)
        self._attach(query)
        self.query = query
        return function

    def _attach(self, attached: _Attached) -> None:
        """Checks types at import, or leaves that to ``resolve`` if some are not known yet."""
        if self.parameters.resolved and attached.parameters.resolved:
            attached.check(self)


class Saga(_Declared[P, R]):
    """A saga body. Calling it builds a call; a coordinator runs it. Made by ``sagas.saga``.

    Attributes:
        name: What journals and traces call it.
        version: Which version of the body this is.
        continues: Other versions whose live sagas it can go on with, where there is no definition of theirs.
        function: The plain ``async def``.
        timeout: Seconds from its start after which it is undone.
    """

    def __init__(
        self,
        function: Callable[..., Coroutine[Any, Any, object]],
        *,
        name: str | None,
        version: str,
        timeout: float | None,
        scope: Mapping[str, object] | None,
        continues: Sequence[str] = (),
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise DeclarationError(
                f"@saga decorates an `async def`, and {getattr(function, '__name__', function)!r} is none: a body "
                "waits for its steps with await"
            )
        super().__init__(function, "saga", name=name, scope=scope)
        self.version = check_name(version, f"version of {self.where}")
        self.continues = check_continues(continues, self.where, self.version)
        _check_seconds(timeout, f"{self.where}: timeout")
        self.timeout = timeout
        if self.parameters.resolved:
            self.resolve()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> SagaCall[R]:
        """Builds a call of this saga, for ``coordinator.start`` or, in another body, ``await``."""
        return SagaCall(self, self.parameters.bind(args, kwargs))

    def __repr__(self) -> str:
        return f"<saga {self.name} version {self.version}>"
