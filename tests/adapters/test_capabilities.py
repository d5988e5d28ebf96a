"""What the pages say about brokers is what the adapters declare."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest

from sagas.transport import Capabilities
from sagas_adapters.nats import NatsQueue
from sagas_adapters.redis import RedisQueue
from tests.docs.pages import DOCS

_WORDS: dict[Any, str] = {True: "yes", False: "no", None: "none"}


@pytest.mark.parametrize(
    ("page", "able"), [("queues-nats.md", NatsQueue.ABLE), ("queues-redis.md", RedisQueue.ABLE)], ids=["nats", "redis"]
)
def test_a_page_tells_the_capabilities(page: str, able: Capabilities) -> None:
    text = (DOCS / "how-to" / page).read_text(encoding="utf-8")
    table = text.partition("| Capability |")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|$", table, re.MULTILINE))
    assert told == {name: _told(value) for name, value in asdict(able).items()}


def _told(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return _WORDS[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
