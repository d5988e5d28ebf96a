"""``console``: what it says before it serves; how it serves is tried in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable

import pytest

from tests.cli import orders
from tests.cli.conftest import CommandLine

TOKEN = "a token that is long enough"  # noqa: S105 - of a console that lives for a moment


def test_it_listens_where_others_are_only_with_a_token(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(first=orders.good())
    assert "Give a token (--token" in sagas.fails("console", "--host", "0.0.0.0")  # noqa: S104 - refused
    assert "at least 16" in sagas.fails("console", "--token", "short")
    assert "are the same" in sagas.fails("console", "--token", TOKEN, "--viewer-token", TOKEN)


def test_what_is_wrong_is_said_before_it_listens(sagas: CommandLine, journal: Callable[..., None]) -> None:
    assert "there is no database" in sagas.fails("console", store="sqlite:///nothing.db")
    assert "kept by no file" in sagas.fails("console", store="memory:")
    journal(first=orders.good())
    assert "trace_url" in sagas.fails("console", "--trace-url", "nowhere")
    assert "names no codec" in sagas.fails("console", "--codec", "nothing")


def test_it_serves_until_it_is_told_to_end(sagas: CommandLine, journal: Callable[..., None]) -> None:
    journal(first=orders.good())
    command = [sys.executable, "-m", "sagas", "console", "--store", sagas.url, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]
        with urllib.request.urlopen(url) as page:  # noqa: S310 - http, on loopback
            assert "first" in page.read().decode()
        port = url.rpartition(":")[2].strip("/")
        assert "cannot listen" in sagas.fails("console", "--port", port)
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("missing", ["jinja2", "starlette", "uvicorn"])
def test_without_its_extra_it_says_what_to_install(
    missing: str, sagas: CommandLine, journal: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sagas_adapters.console import rendering

    journal(first=orders.good())
    rendering.templates.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    assert "pip install 'sagakit[console]'" in sagas.fails("console")
