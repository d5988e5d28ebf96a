"""Drives sagas: journal to execution to journal to dispatch."""

from __future__ import annotations

from sagas.coordinator.client import Client
from sagas.coordinator.coordinator import Coordinator
from sagas.coordinator.fleet import CoordinatorView
from sagas.coordinator.handles import Handle
from sagas.coordinator.retention import Retention
from sagas.coordinator.routing import Breaker, Route
from sagas.coordinator.schedules import Schedule, ScheduleView
from sagas.coordinator.subscriptions import Subscription
from sagas.coordinator.views import AttemptView, Happening, LockView, SagaSummary, SagaView, StepView

__all__ = [
    "AttemptView",
    "Breaker",
    "Client",
    "Coordinator",
    "CoordinatorView",
    "Handle",
    "Happening",
    "LockView",
    "Retention",
    "Route",
    "SagaSummary",
    "SagaView",
    "Schedule",
    "ScheduleView",
    "StepView",
    "Subscription",
]
