"""Shows in spans what went wrong, and makes spans current."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry.trace import Status, StatusCode

from sagas.core.failures import describe, one_line
from sagas.telemetry.sparing import spared
from sagas.telemetry.tracing import nanoseconds, read_parent, surroundings

if TYPE_CHECKING:
    from collections.abc import Generator

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from sagas.core import events as e
    from sagas.telemetry.tracing import Origin

__all__ = ["mark", "mark_error", "type_name", "unsampled", "within"]


@contextmanager
def within(context: Context) -> Generator[None]:
    """Makes a context current."""
    token = otel_context.attach(context)
    try:
        yield
    finally:
        # Where a coroutine that nobody runs any more is collected, another one is current.
        if otel_context.get_current() is context:
            otel_context.detach(token)


@contextmanager
def unsampled(origin: Origin) -> Generator[None]:
    """Lets those whom a step calls know that its saga was left out of the sample."""
    root = read_parent(origin.trace, origin.state)
    if root is None:
        yield
        return
    with within(surroundings(root, origin.baggage)):
        yield


def mark_error(span: Span, error: e.ErrorInfo | None, outcome: str) -> None:
    """Shows in a span what a participant, or the way to it, said of a failure."""
    if error is not None:
        span.set_attribute("error.type", type_name(error.type))
    span.set_status(Status(StatusCode.ERROR, f"{outcome}: {'' if error is None else one_line(error)}"))


def mark(span: Span, error: BaseException | e.ErrorInfo, *, at: float | None = None) -> None:
    """Shows a failure in a span: one of now, or of some POSIX time."""
    with spared("a failure could not be shown in a span"):
        # Which can write it, however its author made it.
        told = describe(error) if isinstance(error, BaseException) else error
        kind = type_name(told.type)
        span.add_event(
            "exception",
            {
                "exception.type": kind,
                "exception.message": told.message,
                "exception.stacktrace": told.traceback,
                "exception.escaped": "False",
            },
            None if at is None else nanoseconds(at),
        )
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, one_line(told)))


def type_name(kind: str) -> str:
    """Names a type as OpenTelemetry does."""
    return kind.removeprefix("builtins:").replace(":", ".")
