"""Checks sagas by their text alone: what would differ on a replay, cannot be undone, or cannot be written.

Nothing is imported or run. Each module here has one reason: ``targets`` and ``project`` find files, ``scopes`` and
``names`` say what names mean, ``declarations`` finds steps and sagas, the checks are in ``bodies``, ``state``,
``order``, ``steps``, ``annotations`` and ``signatures``, and ``reports`` writes what was found.
"""

from __future__ import annotations

from sagas.linting.checking import Checked, check
from sagas.linting.findings import Finding
from sagas.linting.rules import RULES, Rule, Severity
from sagas.linting.targets import NoSuchTarget

__all__ = ["RULES", "Checked", "Finding", "NoSuchTarget", "Rule", "Severity", "check"]
