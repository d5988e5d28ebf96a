"""Journals that earlier versions wrote, which every later version must bring back to the same state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from sagas.core.records import chain, decode, encode
from sagas.core.replay import replay
from tests.golden.bodies import SAGAS, STEPS
from tests.golden.make import HERE, JOURNALS, summary

FILES = sorted(HERE.glob("*.json"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> Path:
    """Each golden journal."""
    path: Path = request.param
    return path


@pytest.fixture
def golden(file: Path) -> dict[str, Any]:
    """What it holds."""
    content: dict[str, Any] = orjson.loads(file.read_bytes())
    return content


def test_every_journal_is_there() -> None:
    """None was deleted."""
    assert {file.stem for file in FILES} >= set(JOURNALS)


def test_a_golden_journal_leads_to_the_same_state(file: Path, golden: dict[str, Any]) -> None:
    """States, open commands, timers, what is stuck and why, the result: as when it was written."""
    records = [decode(seq, at, kind, path, data.encode()) for seq, at, kind, path, data, _ in golden["rows"]]
    execution = replay(SAGAS[golden["saga"]], file.stem, STEPS, records, strict=True)
    assert orjson.loads(orjson.dumps(summary(execution))) == golden["end"]
    execution.close()


def test_the_digests_of_a_golden_journal_still_hold(file: Path, golden: dict[str, Any]) -> None:
    """Else every journal in every database would be taken for corrupted."""
    digest = file.stem.encode()
    for seq, at, kind, path, data, expected in golden["rows"]:
        digest = chain(digest, seq, at, kind, path, data.encode())
        assert digest.hex() == expected


def test_a_golden_record_can_be_read_and_written_again(golden: dict[str, Any]) -> None:
    """Every event and every note; new fields may join, none may be lost."""
    for seq, at, kind, path, data, _ in golden["rows"]:
        record = decode(seq, at, kind, path, data.encode())
        again = encode(record.event, record.commands, record.awaits)
        assert decode(seq, at, *again) == record
        assert orjson.loads(again[2]).items() >= orjson.loads(data).items()
