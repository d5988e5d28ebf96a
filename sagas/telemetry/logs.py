"""Log records that say which saga they belong to, and which trace."""

from __future__ import annotations

import logging

from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

from sagas.context import current_step, running_step

__all__ = ["SagaLogFilter"]


class SagaLogFilter(logging.Filter):
    """Adds to every log record which saga, step and trace it comes from: ``handler.addFilter(SagaLogFilter())``.

    A record gets ``saga_id``, ``saga_step``, ``saga_path`` and ``saga_attempt`` of the step, compensator or probe that
    runs, and ``trace_id`` and ``span_id`` of the current span, for a formatter to show. Outside of steps and traces
    they are empty, and the attempt is 0. Put it on handlers: a logger's own filter does not see what comes from the
    loggers below it. It lets every record pass.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """See ``logging.Filter``."""
        step = current_step() if running_step.get() is not None else None
        record.saga_id = "" if step is None else step.saga_id
        record.saga_step = "" if step is None else step.step
        record.saga_path = "" if step is None else step.path
        record.saga_attempt = 0 if step is None else step.attempt
        span = trace.get_current_span().get_span_context()
        record.trace_id = format_trace_id(span.trace_id) if span.is_valid else ""
        record.span_id = format_span_id(span.span_id) if span.is_valid else ""
        return True
