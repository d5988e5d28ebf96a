"""Every metric of the library: its name, unit, kind and attributes, by OpenTelemetry's conventions.

One table, which the instruments, the page of the reference and the tests of the dashboard are made of. No attribute
has more values than there is code and set-up: sagas, steps, outcomes, routes, queues; never an id.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "ACTIVE",
    "BACKLOG",
    "BREAKERS",
    "COMMIT_DURATION",
    "COMMIT_RECORDS",
    "COMPENSATIONS",
    "COORDINATORS",
    "DEAD_LETTERS",
    "DURATION",
    "ENDED",
    "HALTS",
    "LAPSES",
    "LOSSES",
    "METRICS",
    "OPEN",
    "REQUEST_DURATION",
    "RETRIES",
    "STALLED",
    "STARTED",
    "START_DELAY",
    "STEP_DURATION",
    "STUCK",
    "TAKEOVERS",
    "TIME_TO_CONSISTENT",
    "UNDO_DURATION",
    "Kind",
    "Metric",
]


class Kind(StrEnum):
    """What instrument a metric has.

    A gauge is of the whole store: every coordinator on it says the same, so take the largest and never the sum. An
    up-down counter is of one process: take the sum.
    """

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"
    UP_DOWN_COUNTER = "up-down counter"


class Metric(NamedTuple):
    """A metric.

    Attributes:
        name: Lower case, with dots.
        kind: Of its instrument.
        unit: By UCUM: ``s``, or what is counted, in braces.
        about: What it says, for people.
        attributes: Their names, in the order in which values are given.
        buckets: Upper bounds, in its unit, for a histogram.
    """

    name: str
    kind: Kind
    unit: str
    about: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_SAGA, _STEP, _OUTCOME, _STEP_OUTCOME = "saga.name", "saga.step", "saga.outcome", "saga.step.outcome"

# Seconds: of what a machine does, and of what may wait for people.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LONG = (*_SHORT[2:], 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0)
_RECORDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0)

STARTED = Metric("saga.started", Kind.COUNTER, "{saga}", "Sagas that began to run.", (_SAGA,))
ENDED = Metric("saga.ended", Kind.COUNTER, "{saga}", "Sagas that ended, by outcome.", (_SAGA, _OUTCOME))
DURATION = Metric(
    "saga.duration", Kind.HISTOGRAM, "s", "From the start of a saga to its end.", (_SAGA, _OUTCOME), _LONG
)
START_DELAY = Metric(
    "saga.start.delay", Kind.HISTOGRAM, "s",
    "How long sagas that a client has started waited for a coordinator to begin them.", (_SAGA,), _LONG,
)  # fmt: skip
TIME_TO_CONSISTENT = Metric(
    "saga.time_to_consistent", Kind.HISTOGRAM, "s",
    "From the failure, cancel or timeout that a saga did not survive until everything was undone.", (_SAGA,), _LONG,
)  # fmt: skip
HALTS = Metric("saga.halts", Kind.COUNTER, "{halt}", "Times that a saga became stuck, for an operator.", (_SAGA,))
STEP_DURATION = Metric(
    "saga.step.duration", Kind.HISTOGRAM, "s", "How long attempts of steps took.", (_SAGA, _STEP, _STEP_OUTCOME), _SHORT
)
UNDO_DURATION = Metric(
    "saga.compensation.duration", Kind.HISTOGRAM, "s", "How long attempts of compensators took.",
    (_SAGA, _STEP, _STEP_OUTCOME), _SHORT,
)  # fmt: skip
RETRIES = Metric(
    "saga.retries", Kind.COUNTER, "{retry}", "Attempts that failed and were followed by another one.",
    (_SAGA, _STEP, "saga.compensation"),
)  # fmt: skip
COMPENSATIONS = Metric(
    "saga.compensations", Kind.COUNTER, "{compensation}",
    "Undos of steps: that succeeded, that failed until a saga was stuck, that an operator skipped.",
    (_SAGA, _STEP, _STEP_OUTCOME),
)  # fmt: skip
TAKEOVERS = Metric(
    "saga.takeovers", Kind.COUNTER, "{takeover}", "Sagas that a coordinator took over from another one.", (_SAGA,)
)
LOSSES = Metric(
    "saga.losses", Kind.COUNTER, "{saga}", "Sagas that a coordinator dropped, since another one had taken them over.",
    (_SAGA,),
)  # fmt: skip
LAPSES = Metric(
    "saga.lease.lapses", Kind.COUNTER, "{lapse}",
    "Times that a coordinator renewed its lease only after it had run out.",
)  # fmt: skip
COMMIT_DURATION = Metric(
    "saga.journal.commit.duration", Kind.HISTOGRAM, "s",
    "How long group commits to the journal took; with `error.type`, those that have to be tried again.",
    ("error.type",), _SHORT,
)  # fmt: skip
COMMIT_RECORDS = Metric(
    "saga.journal.commit.records", Kind.HISTOGRAM, "{record}", "How many records a group commit wrote.", (), _RECORDS
)
OPEN = Metric("saga.open", Kind.GAUGE, "{saga}", "Sagas that have not ended, by status.", ("saga.status",))
STUCK = Metric("saga.stuck", Kind.GAUGE, "{saga}", "Sagas that wait for an operator.", (_SAGA,))
BACKLOG = Metric(
    "saga.backlog", Kind.GAUGE, "{saga}",
    "Sagas that have something to do, or whose time has come, and that no live coordinator drives.",
)  # fmt: skip
COORDINATORS = Metric("saga.coordinators", Kind.GAUGE, "{coordinator}", "Coordinators that hold a lease.")
ACTIVE = Metric(
    "saga.active", Kind.UP_DOWN_COUNTER, "{saga}",
    "Sagas that have something to do in this process now; `max_running` bounds them.",
)  # fmt: skip
STALLED = Metric(
    "saga.journal.stalled", Kind.UP_DOWN_COUNTER, "{coordinator}",
    "Coordinators of this process that cannot write to their journal at the moment.",
)  # fmt: skip
BREAKERS = Metric(
    "saga.route.open_breakers", Kind.UP_DOWN_COUNTER, "{breaker}",
    "1 while a route to a participant is left alone, since too many requests had failed; else 0.", ("saga.route",),
)  # fmt: skip
REQUEST_DURATION = Metric(
    "saga.request.duration", Kind.HISTOGRAM, "s",
    "How long a worker took to answer a request; `refused` is one that gets no reply.",
    (_STEP, "saga.request.kind", "saga.request.outcome"), _SHORT,
)  # fmt: skip
DEAD_LETTERS = Metric(
    "saga.dead_letters", Kind.COUNTER, "{message}",
    "Messages that a worker gave back for the last time, so that its queue delivers them no more.",
    ("messaging.destination.name",),
)  # fmt: skip

METRICS = (
    STARTED, ENDED, DURATION, START_DELAY, TIME_TO_CONSISTENT, HALTS, STEP_DURATION, UNDO_DURATION, RETRIES,
    COMPENSATIONS, TAKEOVERS, LOSSES, LAPSES, COMMIT_DURATION, COMMIT_RECORDS, OPEN, STUCK, BACKLOG, COORDINATORS,
    ACTIVE, STALLED, BREAKERS, REQUEST_DURATION, DEAD_LETTERS,
)  # fmt: skip
