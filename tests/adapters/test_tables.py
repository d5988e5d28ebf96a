"""What the documentation says that a queue can do is what the queue itself says."""

from __future__ import annotations

import dataclasses
import re

import pytest

from sagas.transport import Queue
from sagas_adapters.kafka import KafkaQueue
from sagas_adapters.rabbitmq import RabbitQueue
from sagas_adapters.sqs import SqsQueue
from tests.docs.pages import DOCS

ROW = re.compile(r"^\| `(\w+)` \|(.+)\|$", re.MULTILINE)


def _tables(page: str) -> dict[str, list[str]]:
    text = (DOCS / "how-to" / page).read_text(encoding="utf-8").partition("## What it can do")[2].partition("\n- ")[0]
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in ROW.findall(text)}


@pytest.mark.parametrize(
    ("page", "queues"),
    [
        ("queues-rabbitmq.md", [RabbitQueue("amqp://localhost", "q")]),
        ("queues-sqs.md", [SqsQueue("q"), SqsQueue("q.fifo")]),
        ("queues-kafka.md", [KafkaQueue("localhost", "q")]),
    ],
)
def test_the_table_of_capabilities_is_true(page: str, queues: list[Queue]) -> None:
    words: dict[object, str] = {True: "yes", False: "no", None: "no"}
    expected = {
        field.name: [_words(getattr(queue.capabilities, field.name), words) for queue in queues]
        for field in dataclasses.fields(queues[0].capabilities)
    }
    assert _tables(page) == expected


def _words(value: object, words: dict[object, str]) -> str:
    return (
        words[value]
        if value is None or isinstance(value, bool)
        else format(value, "g" if isinstance(value, float) else "")
    )
