"""Drives sagas: journal to execution to journal to dispatch."""

from __future__ import annotations

from sagas.coordinator.client import Client
from sagas.coordinator.coordinator import Coordinator
from sagas.coordinator.fleet import CoordinatorView
from sagas.coordinator.handles import Handle
from sagas.coordinator.retention import Retention
from sagas.coordinator.routing import Breaker, Route
from sagas.coordinator.schedules import Schedule, ScheduleView
from sagas.coordinator.statistics import Durations, SagaStats, Stats, StepStats
from sagas.coordinator.subscriptions import Subscription
from sagas.coordinator.surveys import (
    Count,
    LinePlace,
    OpenSagas,
    Rate,
    SagaCounts,
    SagaFilter,
    SagaPage,
    SagaRates,
    StuckGroup,
    StuckSagas,
)
from sagas.coordinator.unusual import Unusual
from sagas.coordinator.views import (
    AttemptView,
    Decision,
    Happening,
    LockView,
    OrderView,
    RecordView,
    SagaSummary,
    SagaView,
    SignalView,
    Standing,
    StepView,
)

__all__ = [
    "AttemptView",
    "Breaker",
    "Client",
    "Coordinator",
    "CoordinatorView",
    "Count",
    "Decision",
    "Durations",
    "Handle",
    "Happening",
    "LinePlace",
    "LockView",
    "OpenSagas",
    "OrderView",
    "Rate",
    "RecordView",
    "Retention",
    "Route",
    "SagaCounts",
    "SagaFilter",
    "SagaPage",
    "SagaRates",
    "SagaStats",
    "SagaSummary",
    "SagaView",
    "Schedule",
    "ScheduleView",
    "SignalView",
    "Standing",
    "Stats",
    "StepStats",
    "StepView",
    "StuckGroup",
    "StuckSagas",
    "Subscription",
    "Unusual",
]
