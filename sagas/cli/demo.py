"""``sagas demo``: three orders, for real, in a temporary directory.

One process, the shop's service, takes the orders; this one looks at the same two databases, kills the service while
a step is in flight, and starts it anew.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rich.text import Text

from sagas.cli.demo_shop import Order, open_shop
from sagas.cli.problems import Problem
from sagas.cli.reading import existing_store, read_view
from sagas.cli.rendering import console, duration, print_json, render_saga
from sagas.errors import SagaError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from rich.console import Console

    from sagas.coordinator.views import SagaView

__all__ = ["EXPECTED", "ORDERS", "run_demo"]

_STOCK = {"book": 10}
_COMPLETES = Order(id="order-1", item="book", pieces=2, cents=4_000, card="good", address="1 Main Street")
_DECLINED = Order(id="order-2", item="book", pieces=5, cents=10_000, card="declined", address="2 Main Street")
_KILLED = Order(id="order-3", item="book", pieces=1, cents=2_000, card="slow", address="3 Main Street")
ORDERS = (_COMPLETES, _DECLINED, _KILLED)
EXPECTED = {"order-1": "completed", "order-2": "compensated", "order-3": "completed"}
_TABLES = {
    "stock": "SELECT item, pieces FROM stock ORDER BY item",
    "reservations": "SELECT order_id, item, pieces FROM reservations ORDER BY order_id",
    "payments": "SELECT order_id, cents FROM payments ORDER BY order_id",
    "refunds": "SELECT order_id, cents FROM payments WHERE refunded ORDER BY order_id",
    "deliveries": "SELECT order_id, address FROM deliveries ORDER BY order_id",
}
_FORMS = {
    "stock": "{pieces} x {item}",
    "reservations": "{pieces} x {item} for {order_id}",
    "payments": "{cents} cents for {order_id}",
    "refunds": "{cents} cents for {order_id}",
    "deliveries": "{order_id} to {address}",
}
_PATIENCE = 30.0
_LOOK = 0.05

Tables = dict[str, list[dict[str, object]]]


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to hold at the end."""

    what: str
    expected: object
    found: object

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.expected == self.found


class _Demo:
    """The directory, the two databases in it, and the service.

    Args:
        folder: Where.
        out: Where to tell the story; a quiet console for none.
    """

    def __init__(self, folder: Path, out: Console) -> None:
        self.journal = f"sqlite:///{(folder / 'journal.db').as_posix()}"
        self.shop = folder / "shop.db"
        self.out = out
        self.signal = 0
        # The very package that runs here, whatever the current directory holds.
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._environment = {**os.environ, "SHOP_DATABASE": str(self.shop), "PYTHONPATH": path}

    def play(self) -> dict[str, object]:
        """Runs the three acts.

        Returns:
            The report: what happened, and whether the end is right.
        """
        began = time.monotonic()
        open_shop(self.shop, stock=_STOCK)
        tables = {"before": self._tables()}
        self._say("A shop: stock, bank and courier share no transaction. Each order is a saga over all three.")
        self._show_tables("Before", tables["before"])
        with self._service() as service:
            self._tell("1. An order that completes.", "order-1", service)
            self._tell("2. The bank declines the card: what was reserved is put back.", "order-2", service)
            pid, tables["after the kill"] = self._kill(service)
        with self._service() as service:
            self._tell(
                "A new process finds the order in the journal, asks the bank whether it has paid, and goes on:",
                "order-3",
                service,
            )
        tables["after"] = self._tables()
        self._show_tables("After", tables["after"])
        views = {order.id: self._view(order.id) for order in ORDERS}
        checks = list(_checks(views, tables["after"]))
        seconds = time.monotonic() - began
        self._conclude(checks, seconds)
        return {
            "ok": all(check.holds for check in checks),
            "seconds": round(seconds, 3),
            "killed": {"pid": pid, "signal": self.signal, "saga": _KILLED.id, "step": "charge_card"},
            "checks": [{**asdict(check), "holds": check.holds} for check in checks],
            "tables": tables,
            "sagas": list(views.values()),
        }

    def _service(self) -> _Service:
        """Starts the shop's service: a process of its own."""
        return _Service([sys.executable, "-P", "-m", "sagas.cli.demo_service", self.journal], self._environment)

    def _kill(self, service: _Service) -> tuple[int, Tables]:
        """Kills the service while the bank's answer to the third order is under way."""
        self._say("3. The process is killed while it waits for the bank: the money has moved, nobody heard of it.")
        service.wait_until(lambda: any(row["order_id"] == _KILLED.id for row in self._tables()["payments"]))
        self.signal = -service.kill()
        self._say(
            f"Process {service.pid} got SIGKILL. This is what it leaves in the journal, which knows of no payment:"
        )
        self._show(*render_saga(self._view(_KILLED.id)))
        tables = self._tables()
        self._show_tables("Then", tables)
        return service.pid, tables

    def _tell(self, what: str, saga_id: str, service: _Service) -> None:
        """Waits for a saga's end and tells its story."""
        self._say(what)
        service.wait_until(lambda: self._ended(saga_id))
        self._show(*render_saga(self._view(saga_id)))

    def _ended(self, saga_id: str) -> bool:
        """Looks whether a saga has ended, from the outside."""
        try:
            return self._view(saga_id).ended_at is not None
        except SagaError:  # the service has not created the tables, or the saga, yet
            return False

    def _view(self, saga_id: str) -> SagaView:
        """Reads a saga's journal, as ``sagas show`` does."""
        with existing_store(self.journal) as store:
            return read_view(store, saga_id)

    def _tables(self) -> Tables:
        """Reads what the business holds."""
        with closing(sqlite3.connect(self.shop)) as database:
            database.row_factory = sqlite3.Row
            return {name: [dict(row) for row in database.execute(query)] for name, query in _TABLES.items()}

    def _say(self, text: str) -> None:
        """Writes a sentence of the story."""
        self.out.print(Text(text, "bold"), soft_wrap=True)

    def _show(self, *lines: Text) -> None:
        """Writes lines, and an empty one."""
        for line in (*lines, ""):
            self.out.print(line, soft_wrap=True)

    def _show_tables(self, when: str, tables: Tables) -> None:
        """Writes what the business holds."""
        self._say(f"{when}, the business tables hold:")
        self._show(
            *(
                Text.assemble(
                    "  ", (f"{name:<14}", "dim"), "; ".join(_FORMS[name].format(**row) for row in rows) or "none"
                )
                for name, rows in tables.items()
            )
        )

    def _conclude(self, checks: list[Check], seconds: float) -> None:
        """Says whether the end is right."""
        for check in checks:
            sign = ("✓", "green") if check.holds else ("✗", "bold red")
            found = f" {check.what}: {_plain(check.found)}"
            wrong = "" if check.holds else f", not {_plain(check.expected)}"
            self.out.print(Text.assemble(sign, found, wrong), soft_wrap=True)
        self._say(f"{'All of it is right' if all(c.holds for c in checks) else 'WRONG'}, after {duration(seconds)}.")


class _Service:
    """The shop's service, as a child process that is never left behind.

    Args:
        command: What to run.
        environment: Of the process.
    """

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def kill(self) -> int:
        """Kills it, at once and without a word: SIGKILL; gives its exit code."""
        self._process.kill()
        return self._process.wait()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Looks until something holds.

        Raises:
            Problem: The service has ended, or the time is up.
        """
        until = time.monotonic() + _PATIENCE
        while not holds():
            if self._process.poll() is not None and not holds():
                said = self._process.stderr.read() if self._process.stderr is not None else ""
                raise Problem(f"the demo's process ended too early, with {self._process.returncode}: {said[-2000:]}")
            if time.monotonic() > until:
                raise Problem(f"the demo's process did not get there within {_PATIENCE:g} s; is the machine busy?")
            time.sleep(_LOOK)


def _plain(value: object) -> str:
    """Writes what a check compares for people."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        return ", ".join(map(_plain, items)) or "none"
    if isinstance(value, tuple):
        return " ".join(map(str, cast("tuple[object, ...]", value)))
    return str(value)


def _checks(views: dict[str, SagaView], tables: Tables) -> Iterator[Check]:
    """Compares the end with what the orders say it has to be."""
    done = [order for order in ORDERS if EXPECTED[order.id] == "completed"]
    ends = [(key, view.status) for key, view in views.items()]
    yield Check("the sagas' ends", list(EXPECTED.items()), ends)
    stock = {row["item"]: row["pieces"] for row in tables["stock"]}
    yield Check("books on the shelf", _STOCK["book"] - sum(order.pieces for order in done), stock["book"])
    paid = [(row["order_id"], row["cents"]) for row in tables["payments"]]
    yield Check("cards charged, each once", [(order.id, order.cents) for order in done], paid)
    yield Check("refunds", [], tables["refunds"])
    courier = [row["order_id"] for row in tables["deliveries"]]
    yield Check("couriers booked", [order.id for order in done], courier)


def run_demo(*, json: bool) -> int:
    """Plays the demo.

    Args:
        json: Whether to write a report as JSON instead of the story.

    Returns:
        The exit code: 0 only if the end is right.

    Raises:
        Problem: The child process did not do its part.
    """
    out = console()
    out.quiet = json
    with tempfile.TemporaryDirectory(prefix="sagas-demo-", ignore_cleanup_errors=True) as folder:
        report = _Demo(Path(folder), out).play()
    if json:
        print_json(report)
    return 0 if report["ok"] else 1
