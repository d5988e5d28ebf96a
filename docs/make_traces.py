# ruff: noqa: INP001 - a script beside the pages, in no package
"""Draws the pictures of ``how-to/jaeger.md`` from the spans that the shop really exports.

``python docs/make_traces.py`` runs the shop with a collector of its own, and writes ``pictures/trace-*.svg``. A test
does the same, and holds the pictures against what it gets: all but the times.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "adapters")]

from docs.examples.shop.run import Shop  # noqa: E402 - needs the path
from tests.support.otlp import OtlpReceiver, ReceivedSpan, SpanNode, tree  # noqa: E402 - as above

__all__ = ["PICTURES", "drawn", "outline", "picture", "traces"]

PICTURES = HERE / "pictures"
ORDER = {"item": "lamp", "pieces": 2, "cents": 9000, "card": "gold", "country": "DE"}
_SOON = 60.0
_COLOURS = {"orders": "#4269d0", "stock": "#3ca951", "payments": "#b7791f"}
_FAILED, _TEXT = "#d1242f", "#57606a"
_LEFT, _WIDTH, _ROW, _TOP = 330, 560, 26, 44


def _ask(url: str, body: object | None = None) -> Any:
    """Sends a request, again until it is answered."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    until = time.monotonic() + _SOON
    while True:
        try:
            method = "GET" if data is None else "PUT"
            asked = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - the shop's own address
            with urllib.request.urlopen(asked, timeout=10) as response:  # noqa: S310 - as above
                return json.load(response)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _wait(told: Callable[[], object]) -> None:
    """Waits until something is so."""
    until = time.monotonic() + _SOON
    while not told():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.02)


def _place(shop: Shop, number: str, **wants: object) -> None:
    """Orders something."""
    _ask(f"{shop.orders_url}/orders/{number}", ORDER | {"number": number} | wants)


def _ended(shop: Shop, number: str) -> None:
    """Waits until an order is done."""
    _wait(lambda: _ask(f"{shop.orders_url}/orders/{number}")["status"] in {"completed", "compensated"})


def _kill_while_paying(shop: Shop, receiver: OtlpReceiver) -> None:
    """Kills the orders service while a request of its waits for payments, which is stopped, and starts it again."""
    _wait(lambda: _stopped(shop))
    _place(shop, "killed")
    # What it has shown so far has left the process, and the request is in the queue.
    receiver.wait_for(lambda spans: any(_is(x, "killed", "step stock.reserve", "orders") for x in spans))
    _wait(lambda: _waiting(shop))
    shop.kill("orders")
    shop.signal("payments", signal.SIGCONT)
    receiver.wait_for(lambda spans: any(_is(x, "killed", "process payments", "payments") for x in spans))
    shop.start("orders")
    shop.wait_until_ready()
    _ended(shop, "killed")


def _stopped(shop: Shop) -> bool:
    """Stops payments, unless it holds the lock of a database just now."""
    shop.signal("payments", signal.SIGSTOP)
    for database in ("queue.db", "payments.db"):
        with closing(sqlite3.connect(shop.home / database, timeout=0.05, isolation_level=None)) as tried:
            try:
                tried.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                shop.signal("payments", signal.SIGCONT)
                return False
    return True


def _waiting(shop: Shop) -> int:
    """Counts the requests that wait for payments."""
    with closing(sqlite3.connect(shop.home / "queue.db", timeout=10)) as queue:
        found: int = queue.execute("SELECT count(*) FROM saga_message WHERE queue = 'payments'").fetchone()[0]
        return found


def _is(span: ReceivedSpan, number: str, name: str, service: str) -> bool:
    """Finds a span."""
    found = (span.attributes.get("saga.id"), span.name, span.resource["service.name"])
    return found == (number, name, service)


def _complete(spans: list[ReceivedSpan], number: str) -> SpanNode | None:
    """Gives an order's trace, if all of it has come."""
    ids = {x.trace_id for x in spans if x.attributes.get("saga.id") == number}
    found = [x for x in spans if x.trace_id in ids]
    try:
        root = tree(found)
    except AssertionError:
        return None
    remote = [x for x in root.walk() if x.span.kind in {"CLIENT", "PRODUCER"} and "saga.lost" not in x.span.attributes]
    return root if all(x.children for x in remote) else None


def traces(home: Path) -> dict[str, SpanNode]:
    """Runs the shop, and gives the traces of three orders: one that works out, one that is undone, one in a crash.

    Each has come whole, and is a tree, with the request that has begun it above.
    """
    with OtlpReceiver() as receiver:
        shop = Shop(home, lease=1.0)
        shop.environ |= {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http_endpoint.removesuffix("/v1/traces"),
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with shop:
            _place(shop, "warm-up")
            _ended(shop, "warm-up")
            _place(shop, "completed")
            _place(shop, "compensated", country="XX")
            _ended(shop, "completed")
            _ended(shop, "compensated")
            receiver.wait_for(lambda spans: _complete(spans, "completed") and _complete(spans, "compensated"))
            _kill_while_paying(shop, receiver)
        names = ("completed", "compensated", "killed")
        spans = receiver.wait_for(lambda spans: all(_complete(spans, name) for name in names))
        complete = {name: root for name in names if (root := _complete(spans, name)) is not None}
        return {name: _ours(root.find("saga place_order")) for name, root in complete.items()}


def _ours(node: SpanNode) -> SpanNode:
    """Leaves out the spans of other libraries, such as FastAPI's own."""
    return SpanNode(node.span, tuple(_ours(child) for child in node.children if child.span.scope == "sagas"))


def outline(root: SpanNode) -> list[Any]:
    """Gives what a picture shows of a trace but its times; what runs side by side in the order of its names."""
    span = root.span
    links = [x.span.name for x in _linked(root, span)]
    below = sorted((outline(child) for child in root.children), key=json.dumps)
    told = [span.name, span.resource["service.name"], span.kind, span.status, bool(span.attributes.get("saga.lost"))]
    return [*told, links, [event.name for event in span.events], below]


def _linked(root: SpanNode, span: ReceivedSpan) -> list[SpanNode]:
    """Finds what a span is linked to, below a root."""
    return [x for link in span.links for x in root.walk() if x.span.span_id == link.span_id]


def drawn(name: str) -> object:
    """Reads from a picture what it shows."""
    text = (PICTURES / f"trace-{name}.svg").read_text(encoding="utf-8")
    return json.loads(text.partition("<metadata>")[2].partition("</metadata>")[0].replace("&amp;", "&"))


def _bar(span: ReceivedSpan, row: int, depth: int, scale: Callable[[int], float]) -> list[str]:
    """Draws a span."""
    top, x, end = _TOP + row * _ROW, scale(span.start_ns), scale(span.end_ns)
    service = str(span.resource["service.name"])
    colour, lost = _COLOURS[service], bool(span.attributes.get("saga.lost"))
    look = f'fill="none" stroke="{colour}" stroke-dasharray="4 3"' if lost else f'fill="{colour}"'
    attempt = f" · attempt {span.attributes['saga.attempt']!s}" if "saga.attempt" in span.attributes else ""
    told = f"{service}: {span.name}, {(span.end_ns - span.start_ns) / 1e6:.1f} ms{attempt}"
    lines = [
        f"<g><title>{escape(told)}</title>",
        f'<text x="{12 + 16 * depth}" y="{top + 15}">{escape(span.name)}</text>',
        f'<rect x="{x:.1f}" y="{top + 5}" width="{max(end - x, 3):.1f}" height="13" rx="3" {look}/>',
    ]
    if span.status == "ERROR":
        cross = f"M{12 + 16 * depth - 9} {top + 7} l6 6 m0 -6 l-6 6"
        lines.append(f'<path d="{cross}" stroke="{_FAILED}" stroke-width="2"/>')
        lines.append(f'<rect x="{x:.1f}" y="{top + 19}" width="{max(end - x, 3):.1f}" height="2" fill="{_FAILED}"/>')
    lines += [
        f'<path d="M{scale(event.at_ns):.1f} {top + 2} v19" stroke="{_FAILED}"/>'
        for event in span.events
        if event.name in {"taken over", "lost"}
    ]
    return [*lines, "</g>"]


def picture(root: SpanNode) -> str:
    """Draws a trace as Jaeger does: a row a span, its service by colour, failures in red, lost attempts dashed."""
    rows = _rows(root, 0)
    start, end = root.span.start_ns, max(x.span.end_ns for x, _ in rows)

    def scale(at: int) -> float:
        return _LEFT + _WIDTH * (at - start) / max(end - start, 1)

    height = _TOP + len(rows) * _ROW + 12
    bars = [line for number, (node, depth) in enumerate(rows) for line in _bar(node.span, number, depth, scale)]
    links = [line for number, (node, _) in enumerate(rows) for line in _arrows(rows, number, node, scale)]
    ticks = [
        f'<text x="{_LEFT + _WIDTH * part / 4:.0f}" y="32" text-anchor="middle" fill="{_TEXT}">'
        f"{(end - start) / 4e6 * part:.0f} ms</text>"
        f'<path d="M{_LEFT + _WIDTH * part / 4:.0f} 38 V{height - 8}" stroke="#8884" />'
        for part in range(5)
    ]
    legend = [
        f'<rect x="{12 + 100 * number}" y="8" width="12" height="12" rx="3" fill="{colour}"/>'
        f'<text x="{30 + 100 * number}" y="18">{service}</text>'
        for number, (service, colour) in enumerate(_COLOURS.items())
    ]
    box = f"0 0 {_LEFT + _WIDTH + 40} {height}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="system-ui" font-size="13">',
            f"<metadata>{escape(json.dumps(outline(root)))}</metadata>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *legend, *ticks, *links, *bars,
            "</svg>\n",
        ]
    )  # fmt: skip


def _rows(node: SpanNode, depth: int) -> list[tuple[SpanNode, int]]:
    """Lists what is below a span, from the top."""
    return [(node, depth), *(row for child in node.children for row in _rows(child, depth + 1))]


def _arrows(rows: list[tuple[SpanNode, int]], number: int, node: SpanNode, scale: Callable[[int], float]) -> list[str]:
    """Draws the links of a compensation to what it undoes."""
    places = {other.span.span_id: place for place, (other, _) in enumerate(rows)}
    lines: list[str] = []
    for link in node.span.links:
        to = places[link.span_id]
        x, y = scale(node.span.start_ns), _TOP + number * _ROW + 11
        there, up = scale(rows[to][0].span.end_ns), _TOP + to * _ROW + 11
        curve = f"M{x:.1f} {y} C{x - 40:.1f} {y} {there + 40:.1f} {up} {there + 3:.1f} {up}"
        lines.append(f'<path d="{curve}" fill="none" stroke="{_TEXT}" stroke-dasharray="2 3"/>')
    return lines


def main() -> None:
    """Draws all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shop-") as home:
        for name, root in traces(Path(home)).items():
            (PICTURES / f"trace-{name}.svg").write_text(picture(root), encoding="utf-8")
            sys.stdout.write(f"{name}\n{root}\n")


if __name__ == "__main__":
    main()
