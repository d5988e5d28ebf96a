"""Checks on pages draw other runs each time, and a failure says which."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture(autouse=True)
def seed_of_checks(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses the seed of every check of a page, unless the environment does: what a page prints may be what fails."""
    seed = os.environ.get("SAGAS_SEED") or str(rng.getrandbits(32))
    monkeypatch.setenv("SAGAS_SEED", seed)
    print(f"checks of sagas draw by SAGAS_SEED={seed}")  # noqa: T201 - pytest shows it if the test fails
